"""What a session makes of a printer's bytes, in their order."""

from __future__ import annotations

from agent.drivers.book_printer import BookPrinter
from agent.drivers.profile import load_profile

SLIP_ASKED = b"\x10\x04\x05"
ANSWER_OUT, TOLD_IN = b"\x72", b"\x14\x00\x00\x00"


class Line:
    """A line whose printer answers DLE EOT 5 with these bytes, all in one read."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._said = b""

    def write_some(self, data: bytes, _timeout_s: float) -> int:
        assert data == SLIP_ASKED
        self._said = self._answer
        return len(data)

    def read(self, _timeout_s: float) -> bytes:
        said, self._said = self._said, b""
        return said


def asked(answer: bytes) -> tuple[BookPrinter, bool, list[bool]]:
    """The session, whether the answer was that a book is in, and each look at the book in its order."""
    session = BookPrinter(Line(answer), load_profile("page-slip"), lambda: 0.0)
    book_in = session.ask_slip().book_in
    return session, book_in, [slip.book_in for slip in session.take_slips()]


def test_a_book_that_goes_in_right_behind_the_answer_that_there_is_none_has_not_gone_out_again():
    session, answer, looks = asked(ANSWER_OUT + TOLD_IN)
    assert looks == [False, True]
    assert session.slip is not None
    assert session.slip.book_in
    # What was asked is still answered by its answer: a commit needs one that shows the book.
    assert not answer


def test_a_book_that_was_told_before_the_answer_is_seen_before_it():
    session, answer, looks = asked(TOLD_IN + ANSWER_OUT)
    assert looks == [True, False]
    assert session.slip is not None
    assert session.slip.book_out
    assert not answer
