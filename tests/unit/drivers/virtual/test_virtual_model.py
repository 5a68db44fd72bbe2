"""The virtual printer's dangers, one test each, as PRINTERS.md tells them of real printers."""

from __future__ import annotations

import random

import pytest

from agent.drivers.virtual.make import printer_make
from agent.drivers.virtual.model import Book, BookPlace, Mode, VirtualPrinter
from agent.errors import RequestRefused

WIDTH, HEIGHT = 64, 24
AUTOMATIC = b"\x1da\x26"
NO_BOOK, IN, EJECTED = b"\x10\0\x60\x02", b"\x10\0\0\0", b"\x10\0\x20\x02"
SLIP = b"\x10\x04\x05"
CLEAR = bytes.fromhex("10140801031401060208")
CLEARED = bytes.fromhex("372500")
COUNTER = b"\x1dg2\0\x8a\0"
ROWS = [b"\xff\x01", b"\x80\xff", b"\x0f\xf0"]
IMAGE = b"\x1dv0\0\x02\0\x03\0" + b"".join(ROWS)
PAGE = b"\x1bL\x1b$\x08\0\x1d$\x14\0" + IMAGE  # rows 17 to 19, from dot 8 on


def process_id(text: bytes) -> bytes:
    return b"\x1d(H\x06\x00\x30\x30" + text


def replied(text: bytes) -> bytes:
    return b"\x37\x22" + text + b"\0"


class Bench:
    """A printer, its line and a clock: what is not taken waits in the line."""

    def __init__(self, kind: str = "page-slip", **changes: object) -> None:
        make = printer_make(kind, **{"width": WIDTH, "height": HEIGHT, **changes})
        self.kept: dict[str, int] = {}
        self.printer = VirtualPrinter(make, nonvolatile=self.kept)
        self.now = 0.0
        self.line = b""

    def send(self, data: bytes) -> None:
        self.line += data
        self.line = self.line[self.printer.receive(self.line, self.now) :]

    def run(self, *, rows: int | None = None) -> None:
        """Until nothing happens by itself, or so many more rows are inked."""
        start = self.printer.counter
        while True:
            self.send(b"")
            at = self.printer.next_change_at()
            if at is None or (rows is not None and self.printer.counter - start >= rows):
                return
            assert at >= self.now or at == pytest.approx(self.now)
            self.now = max(at, self.now)
            self.printer.advance(self.now)

    def told(self) -> bytes:
        return self.printer.take_output()

    def ask(self, data: bytes) -> bytes:
        self.told()
        self.send(data)
        self.run()
        return self.told()

    def insert(self, number: str = "C1") -> Book:
        book = Book(number, WIDTH, HEIGHT)
        self.printer.insert_book(book, self.now)
        return book

    def remove(self) -> Book | None:
        return self.printer.remove_book(self.now)

    def power_cycle(self) -> None:
        self.printer.power_off(self.now)
        self.printer.power_on(self.now)


def dots(book: Book) -> list[tuple[int, bytes]]:
    raster = book.raster(dpi_x=180, dpi_y=180)
    return [(y, raster.row(y)) for y in range(HEIGHT) if any(raster.row(y))]


PRINTED = [(17 + index, b"\0" + row + bytes(5)) for index, row in enumerate(ROWS)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


# The good course


def test_page_is_printed_once_and_every_step_is_told(bench: Bench) -> None:
    assert bench.ask(AUTOMATIC) == NO_BOOK
    assert bench.ask(PAGE + b"\x1dI\x01") == b"\x21"
    book = bench.insert()
    assert bench.told() == IN
    assert bench.ask(SLIP) == b"\x12"
    assert bench.ask(b"\x0c" + process_id(b"0001")) == replied(b"0001") + EJECTED
    assert dots(book) == PRINTED
    assert [one.rows for one in book.passes] == [3]
    assert bench.printer.mode is Mode.STANDARD
    assert bench.remove() is book
    assert bench.told() == NO_BOOK


def test_page_in_memory_moves_nothing(bench: Bench) -> None:
    book = bench.insert()
    bench.send(PAGE)
    bench.run()
    assert not book.inked()
    assert bench.printer.place is BookPlace.IN


def test_image_is_anchored_by_its_lower_left_within_the_print_area(bench: Bench) -> None:
    area = b"\x1bW" + bytes([4, 0, 2, 0, 16, 0, 16, 0])
    bench.send(b"\x1bL" + area + b"\x1b$\x08\0\x1d$\x03\0" + IMAGE)
    book = bench.insert()
    bench.send(b"\x0c")
    bench.run()
    # Dots 12 to 19 of the area's 4 to 19 are left of the image's 16.
    assert dots(book) == [
        (2, bytes.fromhex("000ff00000000000")),
        (3, bytes.fromhex("0008000000000000")),
        (4, bytes.fromhex("0000f00000000000")),
    ]


def test_motion_units_are_converted(bench: Bench) -> None:
    bench.send(b"\x1bL\x1dP\x5a\x5a\x1b$\x04\0\x1d$\x0a\0" + IMAGE)
    book = bench.insert()
    bench.send(b"\x0c")
    bench.run()
    assert dots(book) == PRINTED


def test_column_images_are_eight_dots_high() -> None:
    bench = Bench("column-slip")
    bench.send(b"\x1bL\x1b$\x02\0\x1d$\x08\0\x1b*\0\x03\0\x80\x01\xff")
    book = bench.insert()
    assert bench.ask(b"\x0c\x1bv") == b"\x02"
    inked = dict(dots(book))
    assert set(inked) == set(range(8))
    assert inked[0] == bytes.fromhex("2800000000000000")
    assert inked[7] == bytes.fromhex("1800000000000000")
    assert inked[3] == bytes.fromhex("0800000000000000")


def test_can_deletes_the_print_area_and_esc_s_the_page(bench: Bench) -> None:
    book = bench.insert()
    bench.send(PAGE + b"\x18\x1b\x0c")
    bench.run()
    bench.send(PAGE[2:] + b"\x1bS")
    bench.run()
    assert bench.printer.mode is Mode.STANDARD
    assert not book.inked()


def test_esc_ff_keeps_the_page_so_that_a_second_one_is_a_second_print(bench: Bench) -> None:
    book = bench.insert()
    bench.send(PAGE + b"\x1b\x0c")
    bench.run()
    assert bench.printer.mode is Mode.PAGE
    assert len(book.passes) == 1
    bench.send(b"\x0c")
    bench.run()
    bench.remove()
    other = bench.insert("C2")
    bench.run()
    assert len(book.passes) == 2 or other.inked()


# Real time


@pytest.mark.parametrize("hidden", [SLIP, b"\x10\x05\x03", CLEAR])
def test_real_time_command_in_image_data_is_carried_out(bench: Bench, hidden: bytes) -> None:
    body = hidden.ljust(10, b"\0")
    bench.send(b"\x1bL\x1d$\x0a\0\x1dv0\0\x01\0\x0a\0" + body)
    bench.run()
    told = bench.told()
    if hidden == SLIP:
        assert told == b"\x72"
        assert bench.printer.mode is Mode.PAGE
    elif hidden == CLEAR:
        assert told == CLEARED
        assert bench.printer.mode is Mode.STANDARD
    else:
        assert told == b""


@pytest.mark.parametrize("seed", range(20))
def test_real_time_commands_are_heard_in_any_fragmentation(seed: int) -> None:
    order = random.Random(seed)
    bench = Bench()
    stream = AUTOMATIC + SLIP + b"\x10\x10\x04\x01" + b"\x10\x14\x08\x01\x03" + SLIP + CLEAR
    while stream:
        size = order.randrange(1, 5)
        bench.send(stream[:size])
        stream = stream[size:]
        bench.run()
    assert bench.told() == NO_BOOK + b"\x72\x12\x72" + CLEARED


def test_status_is_answered_while_it_prints(bench: Bench) -> None:
    bench.insert()
    bench.send(PAGE + b"\x0c")
    bench.run(rows=1)
    bench.told()
    bench.send(SLIP + b"\x10\x04\x01")
    assert bench.told() == b"\x12\x12"


def test_identity_is_answered_before_the_printing_ends_but_esc_v_after(bench: Bench) -> None:
    book = bench.insert()
    bench.send(PAGE + b"\x0c\x1dI\x01")
    bench.run(rows=1)
    assert bench.told() == b"\x21"
    assert len(dots(book)) == 1
    assert bench.ask(b"\x1bv") == b"\x02"
    assert dots(book) == PRINTED


def test_full_receive_buffer_stalls_the_line_but_hears_real_time_commands() -> None:
    bench = Bench(receive_buffer_size=32)
    bench.send(b"\x0c" + bytes(200))
    bench.run()
    assert len(bench.line) == 200 - 32
    bench.line = b""  # the host drops what it had not sent
    assert bench.ask(SLIP) == b"\x7a"
    bench.send(CLEAR[:4])
    bench.send(CLEAR[4:])
    assert bench.told() == CLEARED
    assert bench.printer.received_size == 0


def test_clear_across_the_end_of_the_receive_buffer_is_heard() -> None:
    bench = Bench(receive_buffer_size=32)
    bench.send(b"\x0c" + bytes(28))
    bench.run()
    assert bench.ask(CLEAR) == CLEARED
    assert bench.line == b""


def test_xoff_is_sent_before_the_buffer_is_full_and_xon_after() -> None:
    bench = Bench(receive_buffer_size=32, flow="xonxoff")
    bench.send(b"\x0c")
    bench.run()
    bench.send(bytes(30))
    assert bench.told() == b"\x13"
    bench.insert()
    bench.run()
    assert bench.told() == b"\x11"


# Clearing


def test_clear_drops_a_loaded_page_and_process_ids_without_reply(bench: Bench) -> None:
    bench.insert()
    bench.send(PAGE + b"\x0c" + process_id(b"0001"))
    bench.run(rows=1)
    assert bench.ask(CLEAR) == CLEARED
    assert bench.ask(b"\x1bv") == b"\0"  # the book is still in, half printed
    assert bench.printer.place is BookPlace.IN


def test_clear_abandons_a_half_sent_image(bench: Bench) -> None:
    bench.send(PAGE[:-3])
    bench.run()
    assert bench.ask(CLEAR) == CLEARED
    assert bench.ask(b"\x1dI\x01") == b"\x21"


def test_identity_after_a_half_sent_image_is_swallowed(bench: Bench) -> None:
    bench.send(PAGE[:-3])
    bench.run()
    assert bench.ask(b"\x1dI\x01") == b""


def test_column_printer_ignores_what_it_does_not_know() -> None:
    bench = Bench("column-slip")
    unknown = process_id(b"0001") + b"\x1dI\x44" + b"\x1dI\x43" + COUNTER + CLEAR + IMAGE
    assert bench.ask(unknown) == b""
    assert bench.ask(b"\x1dI\x01\x1bv") == b"\x02\x03"


def test_column_printer_is_cleared_by_nuls_and_initialization() -> None:
    bench = Bench("column-slip")
    bench.send(b"\x1bL\x1b*\0\x20\0" + bytes(3))
    bench.run()
    assert bench.ask(bytes(40) + b"\x1b@\x1dI\x01") == b"\x02"
    assert bench.printer.mode is Mode.STANDARD


# A printer that lost its memory


def test_lost_memory_turns_the_form_feed_into_ejecting_a_blank_book_that_is_answered(
    bench: Bench,
) -> None:
    bench.send(PAGE)
    bench.run()
    bench.power_cycle()
    book = bench.insert()
    assert bench.ask(b"\x0c" + process_id(b"0001")) == replied(b"0001")
    assert bench.printer.place is BookPlace.EJECTED
    assert not book.inked()
    assert bench.printer.counter == 0


def test_stalled_rest_of_a_page_is_printed_by_a_printer_that_lost_its_memory(bench: Bench) -> None:
    book = bench.insert()
    bench.send(b"\x1bL\x1d$\x0a\0" + IMAGE)
    bench.run()
    bench.power_cycle()
    bench.send(b"\x1d$\x14\0" + IMAGE + b"\x0c")
    bench.run()
    assert book.inked()
    assert not book.passes[0].page_mode


def test_stray_bytes_of_an_image_are_printed_as_characters(bench: Bench) -> None:
    book = bench.insert()
    bench.send(b"passport\n")
    bench.run()
    assert book.inked_rows() > 5


def test_form_feed_without_a_book_waits_and_inks_whatever_comes(bench: Bench) -> None:
    bench.send(PAGE + b"\x0c" + process_id(b"0001"))
    bench.run()
    assert bench.ask(SLIP) == b"\x7a"
    assert bench.ask(b"\x1dI\x01") == b""
    book = bench.insert("WRONG")
    bench.run()
    assert dots(book) == PRINTED
    assert bench.told() == b"\x21" + replied(b"0001")


def test_enq_3_ends_the_waiting_and_only_that(bench: Bench) -> None:
    bench.send(PAGE + b"\x10\x05\x03")
    bench.run()
    assert bench.printer.mode is Mode.PAGE
    bench.send(b"\x0c" + process_id(b"0001"))
    bench.run()
    bench.send(b"\x10\x05\x03")
    assert not bench.printer.waiting_for_book
    book = bench.insert()
    assert bench.ask(b"\x1dI\x01") == b"\x21"
    assert not book.inked()


def test_automatic_status_is_off_after_power_on(bench: Bench) -> None:
    bench.ask(AUTOMATIC)
    bench.power_cycle()
    bench.insert()
    bench.run()
    assert bench.told() == b""


def test_automatic_status_tells_only_what_it_watches(bench: Bench) -> None:
    bench.ask(b"\x1da\x02")
    bench.insert()
    assert bench.told() == b""
    bench.printer.open_cover(bench.now)
    assert bench.told() == b"\x38\0\0\0"


def test_unsent_replies_are_held_and_gone_with_the_power(bench: Bench) -> None:
    bench.insert()
    bench.send(PAGE + b"\x0c" + process_id(b"0001"))
    bench.run()
    bench.printer.power_off(bench.now)
    bench.printer.power_on(bench.now)
    assert bench.told() == b""


def test_only_the_newest_unsent_process_id_is_kept(bench: Bench) -> None:
    bench.send(process_id(b"0001") + process_id(b"0002"))
    bench.run()
    assert bench.told() == replied(b"0002")


def test_process_id_goes_before_the_clear_reply(bench: Bench) -> None:
    bench.send(CLEAR + process_id(b"0001"))
    bench.run()
    assert bench.told() == replied(b"0001") + CLEARED


def test_printer_that_is_off_takes_nothing(bench: Bench) -> None:
    bench.printer.power_off(bench.now)
    assert bench.printer.receive(b"\x10\x04\x01", bench.now) == 0
    assert bench.printer.next_change_at() is None


def test_printer_that_starts_takes_nothing_until_it_has() -> None:
    bench = Bench(start_seconds=2.0)
    assert bench.printer.receive(SLIP, 1.0) == 0
    assert bench.printer.receive(SLIP, 2.0) == 3


# Power lost in the middle, and the counters


@pytest.mark.parametrize(("kept", "after"), [("lost", 0), ("durable", 2), ("unknown", 0)], ids=str)
def test_counter_after_power_lost_in_the_second_row(kept: str, after: int) -> None:
    bench = Bench(counter_kept=kept)
    book = bench.insert()
    bench.send(PAGE + b"\x0c")
    bench.run(rows=1)
    # A durable counter moves before its row is inked: run() stopped at the first row's start.
    bench.now += bench.printer.make.row_seconds * (1.5 if kept == "durable" else 0.5)
    bench.power_cycle()
    assert len(dots(book)) == 1
    assert bench.printer.counter == after


@pytest.mark.parametrize("kept", ["lost", "durable", "unknown"])
def test_counter_moves_by_exactly_the_inked_rows(kept: str) -> None:
    bench = Bench(counter_kept=kept)
    bench.insert()
    bench.send(PAGE + b"\x0c" + process_id(b"0001"))
    bench.run()
    assert bench.ask(COUNTER) == b"\x5f3\0"


def test_durable_counter_is_never_behind_the_ink_wherever_the_power_goes() -> None:
    step = 0
    while True:
        bench = Bench(counter_kept="durable")
        book = bench.insert()
        bench.send(PAGE + b"\x0c")
        for _ in range(step):
            at = bench.printer.next_change_at()
            if at is None:
                return
            bench.now = max(bench.now, at)
            bench.printer.advance(bench.now)
        bench.power_cycle()
        assert bench.printer.counter >= len(dots(book))
        step += 1


def test_durable_counter_counts_the_first_row_after_an_abandoned_one() -> None:
    bench = Bench(counter_kept="durable")
    bench.insert()
    bench.send(PAGE + b"\x0c")
    bench.run(rows=1)
    bench.ask(CLEAR)
    bench.remove()
    before = bench.printer.counter
    bench.insert("C2")
    bench.send(PAGE + b"\x0c")
    bench.run()
    assert bench.printer.counter - before == 3


def test_resettable_counter_is_reset_and_the_cumulative_one_is_not(bench: Bench) -> None:
    bench.insert()
    bench.send(PAGE + b"\x0c")
    bench.run()
    assert bench.ask(b"\x1dg2\0\x0a\0") == b"\x5f3\0"
    bench.send(b"\x1dg0\0\x0a\0\x1dg0\0\x8a\0")
    bench.run()
    assert bench.ask(b"\x1dg2\0\x0a\0" + COUNTER) == b"\x5f0\0\x5f3\0"


# Trouble


def test_open_cover_in_the_middle_stops_the_page_until_it_is_cleared(bench: Bench) -> None:
    bench.ask(AUTOMATIC + b"\x1d(H\x03\0\x31\x30\x02")
    book = bench.insert()
    bench.send(PAGE + b"\x0c" + process_id(b"0001"))
    bench.run(rows=1)
    bench.told()
    bench.printer.open_cover(bench.now)
    bench.run()
    assert bench.told() == b"\x38\x04\0\0" + b"\x37\x23\x41\0"
    assert bench.ask(b"\x10\x04\x02\x10\x04\x03") == b"\x56\x16"
    bench.printer.close_cover(bench.now)
    bench.run()
    assert bench.told() == b"\x18\x04\0\0"
    assert len(dots(book)) == 1
    assert bench.ask(CLEAR) == CLEARED + b"\x10\0\0\0"
    bench.run()
    assert len(dots(book)) == 1


def test_open_cover_of_an_idle_printer_is_no_error(bench: Bench) -> None:
    bench.printer.open_cover(bench.now)
    assert bench.ask(b"\x1dI\x01") == b""
    bench.printer.close_cover(bench.now)
    bench.run()
    assert bench.told() == b"\x21"


def test_clear_while_the_cause_is_there_leaves_the_error(bench: Bench) -> None:
    bench.printer.jam(bench.now)
    assert bench.ask(CLEAR) == CLEARED
    bench.printer.clear_jam(bench.now)
    assert bench.printer.error
    bench.ask(CLEAR)
    assert not bench.printer.error


def test_enq_1_prints_the_rest_of_the_page_on_the_next_book(bench: Bench) -> None:
    first = bench.insert("C1")
    bench.send(PAGE + b"\x0c")
    bench.run(rows=1)
    bench.printer.jam(bench.now)
    bench.printer.clear_jam(bench.now)
    bench.send(b"\x10\x05\x01")
    assert bench.printer.place is BookPlace.EJECTED
    bench.remove()
    second = bench.insert("C2")
    bench.run()
    assert len(dots(first)) == 1
    assert len(dots(second)) == 2


def test_enq_2_ejects_the_book_and_forgets_the_page(bench: Bench) -> None:
    bench.insert("C1")
    bench.send(PAGE + b"\x0c")
    bench.run(rows=1)
    bench.printer.jam(bench.now)
    bench.send(b"\x10\x05\x02")
    assert bench.printer.error
    bench.printer.clear_jam(bench.now)
    bench.send(b"\x10\x05\x02")
    assert not bench.printer.error
    bench.remove()
    second = bench.insert("C2")
    bench.run()
    assert not second.inked()


def test_offline_response_is_off_by_default_and_can_be_without_cause(bench: Bench) -> None:
    bench.printer.open_cover(bench.now)
    bench.printer.close_cover(bench.now)
    assert bench.told() == b""
    bench.ask(b"\x1d(H\x03\0\x31\x30\x01")
    bench.printer.open_cover(bench.now)
    assert bench.told() == b"\x37\x23\0"


def test_book_pulled_in_the_middle_makes_the_rest_wait_for_the_next_one(bench: Bench) -> None:
    first = bench.insert("C1")
    bench.send(PAGE + b"\x0c" + process_id(b"0001"))
    bench.run(rows=1)
    bench.remove()
    bench.run()
    assert bench.ask(SLIP) == b"\x7a"
    second = bench.insert("C2")
    bench.run()
    assert len(dots(first)) == 1
    assert second.inked()


def test_standard_mode_past_the_end_of_the_book_goes_on_with_the_next(bench: Bench) -> None:
    first = bench.insert("C1")
    bench.send(b"\x1dv0\0\x01\0\x20\0" + b"\xff" * 32)
    bench.run()
    assert first.inked_rows() == HEIGHT
    bench.remove()
    second = bench.insert("C2")
    bench.run()
    assert second.inked_rows() == 32 - HEIGHT


def test_ejected_book_is_not_printed_again_until_it_is_put_in_again(bench: Bench) -> None:
    book = bench.insert()
    bench.send(PAGE + b"\x0c")
    bench.run()
    bench.send(PAGE + b"\x0c")
    bench.run()
    assert len(book.passes) == 1
    bench.remove()
    bench.printer.insert_book(book, bench.now)
    bench.run()
    assert [one.rows for one in book.passes] == [3, 3]


def test_second_book_does_not_fit(bench: Bench) -> None:
    bench.insert("C1")
    with pytest.raises(RequestRefused):
        bench.insert("C2")


# Garbage


@pytest.mark.parametrize("seed", range(30))
def test_garbage_neither_crashes_nor_hangs_and_a_clear_ends_it(seed: int) -> None:
    order = random.Random(seed)
    bench = Bench(bytes_per_second=float("inf"), row_seconds=0.0, feed_seconds=0.0)
    bench.insert()
    alphabet = bytes(range(256)) + b"\x1b\x1d\x10" * 40 + b"\x0c*v0$LW(" * 10
    bench.send(bytes(order.choice(alphabet) for _ in range(3000)))
    bench.run()
    bench.line = b""
    assert bench.ask(b"\0" * 8 + CLEAR).endswith(CLEARED)
    assert bench.printer.received_size == 0
    assert bench.printer.mode is Mode.STANDARD
