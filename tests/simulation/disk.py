"""A disk that loses power: an apsw VFS that keeps the writes since each file's last sync apart.

What SQLite reads is what it wrote (the page cache). What is durable is kept beside it. At a power cut
every write since the file's last sync is kept, dropped or torn, each on its own, whatever came after it.

Over it works SQLite's checksum VFS, as over a real disk (``checksums_over``); the journal's witness, a file beside it that
is not SQLite's, is written through ``Disk`` too.

Modelled: writes reordered over the whole time since a sync, sectors of 512 bytes that tear, truncations and
deletions that come undone, a new WAL that is gone because its directory was never synced, a full disk,
errors of read and write, and a failed sync after which the cache forgets what it owed (fsyncgate).
Not modelled: bits that rot, a drive that lies about a sync, another process that writes to the files.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import apsw
import apsw.sqlite_extra

CHECKED = "cksmvfs"
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

    def synced(self) -> None:
        """All that was written is durable."""
        content = bytearray() if self.durable is None else self.durable
        for pending in self.pending:
            _apply(content, pending)
        self.durable = content
        self.pending.clear()
        self.created = False

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

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Nothing goes wrong meanwhile."""
        step, self._step = self._step, lambda what: None
        try:
            yield
        finally:
            self._step = step

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

    def take(self, path: Path) -> bytes:
        """The content of a file, which is no more on this disk."""
        content = path.read_bytes()
        path.unlink()
        del self._files[str(path)]
        return content

    def replace(self, files: Mapping[Path, bytes]) -> None:
        """Another disk with these files."""
        for name in self._files:
            Path(name).unlink(missing_ok=True)
        self._files = {str(path): _Stored(durable=bytearray(files[path])) for path in files}
        for path, content in files.items():
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


@contextmanager
def checksums_over(disk: Disk) -> Iterator[None]:
    """The checksum VFS of this process works over this disk, and over the operating system's again at the end."""
    default = apsw.vfs_names()[0]
    _put_checksums_over(disk.name, default)
    try:
        yield
    finally:
        _put_checksums_over(default, default)


def _put_checksums_over(vfs: str, default: str) -> None:
    memory = apsw.Connection(":memory:", vfs=default)
    if CHECKED in apsw.vfs_names():
        apsw.unregister_vfs(CHECKED)  # it asks for its base only when it is new
    apsw.set_default_vfs(vfs)
    apsw.sqlite_extra.load(memory, "cksumvfs")
    apsw.set_default_vfs(default)
    memory.close()


class WitnessFile:
    """The calls of the operating system with which the witness is written, on a simulated disk.

    A record is shorter than a sector: at a cut the last one that was synced is there, or any that was written since.
    """

    O_WRONLY, O_CREAT, O_CLOEXEC = os.O_WRONLY, os.O_CREAT, os.O_CLOEXEC

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open: dict[int, str] = {}

    def open(self, path: Path, flags: int, mode: int) -> int:
        disk = self._disk
        disk.before("open witness")
        if not path.exists():
            disk.stored(str(path)).created = True
        descriptor = os.open(path, flags, mode)
        self._open[descriptor] = str(path)
        return descriptor

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        disk = self._disk
        disk.before("write witness")
        if disk.fails(Trouble.FULL):
            raise OSError(errno.ENOSPC, "simulated")
        disk.stored(self._open[descriptor]).pending.append(_Pending(offset, data))
        return os.pwrite(descriptor, data, offset)

    def fsync(self, descriptor: int) -> None:
        self._disk.before("sync witness")
        self._disk.stored(self._open[descriptor]).synced()

    def close(self, descriptor: int) -> None:
        os.close(descriptor)
        del self._open[descriptor]

    def process_died(self) -> None:
        """The operating system closes what a dead process had open."""
        for descriptor in list(self._open):
            self.close(descriptor)


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
        self._reads_only = bool(flags[0] & apsw.SQLITE_OPEN_READONLY)
        fresh = not os.path.exists(self._path)
        super().__init__(base, name, flags)
        if fresh:
            stored = disk.stored(self._path)
            stored.created = True
        self._stored = disk.stored(self._path)

    def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
        try:
            super().xLock(level)
        except apsw.IOError:
            if not self._reads_only:
                raise
            # The last one to leave tries to lock it; SQLite expects that a reader may not.
            raise apsw.BusyError("opened for reading") from None

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
        # SQLite syncs the directory with a new WAL's first sync.
        stored.synced()


def _kind(path: str) -> str:
    return "WAL" if path.endswith("-wal") else "database"
