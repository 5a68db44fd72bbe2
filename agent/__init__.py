"""The passport-print-agent: prints passport books, none lost, none twice."""

__version__ = "0.1.0"
