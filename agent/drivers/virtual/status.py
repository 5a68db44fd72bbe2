"""What a printer tells of itself in status bytes (PRINTERS.md sections 1.2 to 1.5)."""

from __future__ import annotations

from dataclasses import dataclass

from agent.drivers.virtual.mechanics import BookPlace

# Bits 5 and 6, 1 = no paper: top of form, and bottom of form, which is nearer to the mouth.
_SENSORS = {BookPlace.NONE: 0x60, BookPlace.IN: 0x00, BookPlace.EJECTED: 0x20}

# Which bits of an automatic status GS a n watches, by the bits of n.
_WATCHED = {
    0x01: (0x04, 0, 0, 0),  # drawer
    0x02: (0x28, 0, 0, 0),  # online, cover
    0x04: (0, 0x6C, 0, 0),  # error
    0x20: (0, 0, 0x60, 0x03),  # slip
}


@dataclass(frozen=True, slots=True)
class Status:
    """The printer's condition at one moment."""

    place: BookPlace = BookPlace.NONE
    cover_open: bool = False
    jammed: bool = False
    error: bool = False
    waiting: bool = False

    @property
    def offline(self) -> bool:
        """Cover open, jammed, or an error that was not cleared."""
        return self.cover_open or self.jammed or self.error

    def real_time(self, number: int) -> bytes:
        """DLE EOT 1 to 5."""
        error = self.jammed or self.error
        bits = {
            1: self.offline << 3,
            2: self.cover_open << 2 | error << 6,
            3: error << 2,
            4: 0,
            5: self.waiting << 3 | _SENSORS[self.place],
        }
        return bytes([0x12 | bits[number]])

    def automatic(self) -> bytes:
        """The four bytes of automatic status."""
        error = self.jammed or self.error
        cannot_print = self.place is not BookPlace.IN
        return bytes(
            [
                0x10 | self.offline << 3 | self.cover_open << 5,
                error << 2,
                _SENSORS[self.place],
                cannot_print << 1,
            ]
        )

    def paper(self) -> bytes:
        """ESC v and GS r 1: bit 0 no paper at bottom of form, bit 1 none at top of form."""
        sensors = _SENSORS[self.place]
        return bytes([sensors >> 6 & 1 | sensors >> 4 & 2])

    def offline_response(self, *, with_cause: bool) -> bytes:
        """GS ( H fn 49; the cause is bits of the cover and of a jam."""
        cause = bytes([0x40 | self.cover_open | self.jammed << 2])
        return b"\x37\x23" + (cause if with_cause else b"") + b"\0"


def is_watched_change(before: Status, after: Status, mask: int) -> bool:
    """Whether ``GS a`` with this mask tells the difference."""
    watched = [0, 0, 0, 0]
    for bit, bits in _WATCHED.items():
        if mask & bit:
            watched = [old | new for old, new in zip(watched, bits, strict=True)]
    pairs = zip(before.automatic(), after.automatic(), watched, strict=True)
    return any((old ^ new) & bits for old, new, bits in pairs)
