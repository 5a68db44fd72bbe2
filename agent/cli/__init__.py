"""The command line: parse, ask the station, print, exit code."""

from __future__ import annotations

from agent.cli.app import main

__all__ = ["main"]
