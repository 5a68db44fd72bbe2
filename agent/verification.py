"""`journal verify`: is every page what was written, is the chain whole, and is every table what the events say?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from agent.crypto.jose import decode_base64url, sha256_base64url
from agent.crypto.receipts import ChainBroken, ChainVerifier, compact, hash_of, public_keys
from agent.errors import JournalDamaged
from agent.queue.damage import DAMAGES, damaged, damaged_pages
from agent.queue.journal import TABLES, Reader, open_for_reading
from agent.queue.states import Phase, state_of
from agent.queue.witness import Seen, last_seen

FAULTS_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, and what is wrong."""

    events: int
    receipts: int
    jobs: int
    head: str
    faults: tuple[str, ...]


def verify_journal(path: Path, *, station_id: str, authority_id: str) -> Report:
    """Reads the whole journal and compares; it changes nothing, and the agent may run meanwhile.

    Raises:
        JournalDamaged: It cannot be read at all.
    """
    if not path.is_file():
        raise JournalDamaged(f"{path}: there is no journal")
    # Before the snapshot: what the witness saw must then be in it.
    seen = last_seen(path)
    faults = [f"page {number}: its checksum is wrong" for number in damaged_pages(path)]
    try:
        connection = open_for_reading(path)
        connection.execute("BEGIN")
        examination = Examination(station_id, authority_id, seen)
        faults += examination.faults(Reader(connection))
        connection.close()
    except apsw.Error as error:
        if faults and isinstance(error, DAMAGES):
            raise damaged(path, "; ".join(_first(faults))) from error
        raise damaged(path, error) from error
    return Report(
        examination.events,
        examination.receipts,
        len(examination.tables["jobs"]),
        examination.head,
        tuple(faults),
    )


def _first(faults: list[str]) -> list[str]:
    """As many as somebody reads."""
    more = len(faults) - FAULTS_SHOWN_MAX
    return faults if more <= 0 else [*faults[:FAULTS_SHOWN_MAX], f"and {more} more of the kind"]


class Examination:
    """Follows the events from the first one: what they say the tables must hold, and the chain of their receipts."""

    def __init__(self, station_id: str, authority_id: str, seen: Seen | None) -> None:
        self._station_id = station_id
        self._authority_id = authority_id
        self._seen = seen
        self._seen_hash: str | None = None
        self._chain: ChainVerifier | None = None
        self.tables: dict[str, dict[Any, dict[str, Any]]] = {table: {} for table in TABLES}
        self.events = self.receipts = 0
        self._last_event = 0

    @property
    def head(self) -> str:
        """The hash of the newest receipt, empty where there is none."""
        return "" if self._chain is None else self._chain.head

    def faults(self, reader: Reader) -> list[str]:
        """Everything that is wrong."""
        found = [
            f"SQLite: {row['integrity_check']}"
            for row in reader.rows("PRAGMA integrity_check")
            if row["integrity_check"] != "ok"
        ]
        owner = reader.station("id")
        if owner not in (None, self._station_id):
            found.append(f"the journal belongs to station {owner!r}, not {self._station_id!r}")
        signers = {row["number"]: row for row in reader.rows("SELECT * FROM signers")}
        found += _first(
            [
                fault
                for row in reader.rows("SELECT * FROM events ORDER BY id")
                for fault in self._follow(row, signers)
            ]
        )
        if self._seen is not None:
            found += self._seen.faults(
                event=self._last_event, receipt_hash=lambda _: self._seen_hash
            )
        for table in TABLES:
            found += _compare_table(reader, table, self.tables[table])
        return found + _first(list(_compare_documents(reader)))

    def _follow(self, row: dict[str, Any], signers: dict[int, dict[str, Any]]) -> Iterator[str]:
        self.events += 1
        self._last_event = row["id"]
        try:
            for table, key, columns in json.loads(row["changes"]):
                if columns is None:
                    self.tables[table].pop(key, None)
                else:
                    self.tables[table].setdefault(key, {TABLES[table]: key}).update(columns)
        except (ValueError, KeyError, TypeError):
            yield f"event {row['id']}: its changes are no changes"
            return
        if row["seq"] is not None:
            self.receipts += 1
            yield from self._follow_receipt(row, signers.get(row["signer"]))

    def _follow_receipt(self, row: dict[str, Any], signer: dict[str, Any] | None) -> Iterator[str]:
        if signer is None:
            yield f"receipt {row['seq']}: its signer is not known"
            return
        text = compact(signer["kid"], row["payload"], row["signature"])
        if self._seen is not None and row["seq"] == self._seen.seq:
            self._seen_hash = hash_of(text)
        try:
            if self._chain is None:
                keys = public_keys({"keys": [json.loads(signer["jwk"])]})
                self._chain = ChainVerifier(self._station_id, keys, authority_id=self._authority_id)
            claims = self._chain.add(text)
        except (ChainBroken, ValueError) as broken:
            yield f"receipt {row['seq']}: {broken}"
            return
        yield from _compare_receipt(row, claims, self.tables)


def _compare_receipt(
    row: dict[str, Any], claims: dict[str, Any], tables: dict[str, dict[Any, dict[str, Any]]]
) -> list[str]:
    if (
        claims["seq"] != row["seq"]
        or claims["event"] != row["kind"]
        or claims.get("job") != row["job"]
    ):
        return [f"receipt {row['seq']}: its event says another seq, kind or job"]
    if row["job"] is None or "state" not in claims:
        return []
    for changed in json.loads(row["changes"]):
        if changed[0] == "jobs" and changed[2] is not None and "phase" in changed[2]:
            phase = tables["jobs"][changed[1]]["phase"]
            if state_of(Phase(phase)).value != claims["state"]:
                return [f"receipt {row['seq']}: it says {claims['state']}, its event {phase}"]
    return []


def _compare_table(reader: Reader, table: str, expected: dict[Any, dict[str, Any]]) -> list[str]:
    faults = []
    key = TABLES[table]
    seen = set()
    for row in reader.rows(f"SELECT * FROM {table}"):  # noqa: S608 - names of our own
        seen.add(row[key])
        told = expected.get(row[key])
        if told is None:
            faults.append(f"table {table}: row {row[key]!r} is in no event")
        elif any(row[column] != value for column, value in told.items()):
            wrong = [column for column, value in told.items() if row[column] != value]
            faults.append(
                f"table {table}: row {row[key]!r} is not what the events say ({', '.join(wrong)})"
            )
    faults += [f"table {table}: row {missing!r} is missing" for missing in expected.keys() - seen]
    return faults[:FAULTS_SHOWN_MAX]


def _compare_documents(reader: Reader) -> Iterator[str]:
    """The messages that are kept for printing are the ones that were accepted."""
    rows = reader.rows(
        "SELECT j.id, j.erased, m.sha256, d.jws FROM jobs j JOIN messages m ON m.jti = j.id"
        " LEFT JOIN documents d ON d.job = j.id"
    )
    for row in rows:
        if row["jws"] is None:
            if not row["erased"]:
                yield f"job {row['id']}: its document is missing"
        elif sha256_base64url(_payload(row["jws"])) != row["sha256"]:
            yield f"job {row['id']}: its document is not the one that was accepted"


def _payload(message: bytes) -> bytes:
    try:
        return decode_base64url(message.split(b".")[1])
    except (IndexError, ValueError):
        return b""
