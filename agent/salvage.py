"""`journal salvage`: what can still be read of a damaged journal, written to files; the journal is left as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import apsw

from agent.config import Settings
from agent.crypto.receipts import ChainBroken, compact, public_keys, read_receipt
from agent.errors import ConfigurationInvalid, JournalDamaged
from agent.model import BATCH_LINES_MAX
from agent.queue import jobs
from agent.queue.journal import Reader
from agent.queue.witness import last_seen
from agent.station import job_object

ROWS_AT_ONCE = 500
EVENT_SIZE_MIN = 512  # bytes; one with a receipt has more

T = TypeVar("T")


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
        JournalDamaged: There is no journal, or not even its tables can be found.
    """
    path = settings.journal_path
    if not path.is_file():
        raise JournalDamaged(f"{path}: there is no journal")
    try:
        # Without the checksums: a flipped byte that nobody uses costs nothing, and receipts prove themselves.
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("BEGIN")
        reader = Reader(connection)
        signers = {row["number"]: row for row in reader.rows("SELECT * FROM signers")}
    except (apsw.Error, JournalDamaged) as error:
        raise JournalDamaged(
            f"{path}: nothing can be read of it ({error.__cause__ or error}); restore a backup:"
            " `print-agent journal restore FILE`"
        ) from error
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigurationInvalid(f"{target}: {error.strerror}; name a new folder") from error
    done = Salvaged()
    seen = last_seen(path)
    likely = path.stat().st_size // EVENT_SIZE_MIN if seen is None else seen.event
    with _new_file(target / "receipts.jose-seq") as file:
        for row in _rows(reader, "events", "id", likely, done.lost):
            text = _receipt(row, signers)
            if text is not None:
                file.write(f"{text}\n")
                done.receipts += 1
            elif row["seq"] is not None:
                done.lost.append(f"receipt {row['seq']}: its signature is not good")
    found = [
        job_object(job, jobs.reasons_of(job))
        for row in _rows(reader, "jobs", "number", likely, done.lost)
        if (job := _taken(jobs.from_row, row)) is not None
    ]
    done.jobs = len(found)
    with _new_file(target / "jobs.json") as file:
        json.dump(found, file, indent=1)
    _write_messages(reader, target, likely, done)
    connection.close()
    return done


def _write_messages(reader: Reader, target: Path, likely: int, done: Salvaged) -> None:
    """In pieces that one `submit` may have."""
    file = None
    for row in _rows(reader, "documents", "rowid", likely, done.lost):
        text = _taken(lambda row: str(row["jws"], "ascii"), row)
        if text is None:
            continue
        if done.messages % BATCH_LINES_MAX == 0:
            if file is not None:
                file.close()
            number = done.messages // BATCH_LINES_MAX + 1
            file = _new_file(target / f"messages-{number}.jose-seq")
        assert file is not None
        file.write(f"{text}\n")
        done.messages += 1
    if file is not None:
        file.close()


def _rows(
    reader: Reader, table: str, key: str, likely: int, lost: list[str]
) -> Iterator[dict[str, Any]]:
    """The rows of a table that can be read; a range that cannot is halved until the bad row is alone."""

    def read(low: int, high: int) -> Iterator[dict[str, Any]]:
        sql = f"SELECT * FROM {table} WHERE {key} BETWEEN ? AND ? ORDER BY {key}"  # noqa: S608 - names of our own
        try:
            yield from list(reader.rows(sql, (low, high)))
        except (apsw.Error, JournalDamaged):
            if low == high:
                unread.append(low)
                return
            middle = (low + high) // 2
            yield from read(low, middle)
            yield from read(middle + 1, high)

    unread: list[int] = []
    try:
        last = int(reader.value(f"SELECT coalesce(max({key}), 0) FROM {table}"))  # noqa: S608 - names of our own
    except (apsw.Error, JournalDamaged):
        last = likely
    for low in range(1, last + 1, ROWS_AT_ONCE):
        yield from read(low, min(low + ROWS_AT_ONCE - 1, last))
    if unread:
        lost.append(f"{table}: {len(unread)} of its rows, {unread[0]} to {unread[-1]}")


def _receipt(row: dict[str, Any], signers: dict[int, dict[str, Any]]) -> str | None:
    """The receipt of an event, where it is the station's."""

    def proven(row: dict[str, Any]) -> str:
        signer = signers[row["signer"]]
        text = compact(signer["kid"], row["payload"], row["signature"])
        read_receipt(text, public_keys({"keys": [json.loads(signer["jwk"])]}))
        return text

    return None if row["seq"] is None else _taken(proven, row)


def _taken(read: Callable[[dict[str, Any]], T], row: dict[str, Any]) -> T | None:
    """What a row of a damaged page holds, None where it holds nonsense."""
    try:
        return read(row)
    except (ValueError, KeyError, TypeError, ChainBroken):
        return None


def _new_file(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w")
