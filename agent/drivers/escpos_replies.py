"""What a printer sends, told apart by the fixed bits of each reply, in any fragmentation.

byte        reply                                     source
0**1**10    real-time status (DLE EOT)                PRINTERS 1.3
0**1**00    automatic status, with three 0**0****     PRINTERS 1.4
0**0****    queued status (GS r, ESC v, GS I 1 to 3)  PRINTERS 1.5
11h 13h     XON, XOFF
37h 5Fh ..  a block, up to 00h                        PRINTERS 1.1, 1.2, 1.6, 1.7
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

BLOCK_BYTES_MAX = 128  # texts of GS I have up to 80 bytes, the other blocks fewer
OFFLINE_CAUSES_MAX = 10  # PRINTERS 1.2
PROCESS_ID_CHARACTERS = 4

_XON, _XOFF = 0x11, 0x13
_BLOCK_HEADERS = frozenset((0x35, 0x37, 0x3B, 0x3D, 0x5F))
_TEXT_HEADER = 0x5F
_FUNCTION_HEADER = 0x37
_PROCESS_ID, _OFFLINE, _CLEARED = 0x22, 0x23, 0x25
_AUTOMATIC_BYTES = 4
_BLOCK_BYTE_MIN = 0x1F  # the separator of some blocks; a byte below is no part of any block


class FlowByte(enum.Enum):
    """A flow control byte that the line let through."""

    XON = _XON
    XOFF = _XOFF


@dataclass(frozen=True, slots=True)
class RealTimeStatus:
    """The reply to DLE EOT n; it does not say which n."""

    value: int


@dataclass(frozen=True, slots=True)
class AutomaticStatus:
    """The four bytes of an automatic status block."""

    status: bytes


@dataclass(frozen=True, slots=True)
class QueuedStatus:
    """The one byte that answers GS r, ESC v or GS I 1 to 3."""

    value: int


@dataclass(frozen=True, slots=True)
class ProcessIdReply:
    """GS ( H fn 48: the data before it was printed, or taken where it prints nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class OfflineReply:
    """GS ( H fn 49: the printer went offline; what the causes mean depends on the model."""

    causes: bytes


@dataclass(frozen=True, slots=True)
class ClearedReply:
    """DLE DC4 fn 8: the buffers are empty."""


@dataclass(frozen=True, slots=True)
class TextReply:
    """GS I 65 to 69 and GS g 2; bytes that are not ASCII are shown as escapes."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A well-formed block of another kind, without header and final 00h."""

    header: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Flow:
    """XON or XOFF."""

    byte: FlowByte


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are no reply, or a reply that broke off; evidence for nothing."""

    data: bytes


Reply = (
    RealTimeStatus
    | AutomaticStatus
    | QueuedStatus
    | ProcessIdReply
    | OfflineReply
    | ClearedReply
    | TextReply
    | Block
    | Flow
    | Garbage
)


class ReplyParser:
    """Turns bytes into replies; it holds at most one unfinished reply.

    A reply that breaks off is Garbage as a whole. What could be read out of its tail would be a
    guess, so after a block that grew too long everything up to its 00h is Garbage too.

    Args:
        xonxoff: whether the line uses XON and XOFF: then they are told as Flow wherever they stand, else only within
            an automatic status (PRINTERS 1.4), whose rest would be taken for queued ones; elsewhere they are Garbage.
    """

    def __init__(self, *, xonxoff: bool = False) -> None:
        self._xonxoff = xonxoff
        self._unit = bytearray()
        self._skipping = False

    @property
    def unfinished(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._unit) or self._skipping

    def feed(self, data: bytes) -> list[Reply]:
        """Takes the next bytes and gives the replies that are complete by now."""
        replies: list[Reply] = []
        for byte in data:
            self._take(byte, replies)
        return replies

    def abandon(self) -> list[Reply]:
        """Gives up an unfinished reply, for a caller that has waited long enough."""
        self._skipping = False
        return self._drop()

    def _drop(self) -> list[Reply]:
        if not self._unit:
            return []
        dropped = Garbage(bytes(self._unit))
        self._unit.clear()
        return [dropped]

    def _take(self, byte: int, replies: list[Reply]) -> None:
        in_automatic = bool(self._unit) and self._unit[0] not in _BLOCK_HEADERS
        if byte in (_XON, _XOFF) and (self._xonxoff or in_automatic):
            replies.append(Flow(FlowByte(byte)))
        elif self._skipping and (byte == 0 or byte >= _BLOCK_BYTE_MIN):
            self._skipping = byte != 0
            replies.append(Garbage(bytes((byte,))))
        elif not self._unit:
            self._skipping = False
            self._begin(byte, replies)
        elif self._unit[0] in _BLOCK_HEADERS:
            self._continue_block(byte, replies)
        else:
            self._continue_automatic(byte, replies)

    def _begin(self, byte: int, replies: list[Reply]) -> None:
        if byte & 0x93 == 0x12:
            replies.append(RealTimeStatus(byte))
        elif byte & 0x90 == 0x00:
            replies.append(QueuedStatus(byte))
        elif byte & 0x93 == 0x10 or byte in _BLOCK_HEADERS:
            self._unit.append(byte)
        else:
            replies.append(Garbage(bytes((byte,))))

    def _continue_automatic(self, byte: int, replies: list[Reply]) -> None:
        if byte & 0x90 != 0x00:
            replies += self._drop()
            self._begin(byte, replies)
            return
        self._unit.append(byte)
        if len(self._unit) == _AUTOMATIC_BYTES:
            replies.append(AutomaticStatus(bytes(self._unit)))
            self._unit.clear()

    def _continue_block(self, byte: int, replies: list[Reply]) -> None:
        self._unit.append(byte)
        if byte == 0:
            replies.append(_block(bytes(self._unit)))
            self._unit.clear()
        elif byte < _BLOCK_BYTE_MIN:
            self._unit.pop()
            replies += self._drop()
            self._begin(byte, replies)
        elif len(self._unit) > BLOCK_BYTES_MAX:
            replies += self._drop()
            self._skipping = True


def _block(unit: bytes) -> Reply:
    """A block from header to 00h: the reply that it is, Garbage where its form is wrong."""
    header, payload = unit[0], unit[1:-1]
    if header == _TEXT_HEADER:
        if min(payload, default=0x20) < 0x20:
            return Garbage(unit)
        return TextReply(payload.decode("ascii", "backslashreplace"))
    if header != _FUNCTION_HEADER:
        return Block(header, payload)
    if not payload:
        return Garbage(unit)
    kind, rest = payload[0], payload[1:]
    well_formed = True
    match kind:
        case 0x22:
            if len(rest) == PROCESS_ID_CHARACTERS and all(0x20 <= byte <= 0x7E for byte in rest):
                return ProcessIdReply(rest.decode("ascii"))
            well_formed = False
        case 0x23:
            if len(rest) <= OFFLINE_CAUSES_MAX and all(0x40 <= byte <= 0x7F for byte in rest):
                return OfflineReply(rest)
            well_formed = False
        case 0x25:
            if not rest:
                return ClearedReply()
            well_formed = False
        case _:
            pass
    return Block(header, payload) if well_formed else Garbage(unit)
