"""`journal export`: a signed extract of the chain for an auditor, by job, book or period."""

from __future__ import annotations

from typing import Any

from agent.config import Settings
from agent.crypto.extract import Scope, build_extract
from agent.crypto.receipts import EVENT_KEYS_ROTATED, compact
from agent.crypto.sealed_keys import open_station_keys
from agent.errors import ConfigurationInvalid, PrintAgentError
from agent.queue.journal import Reader, open_reader

_RECEIPT = (
    "SELECT e.payload, e.signature, s.kid FROM events e JOIN signers s ON s.number = e.signer"
)


def export_extract(settings: Settings, scope: Scope, *, now: int) -> list[str]:
    """The lines of an extract; the agent may run meanwhile.

    Raises:
        PrintAgentError: No receipt belongs to the scope, or the journal or the keys cannot be used.
    """
    keys = open_station_keys(settings.keys.station, sealed=settings.keys.sealed)
    with open_reader(settings.journal_path, station_id=settings.station.id) as reader:
        ends = reader.row(*_ends(scope))
        if ends is None or ends["first"] is None:
            raise PrintAgentError("the chain says nothing about it: no receipt belongs to that")
        first, last = ends["first"], ends["last"]
        signer = keys.signer(
            str(reader.value("SELECT kid FROM signers ORDER BY number DESC LIMIT 1"))
        )
        if signer is None:
            raise ConfigurationInvalid(
                f"{settings.keys.station}: it does not hold the key that signs this journal"
            )
        return build_extract(
            signer,
            station_id=settings.station.id,
            authority_id=settings.authority.id,
            now=now,
            scope=scope,
            before=next(
                iter(_texts(reader, "WHERE e.seq < ? ORDER BY e.seq DESC LIMIT 1", first)), None
            ),
            run=_texts(reader, "WHERE e.seq BETWEEN ? AND ? ORDER BY e.seq", first, last),
            rotations=_texts(
                reader,
                "WHERE e.kind = ? AND e.seq NOT BETWEEN ? AND ? ORDER BY e.seq",
                EVENT_KEYS_ROTATED,
                first,
                last,
            ),
            head=_texts(reader, "WHERE e.seq IS NOT NULL ORDER BY e.seq DESC LIMIT 1")[0],
        )


def _ends(scope: Scope) -> tuple[str, tuple[Any, ...]]:
    """The query for the first and the last receipt that the scope holds."""
    ends = "SELECT min(seq) AS first, max(seq) AS last FROM events WHERE seq IS NOT NULL AND "
    if scope.job is not None:
        return f"{ends} job = ?", (scope.job,)
    if scope.book is not None:
        return f"{ends} json_extract(CAST(payload AS TEXT), '$.book') = ?", (scope.book,)
    return f"{ends} at >= ? AND at < ?", (scope.start, scope.end)


def _texts(reader: Reader, which: str, *bindings: Any) -> list[str]:
    return [
        compact(row["kid"], row["payload"], row["signature"])
        for row in reader.rows(f"{_RECEIPT} {which}", bindings)
    ]
