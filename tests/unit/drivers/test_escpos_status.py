from __future__ import annotations

import pytest

from agent.drivers.escpos import (
    FAULTS,
    NO_CONDITION,
    AutomaticStatus,
    Condition,
    RealTimeRequest,
    RealTimeStatus,
    SlipSensors,
    automatic_conditions,
    automatic_slip,
    real_time_conditions,
    real_time_slip,
)
from agent.drivers.profile import load_profile


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (0x12, SlipSensors(book_in=True, book_out=False, waiting=False)),
        (0x72, SlipSensors(book_in=False, book_out=True, waiting=False)),
        (0x7A, SlipSensors(book_in=False, book_out=True, waiting=True)),
        (0x32, SlipSensors(book_in=False, book_out=False, waiting=False)),
        (0x52, SlipSensors(book_in=False, book_out=False, waiting=False)),
    ],
)
def test_a_book_on_its_way_is_neither_in_nor_out(status: int, wanted: SlipSensors) -> None:
    assert real_time_slip(RealTimeStatus(status), load_profile("page-slip")) == wanted


def test_a_printer_with_one_sensor_is_read_by_its_own_mask() -> None:
    profile = load_profile("page-slip", {"slip_mask": 0x20, "automatic_slip_mask": 0x20})
    assert real_time_slip(RealTimeStatus(0x52), profile).book_in
    assert real_time_slip(RealTimeStatus(0x32), profile).book_out
    assert automatic_slip(AutomaticStatus(b"\x14\x00\x40\x02"), profile).book_in


@pytest.mark.parametrize(
    ("third", "book_in", "book_out"),
    [(0x00, True, False), (0x60, False, True), (0x20, False, False), (0x40, False, False)],
)
def test_an_automatic_status_tells_where_the_book_is(
    third: int, book_in: bool, book_out: bool
) -> None:
    status = AutomaticStatus(bytes((0x14, 0, third, 0)))
    wanted = SlipSensors(book_in=book_in, book_out=book_out, waiting=None)
    assert automatic_slip(status, load_profile("column-slip")) == wanted


@pytest.mark.parametrize(
    ("request_", "status", "wanted"),
    [
        (RealTimeRequest.PRINTER, 0x16, NO_CONDITION),  # b2 is the drawer
        (RealTimeRequest.PRINTER, 0x1A, Condition.OFFLINE),
        (RealTimeRequest.OFFLINE_CAUSE, 0x16, Condition.COVER_OPEN),
        (RealTimeRequest.OFFLINE_CAUSE, 0x1A, Condition.FEED_BUTTON),
        (RealTimeRequest.OFFLINE_CAUSE, 0x32, Condition.PAPER_END),
        (RealTimeRequest.OFFLINE_CAUSE, 0x52, Condition.ERROR),
        (RealTimeRequest.ERROR_CAUSE, 0x16, Condition.MECHANICAL_ERROR),
        (RealTimeRequest.ERROR_CAUSE, 0x1A, Condition.CUTTER_ERROR),
        (RealTimeRequest.ERROR_CAUSE, 0x32, Condition.UNRECOVERABLE_ERROR),
        (RealTimeRequest.ERROR_CAUSE, 0x52, Condition.RECOVERABLE_ERROR),
        (RealTimeRequest.ROLL_PAPER, 0x7E, NO_CONDITION),
        (RealTimeRequest.SLIP, 0x7E, NO_CONDITION),
    ],
)
def test_each_bit_of_a_real_time_status_says_what_is_wrong(
    request_: RealTimeRequest, status: int, wanted: Condition
) -> None:
    assert real_time_conditions(request_, RealTimeStatus(status)) == wanted


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("14 00 60 02", NO_CONDITION),
        ("18 00 60 02", Condition.OFFLINE),
        ("38 00 60 02", Condition.OFFLINE | Condition.COVER_OPEN),
        ("50 00 60 02", Condition.FEED_BUTTON),
        ("18 04 60 02", Condition.OFFLINE | Condition.MECHANICAL_ERROR),
        ("18 08 60 02", Condition.OFFLINE | Condition.CUTTER_ERROR),
        ("18 20 60 02", Condition.OFFLINE | Condition.UNRECOVERABLE_ERROR),
        ("18 40 60 02", Condition.OFFLINE | Condition.RECOVERABLE_ERROR),
    ],
)
def test_each_bit_of_an_automatic_status_says_what_is_wrong(status: str, wanted: Condition) -> None:
    assert automatic_conditions(AutomaticStatus(bytes.fromhex(status))) == wanted


def test_no_paper_and_a_button_are_no_faults_but_cover_and_errors_are() -> None:
    harmless = Condition.OFFLINE | Condition.FEED_BUTTON | Condition.PAPER_END
    assert not harmless & FAULTS
    assert harmless | FAULTS == ~NO_CONDITION
