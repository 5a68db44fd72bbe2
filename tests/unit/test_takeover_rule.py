"""Whose job goes to the spare: only where each of its books is accounted for, and one is blank in the hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.authority.takeover_rule import Count, Inventory, JobRecord, Verdict, decide
from agent.model import Action, BookFate

NOW = 1_900_000_000
ONE = JobRecord("job-1", ("A1",), NOW + 10, state="pending")
TWO = replace(ONE, books=("A1", "B1"))
PRINTED, BLANK, DAMAGED, MISSING = (
    BookFate.PRINTED,
    BookFate.BLANK,
    BookFate.DAMAGED,
    BookFate.MISSING,
)


def counted(at: int = NOW - 5, station: str = "spare", **fates: BookFate) -> Inventory:
    return Inventory(station, at, "technician:adi", fates)


def count(*inventories: Inventory, **fates: BookFate) -> Count:
    return Count.of([*inventories, counted(**fates)] if fates else inventories, spare="spare")


def verdict(record: JobRecord, *inventories: Inventory, **fates: BookFate):
    decision = decide(record, count(*inventories, **fates), now=NOW)
    return decision.verdict, decision.books, decision.why


@pytest.mark.parametrize(
    "told",
    [
        {"state": None},
        {"state": "pending"},
        {"state": "processing"},
        {"state": "processing-stopped", "reasons": ("print-in-doubt",), "committed_at": {"A1": 9}},
        {"state": "processing-stopped", "reasons": ("print-failed",), "committed_at": {"A1": 9}},
        {"state": "pending-held", "reasons": ("not-yet-valid",)},
        {"state": "canceled", "reasons": ("transferred",)},
    ],
    ids=str,
)
def test_a_blank_book_in_the_hand_proves_that_its_job_was_not_printed(told):
    assert verdict(replace(ONE, **told), A1=BLANK)[:2] == (Verdict.GIVEN, ("A1",))


def test_only_the_blank_books_may_be_printed():
    assert verdict(TWO, A1=BLANK, B1=BLANK)[:2] == (Verdict.GIVEN, ("A1", "B1"))
    assert verdict(TWO, A1=DAMAGED, B1=BLANK)[:2] == (Verdict.GIVEN, ("B1",))
    assert verdict(TWO, A1=BLANK, B1=DAMAGED)[:2] == (Verdict.GIVEN, ("A1",))
    spoiled = replace(TWO, spoiled=frozenset({"A1"}))
    assert verdict(spoiled, B1=BLANK)[:2] == (Verdict.GIVEN, ("B1",))
    assert verdict(spoiled, A1=DAMAGED, B1=BLANK)[:2] == (Verdict.GIVEN, ("B1",))


@pytest.mark.parametrize(
    ("record", "fates", "why"),
    [
        (ONE, {}, "not in the hand"),
        (ONE, {"A1": MISSING}, "not in the hand"),
        (ONE, {"A1": PRINTED}, "is printed, and no receipt says so"),
        (ONE, {"A1": DAMAGED}, "all its books are damaged"),
        # The first was spoiled without ink, the second printed and handed out, before anybody was told.
        (TWO, {"A1": BLANK}, "book B1 is not in the hand"),
        (TWO, {"A1": BLANK, "B1": PRINTED}, "book B1 is printed"),
        (TWO, {"B1": BLANK}, "book A1 is not in the hand"),
        (replace(TWO, spoiled=frozenset({"A1"})), {"A1": BLANK, "B1": BLANK}, "is spoiled, but"),
        (replace(TWO, spoiled=frozenset({"A1"})), {"A1": PRINTED, "B1": BLANK}, "is spoiled, but"),
        (
            replace(ONE, state="processing", reasons=("verify-wanted",), inked=frozenset({"A1"})),
            {"A1": BLANK},
            "printed, but it is blank",
        ),
        (
            replace(ONE, state="completed", inked=frozenset({"A1"})),
            {"A1": BLANK},
            "but it is blank",
        ),
        (replace(ONE, directed={Action.REVOKE: {}}), {"A1": PRINTED}, "destroy it"),
        (replace(ONE, committed_at={"A1": NOW}), {"A1": BLANK}, "after it was counted"),
        (replace(ONE, exp=NOW - 1), {"A1": BLANK}, "window has ended"),
        (replace(ONE, exp=None), {"A1": BLANK}, "window has ended"),
        (replace(ONE, directed={Action.HOLD: {"seq": 3}}), {"A1": BLANK}, "the authority holds it"),
        (
            replace(ONE, directed={Action.HOLD: {"seq": 3}, Action.RELEASE: {"seq": 2, "iat": 1}}),
            {"A1": BLANK},
            "the authority holds it",
        ),
        (replace(ONE, reasons=("job-hold",), told_at=7), {"A1": BLANK}, "a technician held it"),
        (
            replace(
                ONE,
                reasons=("job-hold",),
                told_at=7,
                directed={Action.RELEASE: {"seq": 2, "iat": 6}},
            ),
            {"A1": BLANK},
            "a technician held it",
        ),
        (replace(ONE, directed={Action.TRANSFER: {"to": "far-03"}}), {"A1": BLANK}, "far-03"),
    ],
)
def test_the_rest_waits_for_a_person_and_says_why(record, fates, why):
    found, books, told = verdict(record, **fates)
    assert (found, books) == (Verdict.WAITS, ())
    assert why in told


def test_a_release_ends_a_hold():
    released = {Action.HOLD: {"seq": 3}, Action.RELEASE: {"seq": 4, "iat": 8}}
    for record in (
        replace(ONE, directed=released),
        replace(ONE, reasons=("job-hold",), told_at=7, directed=released),
    ):
        assert verdict(record, A1=BLANK)[0] is Verdict.GIVEN


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"state": "completed", "inked": frozenset({"A1"})}, "completed"),
        ({"state": "canceled", "reasons": ("canceled-by-technician",)}, "canceled-by-technician"),
        ({"state": "aborted", "reasons": ("expired",)}, "expired"),
        ({"state": "pending", "directed": {Action.REVOKE: {}}}, "revoked"),
        ({"state": None, "directed": {Action.REVOKE: {}}}, "revoked"),
        (
            {
                "state": "canceled",
                "reasons": ("transferred",),
                "directed": {Action.TRANSFER: {"to": "far-03"}},
            },
            "to far-03",
        ),
    ],
    ids=str,
)
def test_what_has_ended_or_was_revoked_is_not_printed_again(told, why):
    found, _, said = verdict(replace(ONE, **told), A1=DAMAGED)
    assert found is Verdict.ENDED
    assert why in said


def test_a_job_that_was_given_is_not_given_again():
    found, books, why = verdict(replace(ONE, given_to="spare-02"), A1=BLANK)
    assert (found, books) == (Verdict.GIVEN, ())
    assert "spare-02" in why


def test_two_stations_that_both_hold_a_book_are_disputed():
    found, _, why = verdict(ONE, counted(station="other-03", A1=BLANK), A1=BLANK)
    assert found is Verdict.WAITS
    assert "blank by technician:adi at other-03 and blank by technician:adi at spare" in why


def test_two_counts_of_one_station_that_differ_are_disputed():
    for first, second in ((BLANK, PRINTED), (PRINTED, BLANK), (DAMAGED, BLANK)):
        found, _, why = verdict(ONE, counted(at=NOW - 9, A1=first), A1=second)
        assert found is Verdict.WAITS
        assert "look at it" in why


def test_a_book_that_was_found_later_is_in_the_hand_and_one_that_is_gone_is_not():
    assert verdict(ONE, counted(at=NOW - 9, A1=MISSING), A1=BLANK)[0] is Verdict.GIVEN
    assert verdict(ONE, counted(at=NOW - 9, A1=BLANK), A1=MISSING)[0] is Verdict.WAITS
    assert verdict(ONE, counted(at=NOW - 1, A1=BLANK), A1=MISSING)[0] is Verdict.GIVEN
    assert verdict(ONE, counted(station="other-03", A1=BLANK))[0] is Verdict.WAITS


@dataclass
class World:
    """What truly happened at a station, book by book, and what the receipts had told when it died."""

    books: tuple[str, ...]
    inked: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)  # printed pages that still count
    gone: set[str] = field(default_factory=set)  # no longer in the house
    record: JobRecord = ONE

    def hand(self) -> dict[str, BookFate]:
        """An honest count."""
        return {
            book: MISSING
            if book in self.gone
            else BLANK
            if book not in self.inked
            else PRINTED
            if book in self.whole
            else DAMAGED
            for book in self.books
        }


@st.composite
def worlds(draw) -> World:
    """A job whose books are spoiled, torn or printed one after the other; the last receipts may be missing."""
    books = tuple(f"A{number}" for number in range(draw(st.integers(1, 4))))
    world = World(books, record=replace(ONE, books=books))
    told = replace(ONE, books=books)
    steps = draw(st.lists(st.sampled_from(["torn", "spoiled", "printed", "doubt"]), max_size=4))
    heard = draw(st.integers(0, len(steps)))
    for index, (book, step) in enumerate(zip(books, steps, strict=False)):
        if step == "torn":
            told = replace(told, spoiled=told.spoiled | {book})
        elif step == "spoiled":
            world.inked.add(book)
            told = replace(told, spoiled=told.spoiled | {book})
        elif step == "printed":
            world.inked.add(book)
            world.whole.add(book)
            told = replace(told, state="completed", inked=told.inked | {book})
        else:
            world.inked |= {book} if draw(st.booleans()) else set()
            world.whole |= {book} & world.inked if draw(st.booleans()) else set()
            told = replace(told, state="processing-stopped", committed_at={book: 1})
        if index < heard:
            world.record = told
        if step in ("printed", "doubt"):
            break
    world.gone = set(draw(st.lists(st.sampled_from(books), max_size=len(books))))
    return world


@given(worlds(), st.data())
@example(World(("A0", "A1"), {"A1"}, {"A1"}, {"A1"}, replace(ONE, books=("A0", "A1"))), None)
def test_whatever_happened_unheard_nobody_is_printed_twice(world, data):
    decision = decide(world.record, count(**world.hand()), now=NOW)
    if decision.verdict is Verdict.GIVEN:
        assert world.whole == set()
        assert not world.inked & set(decision.books)
        assert not world.gone & set(decision.books)
    if data is not None:
        # Less that was counted never gives more away.
        less = dict(data.draw(st.lists(st.sampled_from(sorted(world.hand().items())), unique=True)))
        fewer = decide(world.record, count(**less), now=NOW)
        if fewer.verdict is Verdict.GIVEN:
            assert decision.verdict is Verdict.GIVEN
