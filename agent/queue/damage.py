"""How a damaged journal is seen, and what to do with it.

Each page carries a checksum: a flipped byte is an error, never an answer. SQLite's own checksum VFS
(https://sqlite.org/cksumvfs.html) keeps it in a page's last eight bytes and checks it at every read; apsw brings it along.
"""

from __future__ import annotations

import functools
from pathlib import Path

import apsw
import apsw.sqlite_extra

from agent.clock import sleep
from agent.errors import ConfigurationInvalid, JournalDamaged

PAGE_SIZE = 8192  # bytes; fits three 2 KB records
CHECKSUM_SIZE = 8  # bytes that SQLite leaves free at the end of a page
_VFS = "cksmvfs"
_WAL_HEADER_SIZE = 32  # bytes, https://sqlite.org/fileformat2.html#walformat
_FRAME_HEADER_SIZE = 24
# A running agent may be writing the page that is looked at.
_LOOKS = 3
_LOOK_AGAIN_S = 0.1


@functools.cache
def checked_vfs() -> str:
    """The VFS that computes and checks the checksums; the process's default VFS stays what it is.

    Raises:
        ConfigurationInvalid: The installed apsw comes without it.
    """
    default = apsw.vfs_names()[0]
    memory = apsw.Connection(":memory:")
    try:
        apsw.sqlite_extra.load(memory, "cksumvfs")
    except (LookupError, apsw.sqlite_extra.NotAvailable, apsw.Error):
        raise ConfigurationInvalid(
            "apsw: this build lacks SQLite's cksumvfs, which guards the journal's pages; install the wheel that requirements/ names"
        ) from None
    finally:
        memory.close()
    apsw.set_default_vfs(default)
    return _VFS


# What SQLite says of a disk or file that cannot be trusted; any other error of it is a bug.
DAMAGES = (
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.PermissionsError,
    apsw.ReadOnlyError,
)


def damaged(path: Path | str, found: apsw.Error | str) -> JournalDamaged:
    """The error of a journal that cannot be trusted: what an error of SQLite means, and what to do."""
    match found:
        case apsw.CantOpenError() | apsw.PermissionsError() | apsw.ReadOnlyError():
            said = "cannot be opened; check the disk, the folder and its rights"
        case apsw.IOError() if _result(found) == apsw.SQLITE_IOERR_SHMSIZE:
            said = "cannot be opened: the disk is full; free some room and start again"
        case apsw.IOError() if _result(found) != apsw.SQLITE_IOERR_DATA:  # a wrong checksum
            said = "cannot be read or written: the disk is failing; see `dmesg`, replace it, restore a backup"
        case _:
            said = (
                "is damaged; it was left as it is. Keep a copy of its folder; `print-agent journal salvage DIR` writes out what"
                " can be read, `print-agent journal restore FILE` puts a backup in its place"
            )
    return JournalDamaged(f"{path}: the journal {said} ({found})")


def _result(error: apsw.IOError) -> int | None:
    return getattr(error, "extendedresult", None)


def damaged_pages(path: Path) -> list[int]:
    """The pages of a journal's main file whose checksum is wrong or that are cut off, also those that nothing uses.

    A page that the write-ahead log holds anew is not looked at: a power cut may have torn it here.
    """
    found: list[int] = []
    for look in range(_LOOKS):
        if look:
            sleep(_LOOK_AGAIN_S)
        found = _look(path)
        if not found:
            break
    return found


def _look(path: Path) -> list[int]:
    renewed = _pages_in_wal(path)
    checked_vfs()  # brings the function, too
    judge = apsw.Connection(":memory:")
    found = []
    number = 0
    with path.open("rb") as file:
        while page := file.read(PAGE_SIZE):
            number += 1
            if number in renewed:
                continue
            whole = judge.execute("SELECT verify_checksum(?)", (page,)).get == 1
            if len(page) < PAGE_SIZE or not whole:
                found.append(number)
    judge.close()
    return found


def _pages_in_wal(path: Path) -> set[int]:
    """The numbers of the pages that the write-ahead log holds since its last restart."""
    numbers: set[int] = set()
    try:
        file = path.with_name(f"{path.name}-wal").open("rb")
    except FileNotFoundError:
        return numbers
    with file:
        salts = file.read(_WAL_HEADER_SIZE)[16:24]
        while len(header := file.read(_FRAME_HEADER_SIZE)) == _FRAME_HEADER_SIZE:
            if header[8:16] != salts:
                break
            numbers.add(int.from_bytes(header[:4], "big"))
            file.seek(PAGE_SIZE, 1)
    return numbers
