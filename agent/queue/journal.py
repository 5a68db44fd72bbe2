"""The journal: SQLite, one append-only table of events, everything else its projection.

A change is made by an operation that gets a ``Transaction``; it puts rows and ends with ``note`` or
``receipt``, which journal the rows it put (and the signed receipt) as one event. Several operations may
share one durable commit, each in a savepoint of its own. WAL with ``synchronous=FULL`` (docs/adr/0002).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw

from agent.clock import Clock
from agent.errors import DiskFull, JournalDamaged
from agent.model import TECHNICIAN
from agent.queue.damage import CHECKSUM_SIZE, DAMAGES, PAGE_SIZE, checked_vfs, damaged
from agent.queue.known_time import KnownTime
from agent.queue.migrations import MIGRATIONS, SCHEMA_VERSION

APPLICATION_ID = 0x70704167  # "ppAg"
BUSY_TIMEOUT_MS = 5_000
COPY_BYTES = 65_536  # at once: SQLite's own file layer writes less than 128 KiB a call
CHECKPOINT_PAGES = 1_000  # pages in the WAL before a checkpoint is worth it

# The projection tables and the column that keys them.
TABLES: Mapping[str, str] = {
    "jobs": "number",
    "books": "id",
    "attempts": "id",
    "messages": "seq",
    "kept": "id",
    "gaps": "first",
    "printers": "name",
    "counters": "serial",
    "technicians": "name",
    "station": "key",
    "signers": "number",
}


class ReceiptSigner(Protocol):
    """Who signs the chain (crypto/receipts); the journal knows only this much of keys."""

    @property
    def kid(self) -> str:
        """The signing key's id."""
        ...

    def public_jwk(self) -> dict[str, Any]:
        """The public half of the signing key."""
        ...

    def sign(self, claims: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """The payload's bytes and their signature."""
        ...

    def text(self, kid: str, payload: bytes, signature: bytes) -> str:
        """The compact serialization."""
        ...

    def hash_of(self, text: str) -> str:
        """What the next receipt's ``prev`` says of this one."""
        ...

    def first_prev(self, station_id: str) -> str:
        """The ``prev`` of a chain's first receipt."""
        ...


T = TypeVar("T")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event as the listeners get it after its commit was durable."""

    id: int
    kind: str
    job: str | None
    seq: int | None


@dataclass(slots=True)
class _Head:
    """The end of the receipt chain."""

    seq: int
    hash: str


class Reader:
    """Questions to one connection; rows are dicts of column to value."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def rows(self, sql: str, bindings: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows of a SELECT."""
        cursor = self._connection.execute(sql, tuple(bindings))
        try:
            names = [column[0] for column in cursor.get_description()]
        except apsw.ExecutionCompleteError:
            return
        for values in cursor:
            yield dict(zip(names, values, strict=True))

    def row(self, sql: str, bindings: Sequence[Any] = ()) -> Row | None:
        """The first row, or None."""
        for row in self.rows(sql, bindings):
            return row
        return None

    def value(self, sql: str, bindings: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.row(sql, bindings)
        return None if row is None else next(iter(row.values()))

    def get(self, table: str, key: Any) -> Row | None:
        """One row of a projection table by its key."""
        return self.row(f"SELECT * FROM {table} WHERE {TABLES[table]} = ?", (key,))  # noqa: S608 - names of our own

    def station(self, key: str, default: Any = None) -> Any:
        """One value of the station's own settings, e.g. ``retired``."""
        row = self.get("station", key)
        return default if row is None else row["value"]


class Transaction(Reader):
    """What an operation may do; every put must be journaled by ``note`` or ``receipt`` before it ends.

    Attributes:
        now: The wall clock, taken once for the operation.
        clock_trusted: Whether that clock may date and expire things (CONTRACT section 7).
        second: The technician who confirmed what another one does; stands in the evidence of that one's receipts.
    """

    def __init__(self, journal: Journal, now: int) -> None:
        super().__init__(journal.connection)
        self._journal = journal
        self._changes: list[list[Any]] = []
        self.recorded: list[Recorded] = []
        self.now = now
        self.second: str | None = None

    @property
    def clock_trusted(self) -> bool:
        return self._journal.known_time.trusted(self.now)

    @property
    def time_for_expiry(self) -> int:
        """The time against which windows are held: the clock, or the known time while that one is untrusted."""
        known = self._journal.known_time.known
        return self.now if self.clock_trusted or known is None else known

    def put(self, table: str, key: Any, **columns: Any) -> None:
        """Inserts or updates one row of a projection table."""
        name = TABLES[table]
        updates = ", ".join(f"{column} = ?" for column in columns)
        sql = f"UPDATE {table} SET {updates} WHERE {name} = ?"  # noqa: S608 - names of our own
        self._connection.execute(sql, (*columns.values(), key))
        if not self._connection.changes():
            names = ", ".join([name, *columns])
            marks = ", ".join("?" * (len(columns) + 1))
            sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - names of our own
            self._connection.execute(sql, (key, *columns.values()))
        self._changes.append([table, key, columns])

    def drop(self, table: str, key: Any) -> None:
        """Removes one row of a projection table."""
        sql = f"DELETE FROM {table} WHERE {TABLES[table]} = ?"  # noqa: S608 - names of our own
        self._connection.execute(sql, (key,))
        self._changes.append([table, key, None])

    def keep_document(self, job: str, jws: bytes) -> None:
        """Keeps an authorization as it came, in the one table of content that is no projection."""
        self._connection.execute("INSERT INTO documents (job, jws) VALUES (?, ?)", (job, jws))

    def erase_document(self, job: str) -> None:
        """Erases it; ``secure_delete`` clears its pages, and the next checkpoint what the WAL holds of it."""
        self._connection.execute("DELETE FROM documents WHERE job = ?", (job,))
        self._journal.wal_holds_erased = True

    def next_key(self, table: str) -> int:
        """The key after the greatest one of a table with integer keys."""
        name = TABLES[table]
        return int(self.value(f"SELECT coalesce(max({name}), 0) + 1 FROM {table}"))  # noqa: S608 - names of our own

    def note(self, kind: str, *, job: str | None = None) -> None:
        """Journals the rows put so far as one event without a receipt."""
        self._insert_event(kind, job, None, None, None, None)

    def receipt(
        self,
        event: str,
        *,
        actor: str,
        job: str | None = None,
        state: str | None = None,
        reasons: Sequence[str] | None = None,
        book: str | None = None,
        evidence: Mapping[str, Any] | None = None,
        note: str | None = None,
        seq: int | None = None,
    ) -> int:
        """Journals the rows put so far with a signed receipt (CONTRACT section 3.4); gives its ``seq``.

        ``seq`` is given only for ``journal-resumed``, the one receipt that may jump.
        """
        journal = self._journal
        full = dict(evidence or {})
        if self.second is not None and actor.startswith(TECHNICIAN):
            full["second"] = self.second
        if not self.clock_trusted:
            full["clock"] = "untrusted"
        number = journal.head.seq + 1 if seq is None else seq
        claims: Row = {
            "iss": journal.station_id,
            "aud": journal.authority_id,
            "seq": number,
            "prev": journal.head.hash,
            "iat": self.now,
            "event": event,
            "job": job,
            "state": state,
            "reasons": list(reasons) if reasons else None,
            "book": book,
            "actor": actor,
            "evidence": full or None,
            "note": note,
        }
        payload, signature = journal.signer.sign(
            {name: value for name, value in claims.items() if value is not None}
        )
        self._insert_event(event, job, number, payload, signature, journal.signer_number)
        journal.head.seq = number
        journal.head.hash = journal.signer.hash_of(
            journal.signer.text(journal.signer.kid, payload, signature)
        )
        if self.clock_trusted:
            self.advance_known_time(self.now)
        return number

    def note_if_changed(self, kind: str, *, job: str | None = None) -> None:
        """Like ``note``, where nothing may have been put."""
        if self._changes:
            self.note(kind, job=job)

    @property
    def last_receipt_seq(self) -> int:
        """The ``seq`` at the end of the chain."""
        return self._journal.head.seq

    @property
    def next_receipt_seq(self) -> int:
        """The ``seq`` that the next receipt gets."""
        return self._journal.head.seq + 1

    def journal_hash(self, seq: int) -> str | None:
        """The hash of the receipt of that ``seq``, or None where the chain has none."""
        return self._journal.receipt_hash(self, seq)

    def receipt_of_hash(self, receipt_hash: str) -> int | None:
        """The ``seq`` of the receipt with that hash, or None where the chain has none; it reads the chain back to there."""
        return self._journal.receipt_of_hash(self, receipt_hash)

    def advance_known_time(self, moment: int) -> None:
        """Moves the known time forward, never back."""
        if self._journal.known_time.advance(moment):
            self._connection.execute("UPDATE known_time SET value = ?", (moment,))

    def _insert_event(
        self,
        kind: str,
        job: str | None,
        seq: int | None,
        payload: bytes | None,
        signature: bytes | None,
        signer: int | None,
    ) -> None:
        changes = json.dumps(self._changes, separators=(",", ":"), ensure_ascii=False)
        self._connection.execute(
            "INSERT INTO events (at, kind, job, changes, seq, payload, signature, signer) VALUES (?,?,?,?,?,?,?,?)",
            (self.now, kind, job, changes, seq, payload, signature, signer),
        )
        self._changes.clear()
        self.recorded.append(Recorded(self._connection.last_insert_rowid(), kind, job, seq))

    def finish(self) -> None:
        """Called by the journal: an operation that forgot to journal its puts is a bug."""
        if self._changes:
            raise AssertionError(
                f"rows were put without an event: {[change[0] for change in self._changes]}"
            )


Operation = Callable[[Transaction], T]


class Journal:
    """The open journal of one station; one thread writes at a time (``group_commit`` sees to it).

    Args:
        connection: An apsw connection that ``open_connection`` prepared.
        signer: Signs every receipt.
        station_id: ``iss`` of the receipts.
        authority_id: ``aud`` of the receipts.
        clock: Where the time of an operation comes from.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        path: str,
        signer: ReceiptSigner,
        station_id: str,
        authority_id: str,
        clock: Clock,
        vfs: str,
    ) -> None:
        self.connection = connection
        self.path = path
        self.vfs = vfs
        self.signer = signer
        self.station_id = station_id
        self.authority_id = authority_id
        self.clock = clock
        self._readers = threading.local()
        self._listeners: list[Callable[[Sequence[Recorded]], None]] = []
        reader = Reader(connection)
        check_owner(reader, path, station_id=station_id)
        self.head = self._read_head(reader)
        self.known_time = KnownTime(reader.value("SELECT value FROM known_time"))
        self.known_time.started(clock.now(), clock.monotonic())
        self.signer_number = self._find_signer(reader)
        # What the last process erased may still stand in its WAL.
        self.wal_holds_erased = True

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        signer: ReceiptSigner,
        station_id: str,
        authority_id: str,
        clock: Clock,
        vfs: str | None = None,
    ) -> Journal:
        """Opens or creates the journal, checks it and migrates its schema.

        Without ``vfs`` its pages carry checksums; a simulated disk brings a VFS of its own.

        Raises:
            JournalDamaged: It cannot be read, or belongs to another station.
            DiskFull: There was no room to create it.
        """
        vfs = checked_vfs() if vfs is None else vfs
        connection = open_connection(path, vfs=vfs)
        try:
            return cls(
                connection,
                path=str(path),
                signer=signer,
                station_id=station_id,
                authority_id=authority_id,
                clock=clock,
                vfs=vfs,
            )
        except DAMAGES as error:
            _leave(connection)
            raise damaged(path, error) from error
        except JournalDamaged:
            _leave(connection)
            raise

    def write(self, operation: Operation[T]) -> T:
        """Runs one operation in one durable commit; an exception of it rolls everything back."""
        outcome = self.write_many([operation])[0]
        if isinstance(outcome, BaseException):
            raise outcome
        result: T = outcome
        return result

    def write_many(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Runs operations in one durable commit, each in a savepoint; gives results or the exceptions of domain code.

        Raises:
            apsw.IOError: The commit's sync failed, or a read; the process must end and recover from disk
                (a failed fsync is never retried).
        """
        before = (self.head.seq, self.head.hash, self.known_time.known)
        now = self._time()
        results: list[Any] = []
        recorded: list[Recorded] = []
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            results.extend(self._run(operation, now, recorded) for operation in operations)
            self.connection.execute("COMMIT")
        except apsw.FullError:
            self._roll_back(before)
            return [DiskFull("the disk is full: nothing was written; free some room")] * len(
                operations
            )
        except BaseException:
            self._roll_back(before)
            raise
        if recorded:
            for listener in self._listeners:
                listener(recorded)
        return results

    def _run(self, operation: Operation[Any], now: int, recorded: list[Recorded]) -> Any:
        before = (self.head.seq, self.head.hash, self.known_time.known)
        transaction = Transaction(self, now)
        self.connection.execute("SAVEPOINT operation")
        try:
            result = operation(transaction)
            transaction.finish()
        except (apsw.FullError, apsw.IOError, apsw.CorruptError, apsw.NotADBError):
            raise
        except Exception as error:  # noqa: BLE001 - the caller of this operation gets it; the others go on
            self.connection.execute("ROLLBACK TO operation")
            self.connection.execute("RELEASE operation")
            self._restore(before)
            return error
        self.connection.execute("RELEASE operation")
        recorded.extend(transaction.recorded)
        return result

    def _restore(self, before: tuple[int, str, int | None]) -> None:
        self.head.seq, self.head.hash, self.known_time.known = before

    def _roll_back(self, before: tuple[int, str, int | None]) -> None:
        self._restore(before)
        # SQLite has rolled back by itself on some errors (a full disk); a second one would fail.
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def _time(self) -> int:
        now = self.clock.now()
        self.known_time.observe(now, self.clock.monotonic())
        return now

    def read(self) -> Reader:
        """A reader for this thread; it sees what was durable when its question began."""
        reader = getattr(self._readers, "reader", None)
        if reader is None:
            reader = self._readers.reader = Reader(open_for_reading(self.path, vfs=self.vfs))
        return reader

    def clock_trusted(self) -> bool:
        """Whether the clock may be believed now."""
        return self.known_time.trusted(self._time())

    def clock_doubt(self) -> str | None:
        """Why the clock may not be believed now, for a person; None where nothing is against it."""
        return self.known_time.doubt(self._time())

    def time_for_expiry(self) -> int:
        """The clock, or the known time while the clock is not trusted."""
        now = self._time()
        known = self.known_time.known
        return now if self.known_time.trusted(now) or known is None else known

    def listen(self, listener: Callable[[Sequence[Recorded]], None]) -> None:
        """Calls ``listener`` with the events of each durable commit, in the writing thread."""
        self._listeners.append(listener)

    def checkpoint(self) -> bool:
        """Copies the WAL into the database, apart from commits that someone waits for; tells whether nothing is left to do.

        A WAL that holds erased documents is cut to nothing, as soon as no reader looks at it any more.
        """
        erased = self.wal_holds_erased
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if erased else apsw.SQLITE_CHECKPOINT_PASSIVE
        self.connection.set_busy_timeout(0)
        try:
            self.connection.wal_checkpoint(mode=mode)
        except (apsw.FullError, apsw.BusyError):
            # The WAL stays as it is: nothing is lost, and the next checkpoint may fit.
            return not erased
        finally:
            self.connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        self.wal_holds_erased = False
        return True

    def receipt_text(self, row: Row) -> str:
        """The compact serialization of an event's receipt (columns payload, signature, kid)."""
        return self.signer.text(row["kid"], row["payload"], row["signature"])

    def receipts_after(self, reader: Reader, after: int, limit: int) -> Iterator[tuple[int, str]]:
        """Pairs of ``seq`` and compact receipt, in order."""
        rows = reader.rows(
            "SELECT e.seq, e.payload, e.signature, s.kid FROM events e JOIN signers s ON s.number = e.signer"
            " WHERE e.seq > ? ORDER BY e.seq LIMIT ?",
            (after, limit),
        )
        for row in rows:
            yield row["seq"], self.receipt_text(row)

    def durable_head(self, reader: Reader) -> tuple[int, str]:
        """``seq`` and hash at the end of the chain that is durable."""
        head = self._read_head(reader)
        return head.seq, head.hash

    def receipt_hash(self, reader: Reader, seq: int) -> str | None:
        """The hash of the receipt of that ``seq``, or None where the chain has none; the chain's start has ``seq`` 0."""
        if seq == 0:
            return self.signer.first_prev(self.station_id)
        for found, text in self.receipts_after(reader, seq - 1, 1):
            if found == seq:
                return self.signer.hash_of(text)
        return None

    def receipt_of_hash(self, reader: Reader, receipt_hash: str) -> int | None:
        """The ``seq`` of the receipt with that hash, or None where the chain has none; the chain's start has ``seq`` 0."""
        if receipt_hash == self.head.hash:
            return self.head.seq
        # Each receipt names the one before it.
        next_seq = reader.value(
            "SELECT seq FROM events WHERE seq IS NOT NULL AND CAST(payload AS TEXT) ->> 'prev' = ?"
            " ORDER BY seq DESC LIMIT 1",
            (receipt_hash,),
        )
        if next_seq is None:
            return None
        before = reader.value("SELECT max(seq) FROM events WHERE seq < ?", (next_seq,))
        return 0 if before is None else int(before)

    def close(self) -> None:
        """Closes the writing connection and this thread's reader; the last to close takes the log with it."""
        reader = getattr(self._readers, "reader", None)
        if reader is not None:
            reader.close()
        self.connection.close()

    def _read_head(self, reader: Reader) -> _Head:
        row = reader.row(
            "SELECT e.seq, e.payload, e.signature, s.kid FROM events e JOIN signers s ON s.number = e.signer"
            " WHERE e.seq IS NOT NULL ORDER BY e.seq DESC LIMIT 1"
        )
        if row is None:
            return _Head(0, self.signer.first_prev(self.station_id))
        return _Head(row["seq"], self.signer.hash_of(self.receipt_text(row)))

    def _find_signer(self, reader: Reader) -> int:
        number = reader.value("SELECT number FROM signers WHERE kid = ?", (self.signer.kid,))
        return 0 if number is None else int(number)

    def use_signer(self, signer: ReceiptSigner) -> None:
        """From the next receipt on, this registered signer counts (a new journal, or after ``keys-rotated``)."""
        self.signer = signer
        self.signer_number = self._find_signer(Reader(self.connection))


def open_for_reading(path: Path | str, *, vfs: str | None = None) -> apsw.Connection:
    """A connection that changes nothing, also while the agent writes.

    Raises:
        apsw.Error: It cannot be opened.
    """
    vfs = checked_vfs() if vfs is None else vfs
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


@contextlib.contextmanager
def open_reader(path: Path, *, station_id: str) -> Iterator[Reader]:
    """One snapshot of a journal that this process does not write.

    Raises:
        JournalDamaged: It cannot be read, or is another station's; also while it is read.
    """
    try:
        connection = open_for_reading(path)
        try:
            connection.execute("BEGIN")
            reader = Reader(connection)
            _check_application(connection, path)
            check_owner(reader, path, station_id=station_id)
            yield reader
        finally:
            connection.close()
    except apsw.Error as error:
        raise damaged(path, error) from error


def check_owner(reader: Reader, path: Path | str, *, station_id: str) -> None:
    """The journal is this station's.

    Raises:
        JournalDamaged: It belongs to another one.
    """
    owner = reader.station("id")
    if owner is not None and owner != station_id:
        raise JournalDamaged(
            f"{path}: this journal belongs to station {owner!r}, the configuration says {station_id!r};"
            " put back the right file, nothing was changed"
        )


def _check_application(connection: apsw.Connection, path: Path | str) -> None:
    if connection.execute("PRAGMA application_id").get != APPLICATION_ID:
        raise JournalDamaged(
            f"{path}: this is a database, but not a journal of print-agent; it was left untouched"
        )


def open_connection(path: Path | str, *, vfs: str) -> apsw.Connection:
    """A connection with the journal's settings, its schema created or migrated.

    Raises:
        JournalDamaged: The file is no journal of ours, or SQLite cannot keep its promises on it.
        DiskFull: There is no room.
    """
    try:
        _write_wal_again(path, vfs)
        connection = apsw.Connection(str(path), vfs=vfs)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        try:
            _prepare(connection, path)
        except BaseException:
            _leave(connection)
            raise
    except apsw.FullError as error:
        raise DiskFull(f"{path}: the disk is full; free some room and start again") from error
    except DAMAGES as error:
        raise damaged(path, error) from error
    return connection


def _leave(connection: apsw.Connection) -> None:
    """Closes a journal that is not to be used: its log is not merged into it, the files stay as they were found."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close()


def _write_wal_again(path: Path | str, vfs: str | None) -> None:
    """Makes durable what can be read of the WAL, before anyone relies on it.

    After a sync that failed, the operating system may show data that no later sync writes (fsyncgate). The process
    that met it has ended; this one reads the same bytes from the cache, and they count only once written anew.
    """
    wal = f"{path}-wal"
    if not os.path.exists(wal):
        return
    file = apsw.VFSFile(vfs or "", wal, [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0])
    try:
        size = file.xFileSize()
        for offset in range(0, size, COPY_BYTES):
            file.xWrite(file.xRead(min(COPY_BYTES, size - offset), offset), offset)
        if size:
            file.xSync(apsw.SQLITE_SYNC_NORMAL)
    finally:
        file.xClose()


def _prepare(connection: apsw.Connection, path: Path | str) -> None:
    fresh = connection.execute("PRAGMA schema_version").get == 0
    if fresh:
        connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
        connection.reserve_bytes(None, CHECKSUM_SIZE)
    # EXTRA: the rollback journal of the change to WAL must be gone for good before anything is accepted. If its
    # deletion came undone at a power cut, it would roll the whole new journal back.
    connection.execute("PRAGMA synchronous=EXTRA")
    mode = connection.execute("PRAGMA journal_mode=WAL").get
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("PRAGMA trusted_schema=OFF")
    synchronous = connection.execute("PRAGMA synchronous").get
    if mode != "wal" or synchronous != 2:
        raise JournalDamaged(
            f"{path}: SQLite gives journal_mode={mode}, synchronous={synchronous}; wal and 2 are needed to survive a power"
            " cut: use a local disk with a file system that can map shared memory"
        )
    if fresh:
        script = resources.files("agent.queue").joinpath("schema.sql").read_text(encoding="utf-8")
        _run_script(connection, f"{script}; PRAGMA application_id={APPLICATION_ID}", SCHEMA_VERSION)
        return
    _check_application(connection, path)
    if connection.reserve_bytes() != CHECKSUM_SIZE:
        raise damaged(path, "its first page does not say that the pages have checksums")
    _migrate(connection, path)


def _migrate(connection: apsw.Connection, path: Path | str) -> None:
    version = connection.execute("PRAGMA user_version").get
    if version > SCHEMA_VERSION:
        raise JournalDamaged(
            f"{path}: the journal has schema {version}, this agent knows up to {SCHEMA_VERSION}; install the newer agent again"
        )
    for target in range(version + 1, SCHEMA_VERSION + 1):
        _run_script(connection, MIGRATIONS[target], target)


def _run_script(connection: apsw.Connection, script: str, version: int) -> None:
    """Runs a script that leads to a schema version, whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(script)
        connection.execute(f"PRAGMA user_version={version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
