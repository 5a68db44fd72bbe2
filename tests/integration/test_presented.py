"""Presented books, the calibrated corner, and a zone that must be read back: through the real worker to the ink."""

from __future__ import annotations

from functools import partial

import pytest
from printer_bench import BOOKS, FIRST, SECOND, Step

from agent.errors import RequestRefused
from agent.live import PrinterReason, PrinterState, Situation
from agent.queue import acts, attempts
from agent.queue.states import Phase

FIRST_BOOK, SECOND_BOOK = BOOKS[FIRST], BOOKS[SECOND]
DOT_MM = 25.4 / 45


class Technician:
    """Presents books when the test says so, and has hands that do nothing by themselves."""

    def __init__(self, bench):
        self.bench = bench
        bench.hands_full = True
        bench.submit_jobs()

    def ready(self):
        return self.bench.view().situation is Situation.READY

    def presents(self, number, *, refused=None):
        """Yields until the answer is there."""
        answer = self.bench.present(number)
        yield answer.done
        if refused is None:
            assert answer.result() == (FIRST if number == FIRST_BOOK else SECOND)
        else:
            with pytest.raises(RequestRefused, match=refused) as told:
                answer.result()
            assert told.value.status in (404, 409)

    def loaded(self, job=FIRST):
        return self.bench.phase(job) is Phase.LOADED

    def prints(self, number, job):
        """From the presented number to the book in the hand."""
        yield from self.presents(number)
        yield partial(self.loaded, job)
        self.bench.insert(number)
        yield lambda: self.bench.phase(job) is Phase.COMPLETED
        self.bench.remove()


@pytest.fixture
def technician(benches):
    return Technician(benches(book_check=True))


def blank(bench):
    return not any(book.inked() for book in bench.books.values())


def test_a_book_that_nobody_presented_is_not_printed(technician):
    bench = technician.bench

    def story():
        yield technician.ready
        bench.insert(FIRST_BOOK)
        yield bench.passed(30.0)

    bench.play(story())
    assert bench.phase() is bench.phase(SECOND) is Phase.WAITING
    assert b"\x1bL" not in bench.line.sent
    assert PrinterReason.BOOK_REMOVAL_WANTED in bench.view().reasons


def test_the_presented_books_job_goes_first_and_a_number_serves_one_print(technician):
    bench = technician.bench

    def story():
        yield technician.ready
        yield from technician.prints(SECOND_BOOK, SECOND)
        assert bench.phase() is Phase.WAITING
        bench.insert(FIRST_BOOK)
        yield bench.passed(10.0)
        assert bench.phase() is Phase.WAITING
        bench.remove()
        yield from technician.prints(FIRST_BOOK, FIRST)

    bench.play(story())
    for job in (FIRST, SECOND):
        assert bytes(bench.book(BOOKS[job]).rows) == bench.raster(job).rows
    assert bench.events() == [
        "job-accepted",
        "book-presented",
        "print-committed",
        "print-completed",
    ]


def test_a_number_is_used_up_by_taking_out_the_book_that_went_in_after_it(technician):
    bench = technician.bench

    def story():
        yield technician.ready
        bench.at(Step.LOADING, lambda: bench.insert(FIRST_BOOK))
        yield from technician.presents(FIRST_BOOK)
        yield lambda: bench.view().removal_wanted
        yield bench.passed(5.0)
        bench.remove()
        yield lambda: bench.phase() is Phase.WAITING
        yield lambda: bench.view().state is PrinterState.IDLE
        assert bench.view().presented is None
        yield from technician.prints(FIRST_BOOK, FIRST)

    bench.play(story())
    assert bytes(bench.book(FIRST_BOOK).rows) == bench.raster().rows


def test_a_number_presented_again_while_its_book_is_asked_out_stands_for_the_next_insertion(
    technician,
):
    bench = technician.bench

    def story():
        yield technician.ready
        yield from technician.presents(FIRST_BOOK)
        yield technician.loaded
        bench.line.pull()
        bench.insert(FIRST_BOOK)
        yield lambda: bench.view().situation is Situation.AWAY
        bench.line.plug()
        yield lambda: bench.view().removal_wanted
        yield from technician.presents(FIRST_BOOK)
        bench.remove()
        yield technician.loaded
        bench.insert(FIRST_BOOK)
        yield lambda: bench.phase() is Phase.COMPLETED

    bench.play(story())
    presented = ["book-presented", "book-presented"]
    assert bench.events() == ["job-accepted", *presented, "print-committed", "print-completed"]


def test_no_page_stays_in_the_printer_of_a_job_that_has_left_it(technician):
    """Whatever took the job away: the next page must not be printed over its."""
    bench = technician.bench

    def to_another_printer(tx):
        attempts.take_back(tx, FIRST, printer="main")
        attempts.select(tx, FIRST, printer="other")

    def story():
        yield technician.ready
        yield from technician.presents(FIRST_BOOK)
        yield technician.loaded
        bench.journal.write(to_another_printer)
        yield from technician.prints(SECOND_BOOK, SECOND)

    bench.play(story())
    assert bytes(bench.book(SECOND_BOOK).rows) == bench.raster(SECOND).rows
    assert bench.job(FIRST).printer == "other"


def test_a_book_that_was_in_before_its_number_is_asked_out_and_may_go_in_again(technician):
    bench = technician.bench

    def story():
        yield technician.ready
        bench.insert(FIRST_BOOK)
        yield bench.passed(3.0)
        yield from technician.presents(FIRST_BOOK)
        yield lambda: bench.view().removal_wanted
        bench.remove()
        yield technician.loaded
        bench.insert(FIRST_BOOK)
        yield lambda: bench.phase() is Phase.COMPLETED

    bench.play(story())
    assert len(bench.book(FIRST_BOOK).passes) == 1


def test_another_number_clears_the_page_of_the_first(technician):
    bench = technician.bench

    def story():
        yield technician.ready
        yield from technician.presents(FIRST_BOOK)
        yield technician.loaded
        yield from technician.prints(SECOND_BOOK, SECOND)

    bench.play(story())
    assert bench.phase() is Phase.WAITING
    assert bytes(bench.book(SECOND_BOOK).rows) == bench.raster(SECOND).rows
    assert bench.events()[-1] == "book-presented"


def test_two_numbers_presented_at_once_leave_the_first_one_s_job_to_be_presented_again(technician):
    bench = technician.bench

    def story():
        yield technician.ready
        answers = [bench.present(number) for number in (FIRST_BOOK, SECOND_BOOK)]
        yield lambda: all(answer.done() for answer in answers)
        yield partial(technician.loaded, SECOND)
        bench.insert(SECOND_BOOK)
        yield lambda: bench.phase(SECOND) is Phase.COMPLETED
        bench.remove()
        assert bench.phase() is Phase.WAITING
        yield from technician.prints(FIRST_BOOK, FIRST)

    bench.play(story())
    assert bench.phase() is Phase.COMPLETED


def test_a_number_is_refused_where_it_means_nothing_and_while_it_could_do_harm(technician):
    bench = technician.bench

    def story():
        yield technician.ready
        yield from technician.presents("X0000001", refused="no waiting job")
        yield from technician.presents(FIRST_BOOK)
        yield technician.loaded
        bench.insert(FIRST_BOOK)
        yield lambda: bench.phase() is Phase.COMMITTED
        yield from technician.presents(SECOND_BOOK, refused="prints, or was not proven clear")
        yield lambda: bench.phase() is Phase.COMPLETED
        bench.remove()
        bench.line.pull()
        yield lambda: bench.view().situation is Situation.AWAY
        yield from technician.presents(SECOND_BOOK, refused="is away")

    bench.play(story())
    assert bench.phase(SECOND) is Phase.WAITING


def test_a_number_outlives_a_printer_that_restarted_and_no_restart_of_the_agent(technician):
    bench = technician.bench

    def until_it_is_loaded_again():
        yield technician.ready
        yield from technician.presents(FIRST_BOOK)
        yield technician.loaded
        bench.printer.power_off(bench.time)
        bench.printer.power_on(bench.time)
        bench.insert(FIRST_BOOK)
        yield lambda: bench.view().removal_wanted or bench.view().situation is Situation.AWAY
        assert blank(bench)
        yield lambda: bench.view().removal_wanted
        assert bench.view().presented == FIRST_BOOK

    bench.play(until_it_is_loaded_again())
    bench.start_agent()

    def after_it():
        yield technician.ready
        bench.remove()
        yield bench.passed(10.0)

    bench.play(after_it())
    assert bench.phase() is Phase.WAITING
    assert blank(bench)


@pytest.mark.parametrize("dots", [(5, 3), (-4, -2), (0, 7)])
@pytest.mark.parametrize("profile", ["page-slip", "column-slip"])
def test_the_offset_moves_the_ink_by_exactly_that(benches, profile, dots):
    def printed(offset):
        bench = benches(profile, offset_mm=offset)
        bench.submit_jobs(FIRST)
        bench.run(lambda: bench.phase() is Phase.COMPLETED)
        book = bench.book(FIRST_BOOK)
        return [
            f"{int.from_bytes(book.rows[start : start + book.stride]):0{book.stride * 8}b}"[
                : book.width
            ]
            for start in range(0, len(book.rows), book.stride)
        ]

    right, down = dots
    moved, plain = printed((right * DOT_MM, down * DOT_MM)), printed((0.0, 0.0))
    inked = [
        (row, column)
        for row, line in enumerate(plain)
        for column, dot in enumerate(line)
        if dot == "1"
    ]
    assert len(inked) > 1_000
    # What leaves the page is cut off with its edge, where nothing stands.
    wanted = {
        (row + down, column + right)
        for row, column in inked
        if 1 <= row + down < len(plain) - 1 and 1 <= column + right < len(plain[0]) - 1
    }
    found = {
        (row, column)
        for row, line in enumerate(moved)
        for column, dot in enumerate(line)
        if dot == "1"
    }
    assert found == wanted


@pytest.mark.parametrize(
    ("matches", "phase", "event"),
    [
        (True, Phase.COMPLETED, "print-verified"),
        (False, Phase.VERIFY_FAILED, "verify-failed"),
    ],
)
def test_a_printed_book_waits_for_its_zone_and_the_next_one_does_not_wait_for_it(
    benches, matches, phase, event
):
    bench = benches(read_back="mrz")
    bench.submit_jobs()
    bench.run(lambda: bench.phase(SECOND) is Phase.VERIFY_WANTED)
    assert bench.phase() is Phase.VERIFY_WANTED
    (told,) = [one for one in bench.receipts() if one["event"] == "print-completed"][:1]
    assert (told["state"], told["reasons"]) == ("processing", ["verify-wanted"])
    bench.write(lambda tx: acts.verify(tx, FIRST, matches=matches, actor="technician:bench"))
    assert bench.phase() is phase
    assert bench.events()[-1] == event
    assert bench.phase(SECOND) is Phase.VERIFY_WANTED
