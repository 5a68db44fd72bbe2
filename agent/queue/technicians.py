"""Who may act as a technician: their bearer tokens, kept as hashes (CONTRACT section 5)."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from agent.errors import RequestRefused
from agent.queue.journal import Reader, Transaction


def new_token() -> str:
    """A fresh bearer token, shown to its owner once."""
    return secrets.token_urlsafe(32)


def listed(reader: Reader) -> list[dict[str, Any]]:
    """Who has a token: ``name``, ``added_at`` (seconds)."""
    return list(
        reader.rows("SELECT name, added_at FROM technicians WHERE token IS NOT NULL ORDER BY name")
    )


def add(tx: Transaction, *, name: str, token: str, actor: str) -> None:
    """Gives a technician this token; an earlier one of that name ends."""
    tx.put("technicians", name, token=_hash(token), added_at=tx.now)
    tx.receipt("technician-added", actor=actor, evidence={"name": name})


def remove(tx: Transaction, *, name: str, actor: str) -> None:
    """Ends a technician's token.

    Raises:
        RequestRefused: 404 ``unknown-technician``.
    """
    row = tx.get("technicians", name)
    if row is None:
        raise RequestRefused(404, "unknown-technician", f"there is no technician {name!r}")
    if row["token"] is not None:
        tx.put("technicians", name, token=None)
        tx.receipt("technician-removed", actor=actor, evidence={"name": name})


def of_token(reader: Reader, token: str) -> str | None:
    """Whose bearer token it is."""
    name = reader.value("SELECT name FROM technicians WHERE token = ?", (_hash(token),))
    return None if name is None else str(name)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
