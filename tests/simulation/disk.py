"""A disk that loses power: an apsw VFS that keeps the writes since each file's last sync apart.

What SQLite reads is what it wrote (the page cache). What is durable is kept beside it. At a power cut
every write since the file's last sync is kept, dropped or torn, each on its own, whatever came after it.

Modelled: writes reordered over the whole time since a sync, sectors of 512 bytes that tear, truncations and
deletions that come undone, a new WAL that is gone because its directory was never synced, a full disk,
errors of read and write, and a failed sync after which the cache forgets what it owed (fsyncgate).
Not modelled: bits that rot, a drive that lies about a sync, another process that writes to the files.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import apsw

SECTOR_BYTES = 512
VOLATILE = "-shm"  # shared memory: no promise rests on it, a cut empties it


class Trouble(enum.Enum):
    """What the disk can be told to fail at."""

    FULL = "ENOSPC on write"
    WRITE = "EIO on write"
    SYNC = "EIO on sync, the data lost"
    READ = "EIO on read"


@dataclass(slots=True)
class _Pending:
    """A write or a truncation that no sync has covered."""

    offset: int
    data: bytes | None  # None: truncated to ``offset``


@dataclass(slots=True)
class _Stored:
    """One file: what a cut cannot take away, and what it can."""

    durable: bytearray | None = None  # None: there is no such file after a cut
    pending: list[_Pending] = field(default_factory=list)
    created: bool = False  # since the last sync of its directory
    forgotten: bool = False  # a failed sync: reads show what no later sync writes

    @property
    def safe(self) -> bool:
        """Whether a cut takes nothing from it."""
        unsure = self.durable is None or self.created or self.forgotten
        return not unsure and not self.pending


class Disk:
    """The files of one simulated PC.

    Args:
        folder: Where the files lie for SQLite; best in memory.
        name: The name of the VFS; unique in this process.
        step: Called before each operation that changes something, with a word for it; may raise to cut.
    """

    def __init__(self, folder: Path, name: str, step: Callable[[str], None]) -> None:
        self.folder = folder
        self.name = name
        self.trouble: Trouble | None = None
        self.sync_failed = False  # in this life of the process
        self.dead = False
        self.at_work = False  # SQLite waits for it
        self.in_flight: _Stored | None = None  # whose last write has not reached the cache
        self._step = step
        self._files: dict[str, _Stored] = {}
        self._vfs = _Vfs(self, name)

    def create(self, name: str) -> Path:
        """A new empty file whose directory entry is durable, as the service makes its journal."""
        path = self.folder / name
        path.touch()
        self._files[str(path)] = _Stored(durable=bytearray())
        return path

    def forget(self) -> None:
        """Unregisters the VFS and removes the files."""
        self._vfs.unregister()
        for path in self.folder.iterdir():
            path.unlink()

    # What the files do

    def stored(self, path: str) -> _Stored:
        """The file's record, made when it is first seen."""
        return self._files.setdefault(path, _Stored())

    def before(self, what: str) -> None:
        """A point at which the power may fail; nothing works after it has."""
        if self.dead:
            raise apsw.IOError("the process is dead")
        self.at_work = True
        try:
            self._step(what)
        finally:
            self.at_work = False

    @property
    def in_trouble(self) -> bool:
        """Whether the agent may end because of the disk."""
        return self.trouble is not None or self.sync_failed

    def fails(self, trouble: Trouble) -> bool:
        """Whether this operation is to fail."""
        return self.trouble is trouble

    # What happens to the PC

    def process_died(self) -> None:
        """The page cache lives on, and owes what it owed; shared memory is rebuilt."""
        self.dead = False
        self.sync_failed = False
        if self.in_flight is not None:
            # The process died before the operating system had it.
            self.in_flight.pending.pop()
            self.in_flight = None
        if self.trouble is not Trouble.FULL:
            self.trouble = None
        self._drop_volatile()

    def power_failed(self, rng: Random) -> None:
        """Only what was synced is sure; of the rest, this draw decides."""
        self.dead = False
        self.sync_failed = False
        self.in_flight = None
        self.trouble = None
        for name, stored in list(self._files.items()):
            if stored.safe:
                continue
            after = self._survives(stored, rng)
            path = Path(name)
            if after is None:
                path.unlink(missing_ok=True)
                del self._files[name]
                continue
            path.write_bytes(after)
            self._files[name] = _Stored(durable=after)
        self._drop_volatile()

    def replace(self, path: Path, content: bytes) -> None:
        """Another disk with this one file."""
        for name in self._files:
            Path(name).unlink(missing_ok=True)
        self._files = {str(path): _Stored(durable=bytearray(content))}
        path.write_bytes(content)

    def _drop_volatile(self) -> None:
        for path in self.folder.glob(f"*{VOLATILE}"):
            path.unlink()

    @staticmethod
    def _survives(stored: _Stored, rng: Random) -> bytearray | None:
        if stored.created and rng.random() < 0.5:
            return None
        if stored.durable is None and not stored.created:
            return None
        content = bytearray() if stored.durable is None else stored.durable
        for pending in stored.pending:
            match rng.choice(("kept", "dropped", "torn")):
                case "kept":
                    _apply(content, pending)
                case "torn" if pending.data is not None:
                    _tear(content, pending, rng)
                case _:
                    pass
        return content


def _apply(content: bytearray, pending: _Pending) -> None:
    if pending.data is None:
        del content[pending.offset :]
        return
    end = pending.offset + len(pending.data)
    if len(content) < pending.offset:
        content.extend(bytes(pending.offset - len(content)))
    content[pending.offset : end] = pending.data


def _tear(content: bytearray, pending: _Pending, rng: Random) -> None:
    """Each sector that the write touches arrives or not."""
    assert pending.data is not None
    start = 0
    while start < len(pending.data):
        offset = pending.offset + start
        size = min(len(pending.data) - start, SECTOR_BYTES - offset % SECTOR_BYTES)
        if rng.random() < 0.5:
            _apply(content, _Pending(offset, pending.data[start : start + size]))
        start += size


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._base = ""
        super().__init__(name, self._base)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        if name is None:  # a temporary file, which nobody looks for after a cut
            return apsw.VFSFile(self._base, name, flags)
        return _File(self._disk, self._base, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        self._disk.before(f"delete {_kind(filename)}")
        super().xDelete(filename, syncdir)
        stored = self._disk.stored(filename)
        if syncdir or stored.durable is None:
            self._disk._files.pop(filename, None)
        else:
            # The deletion comes undone at a cut, or not: as a truncation that may be dropped.
            stored.pending = [_Pending(0, None)]


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, base: str, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._kind = _kind(self._path)
        fresh = not os.path.exists(self._path)
        super().__init__(base, name, flags)
        if fresh:
            stored = disk.stored(self._path)
            stored.created = True
        self._stored = disk.stored(self._path)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        if self._disk.dead or self._disk.fails(Trouble.READ):
            raise apsw.IOError("simulated EIO on read")
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite's name
        disk = self._disk
        if disk.fails(Trouble.WRITE):
            raise apsw.IOError("simulated EIO on write")
        if disk.fails(Trouble.FULL):
            raise apsw.FullError("simulated ENOSPC")
        # The write is on its way when the power fails: it may still arrive, whole or torn.
        kept = bytes(data)
        if not disk.dead:
            self._stored.pending.append(_Pending(offset, kept))
            disk.in_flight = self._stored
        disk.before(f"write {self._kind}")
        disk.in_flight = None
        super().xWrite(kept, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.before(f"truncate {self._kind}")
        self._stored.pending.append(_Pending(newsize, None))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        disk = self._disk
        disk.before(f"sync {self._kind}")
        stored = self._stored
        if disk.fails(Trouble.SYNC):
            # The pages are marked clean: no later sync writes them again, though reads still show them.
            # It is told once: a second sync would succeed and write nothing.
            stored.pending.clear()
            stored.forgotten = True
            disk.trouble = None
            disk.sync_failed = True
            raise apsw.IOError("simulated EIO on sync")
        content = bytearray() if stored.durable is None else stored.durable
        for pending in stored.pending:
            _apply(content, pending)
        stored.durable = content
        stored.pending.clear()
        # SQLite syncs the directory with a new WAL's first sync.
        stored.created = False


def _kind(path: str) -> str:
    return "WAL" if path.endswith("-wal") else "database"
