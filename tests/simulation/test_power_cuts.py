"""The share of the simulation that every run of the tests plays; `make simulate` plays as much as one likes."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, product

import pytest

from tests.simulation.doubts import LOAD, Doubts
from tests.simulation.exhaustive import exhaustive_plans, single_faults
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.plan import Fault, Mishap, Office, Plan, random_plan
from tests.simulation.run import run
from tests.simulation.shrink import shrink, told

RANDOM_RUNS, CUTS_A_RUN = 24, 40
EVERY_FIRST_CUT = 29
MUTANT_SEEDS = range(40)


@pytest.mark.parametrize("seed", range(RANDOM_RUNS))
def test_power_cuts_lose_nothing_and_print_nothing_twice(seed: int) -> None:
    result = run(random_plan(seed, cuts=CUTS_A_RUN))
    if result.verdicts:
        pytest.fail(told(shrink(result)))


def test_a_cut_at_any_point_of_a_short_run() -> None:
    for plan in exhaustive_plans("first", every=EVERY_FIRST_CUT):
        result = run(plan)
        if result.verdicts:
            pytest.fail(told(result))


@pytest.mark.parametrize("line", [Mishap.CABLE, Mishap.REPLY_LATE, Mishap.REPLY_LOST])
@pytest.mark.parametrize("profile", ["page-slip", "column-slip"])
def test_a_book_swapped_while_the_intent_is_written_is_not_printed_on(
    profile: str, line: Mishap
) -> None:
    """Although the line loses or delays what the printer says of it by itself."""
    office = Office(profile=profile, jobs=2)
    places = run(Plan(1, office, ())).places
    committed = places.index("commit on the line") + 1
    synced = max(at for at in range(committed) if places[at - 1] == "disk: sync WAL")
    for at, draw in product(range(synced - 12, synced), range(3)):
        result = run(Plan(1, office, (Fault(line, at, draw), Fault(Mishap.SWAP, 1, draw))))
        assert not result.verdicts, told(result)


def test_a_stop_while_a_book_is_in_the_way_of_a_load_asks_nobody_yet() -> None:
    """The next start sees the book leave, and needs no person."""
    office = Office(jobs=2)
    committed = run(Plan(1, office, ())).places.index("commit on the line")
    for at, stop in product(range(committed - 130, committed - 100, 6), (1, 6, 25)):
        result = run(Plan(1, office, (Fault(Mishap.EARLY, at, 1), Fault(Mishap.STOP, stop, 2))))
        assert not result.verdicts, told(result)


def test_no_load_begins_with_a_book_in_while_the_printer_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noted = Doubts.journaled
    with_book: list[float] = []

    def journaled(self: Doubts, kind: str, job: str | None, now: float) -> None:
        if kind == LOAD and self._desk.printer.book is not None:
            with_book.append(now)
        noted(self, kind, job, now)

    monkeypatch.setattr(Doubts, "journaled", journaled)
    for plan in single_faults(Office(jobs=1), [Mishap.EARLY], at="write to the line"):
        run(plan)
        assert not with_book


def test_a_stop_on_a_full_disk_leaves_a_journal_that_starts_again() -> None:
    """The witness could not note the end, and the log that it asks for had gone: found by this long run."""
    result = run(random_plan(12_000_155, cuts=200))
    assert not result.verdicts, told(result)


def test_the_same_plan_gives_the_same_run() -> None:
    plan = random_plan(7, cuts=20)
    first, second = run(plan), run(plan)
    assert (first.story, first.places, first.events) == (second.story, second.places, second.events)
    assert first.lives > 10


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_judge_notices(mutation: Mutation) -> None:
    """Where its mishaps strike once in a short run, or in long runs, within a bound."""
    office = replace(Office(jobs=1), **mutation.office)
    with mutation.applied():
        short_runs = (
            single_faults(office, mutation.only, at=mutation.at, seeds=MUTANT_SEEDS)
            if mutation.at
            else ()
        )
        long_runs = (
            random_plan(seed, cuts=20, only=mutation.only, **{"hostile": False} | mutation.office)
            for seed in MUTANT_SEEDS
        )
        noticed = any(run(plan).verdicts for plan in chain(short_runs, long_runs))
    assert noticed


def test_a_failing_run_is_shrunk_to_a_short_story() -> None:
    mutation = next(one for one in MUTATIONS if one.name == "synchronous=OFF")
    with mutation.applied():
        failed = run(random_plan(0, cuts=20, only=mutation.only, hostile=False))
        shrunk = shrink(failed)
    assert len(shrunk.plan.faults) < len(failed.plan.faults)
    assert "lose power" in told(shrunk) or "loses power" in told(shrunk)
