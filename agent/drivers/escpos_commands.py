"""ESC/POS commands to bytes, under Epson's names. Values in, bytes out.

DLE ENQ 1 (ejects the book and prints the rest on the next one) and GS ( A (prints a test page) do
not exist here, and ESC f has no builder either: CONTRACT 8 rule 8.
"""

from __future__ import annotations

import enum

from agent.drivers.profile import Fence, ImageCommand, Profile
from agent.model import (
    PROCESS_ID_BASE,
    PROCESS_ID_DIGIT_FIRST,
    PROCESS_ID_DIGITS,
    process_id_text,
)

IMAGE_BYTES_MAX = 8_192  # dots of one image command: what NULs must be able to complete (rule 3)
IMAGE_ROWS_MAX = 255  # keeps the high byte of GS v 0's row count zero
COLUMN_COUNT_MAX = 1_023  # the number of columns that ESC * m = 0 takes
COLUMN_ROWS = 8  # dots of one column byte
RASTER_HEADER_BYTES = 8
COLUMN_HEADER_BYTES = 5

CLEAR_BUFFERS = bytes.fromhex("10 14 08 01 03 14 01 06 02 08")  # DLE DC4 fn 8, answered 37 25 00
RECOVER_AND_CLEAR = bytes.fromhex("10 05 02")  # DLE ENQ 2; ejects a slip that is in
CANCEL_SLIP_WAITING = bytes.fromhex("10 05 03")  # DLE ENQ 3; ignored unless it waits for a slip
INITIALIZE = bytes.fromhex("1B 40")  # ESC @
PAGE_MODE = bytes.fromhex("1B 4C")  # ESC L
STANDARD_MODE = bytes.fromhex("1B 53")  # ESC S; drops what page mode holds
PRINT_DIRECTION = bytes.fromhex("1B 54 00")  # ESC T 0: left to right, from the upper left
PAPER_SENSOR_STATUS = bytes.fromhex("1B 76")  # ESC v
FORM_FEED = bytes.fromhex("0C")  # in page mode: print the page


class RealTimeRequest(enum.IntEnum):
    """The n of DLE EOT n, PRINTERS 1.3."""

    PRINTER = 1
    OFFLINE_CAUSE = 2
    ERROR_CAUSE = 3
    ROLL_PAPER = 4
    SLIP = 5


class QueuedRequest(enum.IntEnum):
    """The n of GS r n, PRINTERS 1.5."""

    PAPER_SENSOR = 1
    DRAWER = 2
    SLIP = 3


class Identity(enum.IntEnum):
    """The n of GS I n, PRINTERS 1.6: the first three get one byte as answer, the others text."""

    MODEL_ID = 1
    TYPE_ID = 2
    VERSION_ID = 3
    FIRMWARE = 65
    MAKER = 66
    MODEL = 67
    SERIAL_NUMBER = 68
    LANGUAGE = 69


class OfflineReport(enum.IntEnum):
    """The d of GS ( H fn 49, PRINTERS 1.2."""

    OFF = 0x30
    WITHOUT_CAUSE = 0x31
    WITH_CAUSE = 0x32


def _pair(value: int) -> bytes:
    return value.to_bytes(2, "little")


def real_time_status(request: RealTimeRequest) -> bytes:
    """DLE EOT n: executed on reception, answered by one byte ``0**1**10``."""
    return bytes((0x10, 0x04, request))


def queued_status(request: QueuedRequest) -> bytes:
    """GS r n: executed in order, answered by one byte ``0**0****``."""
    return bytes((0x1D, 0x72, request))


def identity(request: Identity) -> bytes:
    """GS I n: executed in order."""
    return bytes((0x1D, 0x49, request))


LOAD_FENCE = identity(
    Identity.MODEL_ID
)  # proves that all earlier bytes were taken, CONTRACT 8 rule 4


def automatic_status(mask: int) -> bytes:
    """GS a n: one status block now and one at each change; 0 switches it off."""
    return bytes((0x1D, 0x61, mask))


def counter(number: int) -> bytes:
    """GS g 2: asks a maintenance counter, answered by decimal digits as text."""
    return b"\x1d\x67\x32\x00" + _pair(number)


def process_id_number(text: str) -> int:
    """The number of a process ID's four digits.

    Raises:
        ValueError: these are not four digits.
    """
    digits = [ord(character) - PROCESS_ID_DIGIT_FIRST for character in text]
    if len(digits) != PROCESS_ID_DIGITS or not all(
        0 <= digit < PROCESS_ID_BASE for digit in digits
    ):
        raise ValueError("a process ID has four characters, 20h to 7Eh")
    number = 0
    for digit in digits:
        number = number * PROCESS_ID_BASE + digit
    return number


def process_id(number: int) -> bytes:
    """GS ( H fn 48: answered with this process ID when all print data before it is printed."""
    return b"\x1d\x28\x48\x06\x00\x30\x30" + process_id_text(number).encode("ascii")


def offline_response(report: OfflineReport) -> bytes:
    """GS ( H fn 49: whether the printer tells by itself that it goes offline."""
    return b"\x1d\x28\x48\x03\x00\x31\x30" + bytes((report,))


def motion_units(x: int, y: int) -> bytes:
    """GS P: positions count in 1/x and 1/y inch."""
    return bytes((0x1D, 0x50, x, y))


def print_area(width: int, height: int) -> bytes:
    """ESC W: the page mode area, from the upper left corner."""
    return b"\x1b\x57\x00\x00\x00\x00" + _pair(width) + _pair(height)


def horizontal_position(x: int) -> bytes:
    """ESC $: the print position from the left."""
    return b"\x1b\x24" + _pair(x)


def vertical_position(y: int) -> bytes:
    """GS $: the print position from the top, in page mode."""
    return b"\x1d\x24" + _pair(y)


def raster_image(width_bytes: int, rows: int, dots: bytes) -> bytes:
    """GS v 0, normal size: rows of bytes, most significant bit left."""
    assert len(dots) == width_bytes * rows <= IMAGE_BYTES_MAX
    return b"\x1d\x76\x30\x00" + _pair(width_bytes) + _pair(rows) + dots


def column_image(dots: bytes) -> bytes:
    """ESC * m = 0: columns of eight dots, most significant bit on top."""
    assert len(dots) <= COLUMN_COUNT_MAX
    return b"\x1b\x2a\x00" + _pair(len(dots)) + dots


def command_bytes_max(profile: Profile) -> int:
    """How long the longest command is that this profile's printer may have got half of."""
    match profile.image:
        case ImageCommand.RASTER:
            return RASTER_HEADER_BYTES + IMAGE_BYTES_MAX
        case ImageCommand.COLUMN:
            return COLUMN_HEADER_BYTES + COLUMN_COUNT_MAX


def clear_by_initialize(profile: Profile) -> bytes:
    """NULs that complete any half-sent command, then ESC @; a fence has to follow (rule 3)."""
    return bytes(command_bytes_max(profile)) + INITIALIZE


def completion_request(profile: Profile, process_number: int) -> bytes:
    """What is answered when the page is printed: GS ( H fn 48 or ESC v."""
    match profile.fence:
        case Fence.PROCESS_ID:
            return process_id(process_number)
        case Fence.PAPER_SENSOR:
            return PAPER_SENSOR_STATUS


def commit(profile: Profile, process_number: int) -> bytes:
    """The one write of CONTRACT 8 rule 6: FF, which prints the page, and the completion request."""
    return FORM_FEED + completion_request(profile, process_number)
