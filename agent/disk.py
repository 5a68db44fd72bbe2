"""The disk under a folder: what its file system, mount options and write cache promise to a power cut.

Sources: proc_pid_mountinfo(5); ext4(5) for ``data`` and ``barrier``; Linux's
Documentation/block/writeback_cache_control.rst; sqlite.org/wal.html for network file systems.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
BLOCK_DEVICES = Path("/sys/dev/block")

# Locks, shared memory and fsync cross a network: SQLite's journal cannot keep its promises there.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.curlftpfs", "fuse.davfs"}
)
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
LAYERED_FILE_SYSTEMS = frozenset({"overlay", "aufs", "ecryptfs"})
WITHOUT_JOURNAL = frozenset({"ext2", "vfat", "exfat", "msdos"})

READ_ONLY_ADVICE = (
    "where the kernel made it read-only, the disk is failing or its file system damaged: see `dmesg`, repair or replace it,"
    " then start again; where only the service finds it so, its unit needs ReadWritePaths= (`systemctl edit print-agent`)"
)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo, as far as it matters here."""

    device: str  # MAJOR:MINOR
    point: str
    kind: str  # e.g. ext4, nfs4, fuse.sshfs
    source: str
    options: frozenset[str]  # of the mount and of its file system


class Refused(ValueError):
    """Why no journal may lie on a mount."""


def mount_of(folder: Path, mountinfo: str | None = None) -> Mount | None:
    """The mount that holds a folder; None where the kernel does not tell (a chroot without its root's mount).

    Args:
        folder: It, or the nearest folder above it that exists, is looked up.
        mountinfo: The kernel's list; None reads it.
    """
    path = os.path.realpath(folder)
    text = _mountinfo() if mountinfo is None else mountinfo
    above = [mount for mount in map(_mount, text.splitlines()) if _lies_below(path, mount.point)]
    # The longest point is the nearest; of two on one point the later one covers the earlier.
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


def _mountinfo() -> str:
    try:
        return MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _mount(line: str) -> Mount:
    fields = line.split(" ")
    separator = fields.index("-", 6)
    kind, source, super_options = fields[separator + 1 : separator + 4]
    options = frozenset(f"{fields[5]},{super_options}".split(","))
    return Mount(fields[2], _unescaped(fields[4]), kind, _unescaped(source), options)


def _unescaped(text: str) -> str:
    """Space, tab, line feed and backslash stand as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _lies_below(path: str, point: str) -> bool:
    return point == "/" or path == point or path.startswith(point + "/")


def dangers_of(mount: Mount) -> list[str]:
    """What may be lost on this mount at a power cut, a sentence each with the way out; none where all is well.

    Raises:
        Refused: The file system cannot carry a journal at all.
    """
    if mount.kind in NETWORK_FILE_SYSTEMS:
        raise Refused(
            f"{mount.point} is a network file system ({mount.kind}): a power cut or a lost line would tear the journal;"
            " put station.state_dir on a local disk"
        )
    found = []
    if mount.kind in MEMORY_FILE_SYSTEMS:
        found.append(
            f"{mount.point} is memory ({mount.kind}): a power cut loses every job; put station.state_dir on a disk"
        )
    elif mount.kind in LAYERED_FILE_SYSTEMS:
        found.append(
            f"{mount.point} is a layered file system ({mount.kind}), which may go away with its container;"
            " give station.state_dir a volume of its own"
        )
    elif mount.kind.partition(".")[0] in ("fuse", "fuseblk"):
        found.append(
            f"{mount.point} is a file system in user space ({mount.kind}): whether it keeps what was synced is not known;"
            " put station.state_dir on ext4 or xfs"
        )
    elif mount.kind in WITHOUT_JOURNAL:
        found.append(
            f"{mount.point} is {mount.kind}, which has no journal of its own: a power cut may damage it;"
            " put station.state_dir on ext4 or xfs"
        )
    if mount.options & {"nobarrier", "barrier=0"}:
        found.append(
            f"{mount.point} is mounted with nobarrier: what the disk's cache holds is lost at a power cut;"
            " remove the option from /etc/fstab"
        )
    if "data=writeback" in mount.options:
        found.append(
            f"{mount.point} is mounted with data=writeback: after a power cut a file may hold old blocks;"
            " use data=ordered, the default"
        )
    return found


def write_cache_of(mount: Mount, *, devices: Path = BLOCK_DEVICES) -> str | None:
    """What the kernel takes the disk's cache for, ``write back`` or ``write through``; None where there is no disk.

    With ``write back`` the kernel flushes it at every sync. ``write through`` says that there is nothing to flush:
    right for a disk without a cache, a danger where the disk (or a USB bridge) only claims so.
    """
    device = devices / mount.device
    # A partition has no queue of its own; its disk, the folder above, has.
    for folder in (device, device.resolve().parent):
        try:
            return (folder / "queue" / "write_cache").read_text(encoding="ascii").strip()
        except OSError:
            continue
    return None


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
