"""Schema versions of the journal, forward only; schema.sql is always the newest version whole."""

from __future__ import annotations

from collections.abc import Mapping

SCHEMA_VERSION = 1

# Key: the version that the script leads to, from the one before.
MIGRATIONS: Mapping[int, str] = {}
