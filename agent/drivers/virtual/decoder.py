"""Where one ESC/POS command ends and the next begins, on the printer's side.

Written apart from the station's own encoder, so that the two keep each other honest.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

NULS_AT_ONCE_MAX = 256  # bytes: a station clears a printer with thousands
NUL_TERMINATED_SIZE_MAX = 256  # bytes: ESC D takes 32 stops, GS k m <= 6 a short text


class PayloadKind(enum.Enum):
    """What follows a command's head."""

    NONE = enum.auto()
    RASTER = enum.auto()  # GS v 0: rows
    COLUMN = enum.auto()  # ESC *: columns
    FUNCTION = enum.auto()  # GS ( X: parameters
    SKIP = enum.auto()  # data that this printer takes and ignores


@dataclass(frozen=True, slots=True)
class Command:
    """A command's opcode, its whole head (opcode and parameters) and the size of what follows."""

    opcode: bytes
    head: bytes
    payload: PayloadKind = PayloadKind.NONE
    payload_size: int = 0

    def word(self, offset: int) -> int:
        """Two bytes of the head, low byte first."""
        return self.head[offset] | self.head[offset + 1] << 8


# Bytes after ESC x, GS x and FS x (Epson's ESC/POS reference); what is not listed has none.
_PARAMETERS = {
    0x1B: {
        **dict.fromkeys(b" !%-3=?CEFGJKMRTUVaderstu{", 1),
        **dict.fromkeys(b"$\\cf", 2),
        ord("p"): 3,
        ord("W"): 8,
    },
    0x1D: {
        **dict.fromkeys(b"!/BHIabfhrwT", 1),
        **dict.fromkeys(b"$LPW\\", 2),
        ord("^"): 3,
        ord("g"): 4,
    },
    0x1C: {**dict.fromkeys(b"!-CW", 1), **dict.fromkeys(b"Spa", 2)},
}
_CUT_WITH_FEED = (65, 66, 97, 98, 103, 104)
_REAL_TIME_CLEAR_SIZE = 10
_REAL_TIME_DC4_SIZE = 5


def decode(data: bytearray) -> Command | None:
    """The command at the head of the receive buffer; None while its head is incomplete."""
    first = data[0]
    if first == 0:
        return _nuls(data)
    if first == 0x10:
        return _real_time(data)
    if first in _PARAMETERS:
        if len(data) < 2:
            return None
        return _escape(data)
    return Command(bytes(data[:1]), bytes(data[:1]))


def _nuls(data: bytearray) -> Command:
    """What does nothing does it once for a whole run of them."""
    run = bytes(data[:NULS_AT_ONCE_MAX])
    return Command(b"\0", run[: len(run) - len(run.lstrip(b"\0"))])


def _fixed(data: bytearray, size: int, opcode_size: int = 2) -> Command | None:
    if len(data) < size:
        return None
    return Command(bytes(data[:opcode_size]), bytes(data[:size]))


def _real_time(data: bytearray) -> Command | None:
    """Real-time commands were executed on reception; here only their bytes are passed over."""
    if len(data) < 2:
        return None
    if data[1] not in (0x04, 0x05, 0x14):
        return _fixed(data, 1, 1)
    if len(data) < 3:
        return None
    if data[1] == 0x04 and data[2] in (7, 8):
        return _fixed(data, 4)
    if data[1] == 0x14:
        return _fixed(data, _REAL_TIME_CLEAR_SIZE if data[2] == 8 else _REAL_TIME_DC4_SIZE)
    return _fixed(data, 3)


def _until_nul(data: bytearray, start: int) -> Command | None:
    end = data.find(0, start, start + NUL_TERMINATED_SIZE_MAX)
    if end < 0 and len(data) < start + NUL_TERMINATED_SIZE_MAX:
        return None
    return _fixed(data, end + 1 if end >= 0 else start)


def _escape(data: bytearray) -> Command | None:
    match bytes(data[:2]):
        case b"\x1b*":
            return _column_image(data)
        case b"\x1bD":
            return _until_nul(data, 2)
        case b"\x1dv":
            return _raster_image(data)
        case b"\x1d(" | b"\x1c(":
            return _function(data, head_size=5)
        case b"\x1d8":
            return _function(data, head_size=7)
        case b"\x1dV":
            if len(data) < 3:
                return None
            return _fixed(data, 4 if data[2] in _CUT_WITH_FEED else 3)
        case b"\x1dk":
            return _bar_code(data)
        case b"\x1d*":
            head = _fixed(data, 4)
            if head is None:
                return None
            return Command(head.opcode, head.head, PayloadKind.SKIP, data[2] * data[3] * 8)
        case _:
            return _fixed(data, 2 + _PARAMETERS[data[0]].get(data[1], 0))


def _column_image(data: bytearray) -> Command | None:
    head = _fixed(data, 5)
    if head is None:
        return None
    bytes_a_column = 3 if data[2] in (32, 33) else 1
    return Command(head.opcode, head.head, PayloadKind.COLUMN, head.word(3) * bytes_a_column)


def _raster_image(data: bytearray) -> Command | None:
    head = _fixed(data, 8)
    if head is None:
        return None
    return Command(head.opcode, head.head, PayloadKind.RASTER, head.word(4) * head.word(6))


def _function(data: bytearray, *, head_size: int) -> Command | None:
    head = _fixed(data, head_size, 3)
    if head is None:
        return None
    size = int.from_bytes(head.head[3:], "little")
    kind = PayloadKind.FUNCTION if head_size == 5 else PayloadKind.SKIP
    return Command(head.opcode, head.head, kind, size)


def _bar_code(data: bytearray) -> Command | None:
    if len(data) < 3:
        return None
    if data[2] <= 6:
        return _until_nul(data, 3)
    head = _fixed(data, 4)
    if head is None:
        return None
    return Command(head.opcode, head.head, PayloadKind.SKIP, data[3])
