"""Real-time commands, heard on reception in whatever they are hidden (PRINTERS.md 1.3, 1.8)."""

from __future__ import annotations

import enum

CLEAR_COMMAND = bytes.fromhex("10140801031401060208")  # DLE DC4 fn 8
STATUS_NUMBERS = range(1, 6)  # DLE EOT n
REQUEST_MAX = 3  # DLE ENQ n
SHORT_SIZE = 3


class RealTime(enum.IntEnum):
    """The second byte of each."""

    STATUS = 0x04
    REQUEST = 0x05
    CLEAR = 0x14


class RealTimeEar:
    """Follows the bytes as they arrive."""

    def __init__(self) -> None:
        self._heard = bytearray()

    @property
    def in_the_middle(self) -> bool:
        """The last bytes may be the beginning of a command."""
        return bool(self._heard)

    def hear(self, byte: int) -> bytes | None:
        """One more byte; the command that it completes, if it does."""
        heard = self._heard
        heard.append(byte)
        while heard and not _begins(heard):
            start = heard.find(0x10, 1)
            del heard[: start if start > 0 else len(heard)]
        if not _is_whole(heard):
            return None
        command = bytes(heard)
        heard.clear()
        return command

    def size_at_head(self, data: bytes) -> int:
        """How many bytes at the head of the data complete a command, else 0."""
        for begun in (self._heard, bytearray()):
            for size in (SHORT_SIZE, len(CLEAR_COMMAND)):
                head = begun + data[: max(size - len(begun), 0)]
                if len(head) == size and _begins(head) and _is_whole(head):
                    return size - len(begun)
        return 0


def _begins(heard: bytearray) -> bool:
    if heard[0] != 0x10:
        return False
    if len(heard) == 1:
        return True
    match heard[1]:
        case RealTime.CLEAR:
            return CLEAR_COMMAND.startswith(heard)
        case RealTime.STATUS:
            return len(heard) == 2 or heard[2] in STATUS_NUMBERS
        case RealTime.REQUEST:
            return len(heard) == 2 or heard[2] <= REQUEST_MAX
        case _:
            return False


def _is_whole(heard: bytearray) -> bool:
    if len(heard) == SHORT_SIZE:
        return heard[1] in (RealTime.STATUS, RealTime.REQUEST)
    return heard == CLEAR_COMMAND
