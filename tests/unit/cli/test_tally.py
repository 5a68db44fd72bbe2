"""The count of books as a dialogue: scan, scan, scan; and what must not be taken down is an alarm."""

from __future__ import annotations

import pytest

from agent.cli.tally import Mood, Tally
from agent.model import BookFate

LISTED = {"A1": True, "A2": True, "A3": True, "E1": False}


def scanned(*lines: str, listed: dict[str, bool] | None = LISTED) -> Tally:
    tally = Tally(listed)
    for line in lines:
        assert tally.answer(line).mood is Mood.QUIET, line
    return tally


def test_pile_after_pile_and_what_is_left_is_missing():
    tally = scanned("A1\r\n", "p", "a2\n", "l", "d", "E1")
    assert tally.left() == ["A3"]
    assert tally.books() == {
        BookFate.BLANK: ["A1"],
        BookFate.PRINTED: ["A2"],
        BookFate.DAMAGED: ["E1"],
        BookFate.MISSING: ["A3"],
    }
    assert tally.summary() == "1 blank, 1 printed, 1 damaged, 1 missing"


def test_without_a_list_nothing_is_missing_but_what_is_said_to_be():
    tally = scanned("A1", "m", "Z9", listed=None)
    assert tally.books()[BookFate.MISSING] == ["Z9"]
    assert "nobody knows" in tally.answer("l").text


def test_each_scan_says_how_far_the_count_is():
    tally = Tally(LISTED)
    assert tally.answer("A1").text == "   1/3  A1  blank"
    assert "put it away" in tally.answer("E1").text
    assert Tally(None).answer("A1").text == "   1  A1  blank"


def test_a_second_trigger_of_the_scanner_changes_nothing():
    tally = scanned("A1")
    reply = tally.answer("A1")
    assert (reply.mood, reply.kept) == (Mood.QUIET, None)
    assert "already" in reply.text


def test_another_fate_is_refused_until_a_key_is_pressed():
    tally = scanned("A1", "p")
    for _ in range(2):
        reply = tally.answer("A1")
        assert (reply.mood, reply.kept) == (Mood.ALARM, None)
        assert "down as blank and stays so" in reply.text
    assert tally.answer("c").kept == "A1 printed"
    assert tally.fates == {"A1": BookFate.PRINTED}
    # The key counts for the book just refused, not for one of before.
    assert tally.answer("c").mood is Mood.ALARM
    assert tally.fates == {"A1": BookFate.PRINTED}


def test_a_change_counts_only_right_after_the_refusal():
    tally = scanned("A1", "p")
    tally.answer("A1")
    tally.answer("A2")
    assert tally.answer("c").mood is Mood.ALARM
    assert tally.fates["A1"] is BookFate.BLANK


def test_the_last_scan_can_be_taken_back_one_after_the_other():
    tally = scanned("A1", "A2", "p")
    tally.answer("A1")
    tally.answer("c")
    assert "A1  blank again" in tally.answer("u").text
    assert tally.fates == {"A1": BookFate.BLANK, "A2": BookFate.BLANK}
    tally.answer("u")
    assert "A1  taken back" in tally.answer("u").text
    assert tally.fates == {}
    assert tally.answer("u").mood is Mood.ALARM


def test_a_book_of_another_office_is_not_taken_down():
    tally = Tally(LISTED)
    reply = tally.answer("X9")
    assert reply.mood is Mood.ALARM
    assert "put it aside" in reply.text
    assert tally.fates == {}
    assert tally.answer("c").mood is Mood.ALARM


@pytest.mark.parametrize(
    "line", ["P<UTOERIKSSON<<ANNA<MARIA", "0123456789", "A-1", "Ä1", "..", "\0"]
)
def test_what_is_no_book_number_is_an_alarm_and_never_repeated(line):
    tally = Tally(None)
    reply = tally.answer(line)
    assert (reply.mood, reply.kept) == (Mood.ALARM, None)
    assert line not in reply.text
    assert tally.fates == {}


def test_a_letter_is_a_key_also_with_caps_lock_on_and_a_book_only_where_one_is_listed():
    tally = Tally(None)
    tally.answer("P")
    assert tally.pile is BookFate.PRINTED
    assert tally.answer("z").text == tally.answer("?").text
    assert tally.fates == {}
    assert Tally({"B": True}).answer("B").kept == "B blank"


def test_a_count_is_restored_line_by_line():
    tally, kept = Tally(LISTED), []
    for line in ("A1", "A2", "u", "p", "A1", "c", "A3", "u", "E1"):
        reply = tally.answer(line)
        kept += [reply.kept] if reply.kept is not None else []
    again = Tally(LISTED)
    for line in kept:
        again.restore(line)
    assert again.fates == tally.fates
    for _ in range(3):
        assert again.answer("u").text == tally.answer("u").text


@pytest.mark.parametrize("line", ["", "-", "A1", "A1 torn", "a1 blank", "A1  blank", "A1 blank "])
def test_a_damaged_line_is_not_restored(line):
    with pytest.raises(ValueError, match=r"no line of a count|not a valid BookFate"):
        Tally(None).restore(line)


def test_a_long_rest_is_cut_short():
    tally = Tally({f"C{number:08}": True for number in range(100)})
    text = tally.answer("l").text
    assert text.startswith("100 left: ")
    assert text.endswith(" and 40 more")
    assert "every book" in scanned("A1", "A2", "A3").answer("l").text
