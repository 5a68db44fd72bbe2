"""A witness beside the journal: how far it was written, so that a past put in its place is seen at the start.

A write-ahead log that was deleted, cut or bent looks to SQLite like one that ended earlier, and a deleted
journal like a new station. The witness is written after each durable commit and not synced then (that
would cost a second fsync): after a power cut it may be older than the journal, and it is never newer.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw

from agent.queue.damage import damaged
from agent.queue.journal import Journal, Reader, Recorded, open_for_reading

_RECORD_SIZE = 240  # bytes; a record has some 120, and overwrites the one before within a sector


@dataclass(frozen=True, slots=True)
class Seen:
    """What the witness saw last.

    Attributes:
        event: The newest event's id.
        seq: The newest receipt's.
        head: Its hash.
        running: Whether the journal was open: what was written last may lie in its write-ahead log only.
    """

    event: int
    seq: int
    head: str
    running: bool

    def faults(self, *, event: int, receipt_hash: Callable[[int], str | None]) -> list[str]:
        """What is wrong with a journal whose newest event is ``event``; empty where all is in it."""
        if event < self.event:
            return [f"it ends at event {event}, and {self.event} were written: the newest are lost"]
        if self.seq and receipt_hash(self.seq) != self.head:
            return [f"receipt {self.seq} is not the one that was written: this is another journal"]
        return []


def witness_path(journal: Path) -> Path:
    """Where the witness of a journal lies."""
    return journal.with_name(f"{journal.name}.witness")


def last_seen(journal: Path) -> Seen | None:
    """What the witness of this journal says; None where there is none, or one that cannot be believed."""
    try:
        checksum, _, record = witness_path(journal).read_bytes().partition(b" ")
        if int(checksum, 16) != zlib.crc32(record):
            return None
        return Seen(**json.loads(record))
    except (OSError, ValueError, TypeError):
        return None


def check(journal: Path, hash_of_signed: Callable[[str, bytes, bytes], str]) -> None:
    """Compares a journal with what its witness saw, before it is opened to be written.

    SQLite would make missing files anew, and merge what is left of a log into the journal.

    Args:
        journal: Its main file.
        hash_of_signed: A receipt's hash, of its key's id, payload and signature.

    Raises:
        JournalDamaged: Files are missing, durable commits are gone, or it is another journal.
    """
    seen = last_seen(journal)
    if seen is None:
        return
    if not journal.is_file() or not journal.stat().st_size:
        raise damaged(journal, f"it is missing or empty, and {seen.event} events were written")
    log = journal.with_name(f"{journal.name}-wal")
    if seen.running and not log.exists():
        raise damaged(
            journal,
            f"{log.name} is missing, and the newest events may have been in it; put it back if you have it",
        )
    try:
        connection = open_for_reading(journal)
        found = _faults(Reader(connection), seen, hash_of_signed)
        connection.close()
    except apsw.Error as error:
        raise damaged(journal, error) from error
    if found:
        raise damaged(journal, found[0])


def _faults(
    reader: Reader, seen: Seen, hash_of_signed: Callable[[str, bytes, bytes], str]
) -> list[str]:
    def receipt_hash(seq: int) -> str | None:
        row = reader.row(
            "SELECT s.kid, e.payload, e.signature FROM events e JOIN signers s ON s.number = e.signer WHERE e.seq = ?",
            (seq,),
        )
        return None if row is None else hash_of_signed(row["kid"], row["payload"], row["signature"])

    last = int(reader.value("SELECT coalesce(max(id), 0) FROM events"))
    return seen.faults(event=last, receipt_hash=receipt_hash)


class Witness:
    """Follows the open journal.

    Args:
        journal: Its first commit of this start is behind it, so that its log exists.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._event = int(journal.read().value("SELECT coalesce(max(id), 0) FROM events"))
        path = witness_path(Path(journal.path))
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._write(running=True)
        os.fsync(self._descriptor)
        journal.listen(self._record)

    def _record(self, recorded: Sequence[Recorded]) -> None:
        self._event = recorded[-1].id
        self._write(running=True)

    def _write(self, *, running: bool) -> bool:
        head = self._journal.head
        seen = Seen(self._event, head.seq, head.hash, running)
        # A full disk must not stop what the journal itself has room for; the record is older then.
        with contextlib.suppress(OSError):
            record = json.dumps(asdict(seen)).encode().ljust(_RECORD_SIZE) + b"\n"
            os.pwrite(self._descriptor, b"%08x %b" % (zlib.crc32(record), record), 0)
            return True
        return False

    def close(self) -> None:
        """The journal is about to be closed: its log may go."""
        if not self._write(running=False):
            # It still says that the log is needed: the log must stay, or the next start would miss it.
            self._journal.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        os.fsync(self._descriptor)
        os.close(self._descriptor)
