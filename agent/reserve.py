"""Room on the disk that is kept for the end of what has begun (CONTRACT section 3, "room on disk")."""

from __future__ import annotations

import os
from pathlib import Path

from agent.disk import free_bytes
from agent.live import Condition

RESERVE_BYTES = (
    4 * 1024 * 1024
)  # a running job and its receipts need a few KB, a checkpoint some MB
ROOM_MIN_BYTES = 8 * 1024 * 1024  # free bytes below which new authorizations are refused
# Two months of 80 books a day with photos of 100 KB, should the authority acknowledge none of them.
FILLING_BYTES = 512 * 1024 * 1024


class Reserve:
    """A file that holds space until it is needed.

    Args:
        path: The file, beside the journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> bool:
        """Holds the space again, where there is room for it; tells whether it is held."""
        try:
            if self._path.exists() and self._path.stat().st_size >= RESERVE_BYTES:
                return True
            if free_bytes(self._path.parent) < ROOM_MIN_BYTES + RESERVE_BYTES:
                return False
            descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return True

    def release(self) -> bool:
        """Gives the space free for what may not wait; tells whether there was any."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True

    def has_room(self) -> bool:
        """Whether there is room for new authorizations."""
        return free_bytes(self._path.parent) >= ROOM_MIN_BYTES

    def conditions(self) -> list[Condition]:
        """A disk that is full, or will be before long."""
        free = free_bytes(self._path.parent)
        if free < ROOM_MIN_BYTES:
            return [
                Condition("disk-full", "free some room: new authorizations are refused until then")
            ]
        if free < FILLING_BYTES:
            return [Condition("disk-filling", f"{free // 1024**2} MiB are left: free some room")]
        return []
