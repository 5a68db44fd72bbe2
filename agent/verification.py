"""`journal verify`: is the chain whole, and is every table what the events say?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from agent.crypto.receipts import ChainBroken, ChainVerifier, compact, public_keys
from agent.errors import JournalDamaged
from agent.queue.journal import TABLES, Reader, damaged
from agent.queue.states import Phase, state_of

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
    """Reads the whole journal and compares; it changes nothing.

    Raises:
        JournalDamaged: It cannot be read at all.
    """
    if not path.is_file():
        raise JournalDamaged(f"{path}: there is no journal")
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.execute("BEGIN")
        return _verify(Reader(connection), station_id=station_id, authority_id=authority_id)
    except apsw.Error as error:
        raise damaged(path, error) from error


def _verify(reader: Reader, *, station_id: str, authority_id: str) -> Report:
    faults = [
        f"SQLite: {row['integrity_check']}"
        for row in reader.rows("PRAGMA integrity_check")
        if row["integrity_check"] != "ok"
    ]
    if reader.station("id") not in (None, station_id):
        faults.append(
            f"the journal belongs to station {reader.station('id')!r}, not {station_id!r}"
        )
    signers = {row["number"]: row for row in reader.rows("SELECT * FROM signers")}
    chain: ChainVerifier | None = None
    tables: dict[str, dict[Any, dict[str, Any]]] = {table: {} for table in TABLES}
    events = receipts = 0
    for row in reader.rows("SELECT * FROM events ORDER BY id"):
        events += 1
        for table, key, columns in json.loads(row["changes"]):
            if columns is None:
                tables[table].pop(key, None)
            else:
                tables[table].setdefault(key, {TABLES[table]: key}).update(columns)
        if row["seq"] is None:
            continue
        receipts += 1
        signer = signers.get(row["signer"])
        if signer is None:
            faults.append(f"receipt {row['seq']}: its signer is not known")
            continue
        if chain is None:
            keys = public_keys({"keys": [json.loads(signer["jwk"])]})
            chain = ChainVerifier(station_id, keys, authority_id=authority_id)
        try:
            claims = chain.add(compact(signer["kid"], row["payload"], row["signature"]))
        except ChainBroken as broken:
            faults.append(f"receipt {row['seq']}: {broken}")
            continue
        faults += _compare_receipt(row, claims, tables)
    for table in TABLES:
        faults += _compare_table(reader, table, tables[table])
    return Report(
        events, receipts, len(tables["jobs"]), "" if chain is None else chain.head, tuple(faults)
    )


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
