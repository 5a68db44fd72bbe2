from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers import escpos
from agent.drivers.escpos import Identity, OfflineReport, QueuedRequest, RealTimeRequest
from agent.drivers.profile import load_profile


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (escpos.real_time_status(RealTimeRequest.SLIP), "10 04 05"),
        (escpos.real_time_status(RealTimeRequest.PRINTER), "10 04 01"),
        (escpos.CLEAR_BUFFERS, "10 14 08 01 03 14 01 06 02 08"),
        (escpos.CANCEL_SLIP_WAITING, "10 05 03"),
        (escpos.RECOVER_AND_CLEAR, "10 05 02"),
        (escpos.INITIALIZE, "1B 40"),
        (escpos.PAGE_MODE, "1B 4C"),
        (escpos.STANDARD_MODE, "1B 53"),
        (escpos.PRINT_DIRECTION, "1B 54 00"),
        (escpos.PAPER_SENSOR_STATUS, "1B 76"),
        (escpos.FORM_FEED, "0C"),
        (escpos.LOAD_FENCE, "1D 49 01"),
        (escpos.identity(Identity.SERIAL_NUMBER), "1D 49 44"),
        (escpos.queued_status(QueuedRequest.SLIP), "1D 72 03"),
        (escpos.automatic_status(0x26), "1D 61 26"),
        (escpos.counter(138), "1D 67 32 00 8A 00"),
        (escpos.process_id(1), "1D 28 48 06 00 30 30 20 20 20 21"),
        (escpos.offline_response(OfflineReport.WITH_CAUSE), "1D 28 48 03 00 31 30 32"),
        (escpos.motion_units(180, 180), "1D 50 B4 B4"),
        (escpos.print_area(886, 624), "1B 57 00 00 00 00 76 03 70 02"),
        (escpos.horizontal_position(300), "1B 24 2C 01"),
        (escpos.vertical_position(300), "1D 24 2C 01"),
        (escpos.raster_image(2, 1, b"\xaa\x55"), "1D 76 30 00 02 00 01 00 AA 55"),
        (escpos.column_image(b"\xaa\x55"), "1B 2A 00 02 00 AA 55"),
    ],
)
def test_each_command_has_the_bytes_of_the_manual(command: bytes, wanted: str) -> None:
    assert command == bytes.fromhex(wanted)


def test_the_commit_is_the_form_feed_and_the_completion_request_in_one_write() -> None:
    assert escpos.commit(load_profile("page-slip"), 95) == bytes.fromhex(
        "0C 1D 28 48 06 00 30 30 20 20 21 20"
    )
    assert escpos.commit(load_profile("column-slip"), 95) == bytes.fromhex("0C 1B 76")


@given(number=st.integers(0, escpos.PROCESS_ID_COUNT - 1))
def test_a_process_id_is_its_number_and_grows_with_it(number: int) -> None:
    text = escpos.process_id_text(number)
    assert len(text) == 4
    assert all(" " <= character <= "~" for character in text)
    assert escpos.process_id_number(text) == number
    if number:
        assert escpos.process_id_text(number - 1) < text


@pytest.mark.parametrize("number", [-1, 95**4])
def test_a_process_id_that_would_wrap_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="process ID"):
        escpos.process_id_text(number)


@pytest.mark.parametrize("text", ["", "   ", "     ", "   \x7f", "   é"])
def test_a_text_that_is_no_process_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="four characters"):
        escpos.process_id_number(text)


@pytest.mark.parametrize("name", ["page-slip", "column-slip"])
def test_the_nuls_complete_any_command_that_may_be_half_sent(name: str) -> None:
    profile = load_profile(name)
    clear = escpos.clear_by_initialize(profile)
    assert clear.endswith(b"\0\x1b\x40")
    assert set(clear[:-2]) == {0}
    longest = {
        "page-slip": escpos.raster_image(32, 256, bytes(8192)),
        "column-slip": escpos.column_image(bytes(1023)),
    }[name]
    # Even a header alone, its last byte unsent, is completed with all the dots that it announces.
    assert len(clear) - 2 >= len(longest)


def test_no_name_offers_the_commands_that_print_on_another_book() -> None:
    built = [value for name in escpos.__all__ if isinstance(value := getattr(escpos, name), bytes)]
    built += [escpos.real_time_status(request) for request in RealTimeRequest]
    assert built
    for command in built:
        assert b"\x10\x05\x01" not in command  # DLE ENQ 1
        assert b"\x1d\x28\x41" not in command  # GS ( A
        assert b"\x1b\x66" not in command  # ESC f
    assert {int(request) for request in RealTimeRequest} == {1, 2, 3, 4, 5}
