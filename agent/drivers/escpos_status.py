"""What the bits of a status say: the slip sensors, and what is wrong with the printer."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.drivers.escpos_commands import RealTimeRequest
from agent.drivers.escpos_replies import AutomaticStatus, RealTimeStatus
from agent.drivers.profile import Profile


@dataclass(frozen=True, slots=True)
class SlipSensors:
    """Where the book is.

    Attributes:
        book_in: every sensor sees it.
        book_out: no sensor sees it. Neither is true while it is on its way.
        waiting: the printer waits for a book; None where this status does not tell.
    """

    book_in: bool
    book_out: bool
    waiting: bool | None


class Condition(enum.Flag):
    """What a status reports beside the slip sensors."""

    OFFLINE = enum.auto()
    COVER_OPEN = enum.auto()
    FEED_BUTTON = enum.auto()
    PAPER_END = enum.auto()
    ERROR = enum.auto()
    MECHANICAL_ERROR = enum.auto()
    CUTTER_ERROR = enum.auto()
    UNRECOVERABLE_ERROR = enum.auto()
    RECOVERABLE_ERROR = enum.auto()


NO_CONDITION = Condition(0)

# Each of these, reported since a commit, is an error in the sense of CONTRACT 4.1.
FAULTS = (
    Condition.COVER_OPEN
    | Condition.ERROR
    | Condition.MECHANICAL_ERROR
    | Condition.CUTTER_ERROR
    | Condition.UNRECOVERABLE_ERROR
    | Condition.RECOVERABLE_ERROR
)

_PRINTER = ((0x08, Condition.OFFLINE),)
_OFFLINE_CAUSE = (
    (0x04, Condition.COVER_OPEN),
    (0x08, Condition.FEED_BUTTON),
    (0x20, Condition.PAPER_END),
    (0x40, Condition.ERROR),
)
_ERROR_CAUSE = (
    (0x04, Condition.MECHANICAL_ERROR),
    (0x08, Condition.CUTTER_ERROR),
    (0x20, Condition.UNRECOVERABLE_ERROR),
    (0x40, Condition.RECOVERABLE_ERROR),
)
_AUTOMATIC_FIRST = (
    (0x08, Condition.OFFLINE),
    (0x20, Condition.COVER_OPEN),
    (0x40, Condition.FEED_BUTTON),
)


def _read(value: int, bits: tuple[tuple[int, Condition], ...]) -> Condition:
    found = NO_CONDITION
    for mask, condition in bits:
        if value & mask:
            found |= condition
    return found


def real_time_conditions(request: RealTimeRequest, status: RealTimeStatus) -> Condition:
    """The conditions in the reply to this request; roll paper and slip have none, PRINTERS 1.3."""
    match request:
        case RealTimeRequest.PRINTER:
            return _read(status.value, _PRINTER)
        case RealTimeRequest.OFFLINE_CAUSE:
            return _read(status.value, _OFFLINE_CAUSE)
        case RealTimeRequest.ERROR_CAUSE:
            return _read(status.value, _ERROR_CAUSE)
        case RealTimeRequest.ROLL_PAPER | RealTimeRequest.SLIP:
            return NO_CONDITION


def automatic_conditions(status: AutomaticStatus) -> Condition:
    """The conditions in an automatic status block, PRINTERS 1.4."""
    return _read(status.status[0], _AUTOMATIC_FIRST) | _read(status.status[1], _ERROR_CAUSE)


def real_time_slip(status: RealTimeStatus, profile: Profile) -> SlipSensors:
    """The slip sensors in the reply to DLE EOT 5."""
    uncovered = status.value & profile.slip_mask
    return SlipSensors(
        book_in=uncovered == 0,
        book_out=uncovered == profile.slip_mask,
        waiting=bool(status.value & profile.slip_waiting_mask),
    )


def automatic_slip(status: AutomaticStatus, profile: Profile) -> SlipSensors:
    """The slip sensors in an automatic status block."""
    uncovered = status.status[2] & profile.automatic_slip_mask
    return SlipSensors(
        book_in=uncovered == 0,
        book_out=uncovered == profile.automatic_slip_mask,
        waiting=None,
    )
