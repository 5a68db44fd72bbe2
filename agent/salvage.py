"""`journal salvage`: what can still be read of a damaged journal, written to files; the journal is left as it is."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import apsw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.config import Settings
from agent.crypto.receipts import ChainBroken, compact, public_keys, read_receipt
from agent.crypto.sealed_keys import open_station_keys
from agent.errors import ConfigurationInvalid, JournalDamaged
from agent.queue import jobs
from agent.queue.journal import Reader
from agent.queue.witness import last_seen
from agent.station import job_object

ROWS_AT_ONCE = 500
EVENT_SIZE_MIN = 512  # bytes; one with a receipt has more
MESSAGES_IN_A_FILE = 500  # some 25 MB, which one `submit` takes


@dataclass(slots=True)
class Salvaged:
    """What was written, and what could not be read.

    Attributes:
        receipts: How many are in ``receipts.jose-seq``, each with a good signature.
        jobs: How many are in ``jobs.json``.
        messages: How many authorizations are in ``messages-*.jose-seq``, as they came.
        lost: Pieces that could not be read, one sentence each.
    """

    receipts: int = 0
    jobs: int = 0
    messages: int = 0
    lost: list[str] = field(default_factory=list)


def salvage_journal(settings: Settings, target: Path) -> Salvaged:
    """Writes receipts, jobs and authorizations to a new folder.

    Raises:
        ConfigurationInvalid: The folder exists, or cannot be made.
        JournalDamaged: There is no journal, or not even its list of tables can be read.
    """
    path = settings.journal_path
    reader = _open(path)
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigurationInvalid(f"{target}: {error.strerror}; name a new folder") from error
    seen = last_seen(path)
    likely = path.stat().st_size // EVENT_SIZE_MIN if seen is None else seen.event
    done = Salvaged()
    with _new_file(target / "receipts.jose-seq") as file:
        keys = _keys(reader, settings)
        for row in _rows(reader, "events", "id", likely, done.lost):
            if row["seq"] is not None:
                done.receipts += _write_receipt(file, row, keys, done.lost)
    with _new_file(target / "jobs.json") as file:
        rows = _rows(reader, "jobs", "number", likely, done.lost)
        found = [job for row in rows if (job := _job(row, done.lost)) is not None]
        done.jobs = len(found)
        json.dump(found, file, indent=1)
    documents = _rows(reader, "documents", "rowid", likely, done.lost)
    while batch := list(islice(documents, MESSAGES_IN_A_FILE)):
        number = done.messages // MESSAGES_IN_A_FILE + 1
        with _new_file(target / f"messages-{number}.jose-seq") as file:
            file.writelines(f"{str(row['jws'], 'ascii', 'replace')}\n" for row in batch)
        done.messages += len(batch)
    reader.close()
    return done


def _open(path: Path) -> Reader:
    """Without the checksums: a flipped byte that nobody uses costs nothing, and receipts prove themselves."""
    if not path.is_file():
        raise JournalDamaged(f"{path}: there is no journal")
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.execute("PRAGMA cell_size_check=ON")
        # A table whose definition cannot be parsed does not hide the others.
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("BEGIN")
        reader = Reader(connection)
        reader.value("SELECT count(*) FROM sqlite_schema")
    except apsw.Error as error:
        raise JournalDamaged(
            f"{path}: nothing can be read of it ({error}); restore a backup: `print-agent journal restore FILE`"
        ) from error
    return reader


def _rows(
    reader: Reader, table: str, key: str, likely: int, lost: list[str]
) -> Iterator[dict[str, Any]]:
    """The rows of a table that can be read; a range that cannot is halved until the bad row is alone."""

    def read(low: int, high: int) -> Iterator[dict[str, Any]]:
        sql = f"SELECT * FROM {table} WHERE {key} BETWEEN ? AND ? ORDER BY {key}"  # noqa: S608 - names of our own
        try:
            yield from list(reader.rows(sql, (low, high)))
        except apsw.Error:
            if low == high:
                unread.append(low)
                return
            middle = (low + high) // 2
            yield from read(low, middle)
            yield from read(middle + 1, high)

    unread: list[int] = []
    try:
        last = int(reader.value(f"SELECT coalesce(max({key}), 0) FROM {table}"))  # noqa: S608 - names of our own
    except apsw.Error:
        last = likely
    for low in range(1, last + 1, ROWS_AT_ONCE):
        yield from read(low, min(low + ROWS_AT_ONCE - 1, last))
    if unread:
        lost.append(f"{table}: {len(unread)} of its rows, {unread[0]} to {unread[-1]}")


def _keys(reader: Reader, settings: Settings) -> dict[str, Ed25519PublicKey]:
    """The keys that may have signed receipts: those of the journal, and those of today."""
    keys: dict[str, Ed25519PublicKey] = {}
    with contextlib.suppress(ConfigurationInvalid):
        held = open_station_keys(settings.keys.station, sealed=settings.keys.sealed)
        keys |= public_keys(held.public_jwks())
    with contextlib.suppress(apsw.Error, ValueError):
        for row in reader.rows("SELECT jwk FROM signers"):
            keys |= public_keys({"keys": [json.loads(row["jwk"])]})
    return keys


def _write_receipt(
    file: TextIO, row: dict[str, Any], keys: Mapping[str, Ed25519PublicKey], lost: list[str]
) -> bool:
    """Writes the receipt of an event where one of these keys has signed it; tells whether it did."""
    for kid in keys:
        with contextlib.suppress(ChainBroken, ValueError, TypeError):
            text = compact(kid, row["payload"], row["signature"])
            read_receipt(text, keys)
            file.write(f"{text}\n")
            return True
    lost.append(f"receipt {row['seq']}: its signature is not good")
    return False


def _job(row: dict[str, Any], lost: list[str]) -> dict[str, Any] | None:
    try:
        job = jobs.from_row(row)
        return job_object(job, jobs.reasons_of(job))
    except (ValueError, KeyError, TypeError):
        lost.append(f"job {row['number']}: its row makes no sense")
        return None


def _new_file(path: Path) -> TextIO:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w")
