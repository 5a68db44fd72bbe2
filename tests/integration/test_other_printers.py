"""Printers that PRINTERS.md allows and the virtual one is not: each prints its books, without a question to anyone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench_line import XOFF, XON
from printer_bench import BOOKS, FIRST, SECOND, Bench

from agent.drivers.virtual.mechanics import BookPlace
from agent.drivers.virtual.model import VirtualPrinter
from agent.live import PrinterState
from agent.queue.states import Phase

SENSORS, ONE_SENSOR = 0x60, 0x40
ORDINARY = pytest.mark.parametrize("profile", ["page-slip", "column-slip"])


def is_automatic(reply: bytes) -> bool:
    return len(reply) == 4 and reply[0] & 0x93 == 0x10


def prints(bench: Bench) -> None:
    bench.submit_jobs()
    bench.run(
        lambda: bench.phase(SECOND) is Phase.COMPLETED and bench.view().state is PrinterState.IDLE
    )
    for job in (FIRST, SECOND):
        book = bench.book(BOOKS[job])
        assert bytes(book.rows) == bench.raster(job).rows
        assert len(book.passes) == 1
        assert bench.events(job)[1:] == ["print-committed", "print-completed"]
        assert bench.job(job).attempts == 1
    assert bench.verify().faults == ()


@ORDINARY
def test_each_sensor_is_told_by_itself(benches, profile):
    bench = benches(profile)
    before = [SENSORS]

    def spoil(reply):
        if not is_automatic(reply):
            return [(0.0, reply)]
        steps = [reply]
        if abs(reply[2] - before[0]) == SENSORS:
            steps.insert(0, reply[:2] + bytes((ONE_SENSOR,)) + reply[3:])
        before[0] = reply[2]
        return [(0.2 * at, step) for at, step in enumerate(steps)]

    bench.line.spoil = spoil
    prints(bench)


@ORDINARY
def test_bits_of_a_drawer_and_of_a_paper_roll_are_no_news_of_a_book(benches, profile):
    bench = benches(profile)

    def spoil(reply):
        if is_automatic(reply):
            reply = bytes((reply[0] | 0x04, reply[1] | 0x01, reply[2] | 0x0F, reply[3]))
        return [(0.0, reply)]

    bench.line.spoil = spoil
    prints(bench)


@ORDINARY
def test_a_printer_that_is_offline_while_no_book_is_in(benches, profile):
    bench = benches(profile)

    def spoil(reply):
        if is_automatic(reply) and reply[2] & SENSORS:
            reply = bytes((reply[0] | 0x08, *reply[1:]))
        return [(0.0, reply)]

    bench.line.spoil = spoil
    prints(bench)


class WaitsAlways(VirtualPrinter):
    """Says that it waits for a book whenever none is in (H5II)."""

    def _status(self):
        status = super()._status()
        return replace(status, waiting=status.waiting or status.place is BookPlace.NONE)


@ORDINARY
def test_a_printer_that_says_it_waits_for_a_book_whenever_none_is_in(benches, profile):
    # So little of the page is taken at once that its fence takes seconds.
    prints(benches(profile, printer=WaitsAlways, make={"bytes_per_second": 960.0}))


@ORDINARY
def test_flow_bytes_on_a_line_that_uses_none(benches, profile):
    bench = benches(profile)

    def spoil(reply):
        if is_automatic(reply):
            reply = reply[:2] + XOFF + reply[2:3] + XON + reply[3:]
        return [(0.0, reply), (0.01, XON)]

    bench.line.spoil = spoil
    prints(bench)


@ORDINARY
def test_replies_that_come_together_after_a_pause(benches, profile):
    bench = benches(profile)
    bench.line.spoil = lambda reply: [(0.25 - bench.time % 0.25, reply)]
    prints(bench)


@ORDINARY
def test_a_slow_line_with_a_small_buffer(benches, profile):
    prints(benches(profile, make={"bytes_per_second": 480.0, "receive_buffer_size": 45}))


@ORDINARY
def test_a_printer_that_is_switched_on_after_the_agent(benches, profile):
    bench = benches(profile, make={"start_seconds": 4.0})
    bench.printer.power_off(bench.time)
    bench.after(30.0, lambda: bench.printer.power_on(bench.time))
    prints(bench)


@pytest.mark.parametrize("kept", ["lost", "durable", "unknown"])
@pytest.mark.parametrize("moment", ["printed", "ejected"])
def test_a_completion_reply_before_or_after_the_book_was_put_out(benches, kept, moment):
    prints(
        benches(
            make={"completion_moment": moment, "counter_kept": kept},
            overrides={"counter_kept": kept},
        )
    )


@pytest.mark.parametrize("late_s", [0.5, 1.9, 2.1, 4.9])
def test_a_printer_that_takes_its_time_to_clear(benches, late_s):
    bench = benches()
    bench.line.spoil = lambda reply: [(late_s if reply == b"\x37\x25\0" else 0.0, reply)]
    prints(bench)


@pytest.mark.parametrize(
    "serial", ["7", "K4 0017 ", "s/n:ab-12_34.56", "0", "9" * 80], ids=range(5)
)
def test_serial_numbers_of_other_forms_are_one_printers_own(benches, serial):
    bench = benches(make={"serial": serial})
    prints(bench)
    assert bench.view().identity.serial == serial


def test_a_model_name_in_another_code_page_and_a_counter_of_ten_digits(benches):
    bench = benches()

    def spoil(reply):
        if reply.startswith(b"\x5fVIRTUAL PAGE"):
            reply = b"\x5fDR\x9aCKER \xfc\0"
        elif reply[:1] == b"\x5f" and reply[1:-1].isdigit():
            reply = b"\x5f" + reply[1:-1].rjust(10, b"0") + b"\0"
        return [(0.0, reply)]

    bench.line.spoil = spoil
    prints(bench)
    assert bench.view().identity.model == "DR\\x9aCKER \\xfc"
