"""A directive at each step of an attempt: its wish is kept, no book is inked that need not be, the next job goes on."""

from __future__ import annotations

import contextlib
import itertools
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from printer_bench import BOOKS, FIRST, SECOND, Step
from station_fixture import directive

from agent.errors import RequestRefused
from agent.live import PrinterState
from agent.model import Action
from agent.queue import acts
from agent.queue.states import ENDED, Phase

BEFORE_INTENT = [Step.LOADING, Step.FENCE, Step.BOOK_WANTED]
AFTER_INTENT = [Step.INTENT, Step.COMMIT, Step.PRINTING, Step.REPLY, Step.OUTCOME]
SEQ = 900_000


def ordered(bench, step, action, **claims):
    """Runs both jobs with a directive that arrives at a step; gives the first job's receipts after its acceptance."""
    bench.submit_jobs()

    def order():
        raw = directive(SEQ, action, job=FIRST, **claims)
        assert bench.intake.take(raw).status == 201

    bench.at(step, order)
    bench.run(
        lambda: (
            all(bench.phase(job) in {*ENDED, Phase.HELD} for job in (FIRST, SECOND))
            and bench.view().state is PrinterState.IDLE
        )
    )
    return bench.events()[1:]


def inked(bench, job=FIRST):
    return len(bench.book(BOOKS[job]).passes)


@pytest.mark.parametrize("step", BEFORE_INTENT)
@pytest.mark.parametrize(
    ("action", "phase", "reason"),
    [
        (Action.REVOKE, Phase.CANCELED, "revoked"),
        (Action.TRANSFER, Phase.CANCELED, "transferred"),
        (Action.RETIRE, Phase.CANCELED, "transferred"),
        (Action.HOLD, Phase.HELD, None),
    ],
)
def test_before_the_intent_the_page_is_cleared_and_the_book_stays_blank(
    benches, step, action, phase, reason
):
    bench = benches()
    told = ordered(bench, step, action)
    assert (bench.phase(), bench.job().end_reason) == (phase, reason)
    assert told[-1] == ("job-held" if phase is Phase.HELD else "job-canceled")
    assert inked(bench) == 0
    assert inked(bench, SECOND) == (action is not Action.RETIRE)


@pytest.mark.parametrize("step", AFTER_INTENT)
@pytest.mark.parametrize("action", [Action.REVOKE, Action.TRANSFER, Action.RETIRE, Action.HOLD])
def test_after_the_intent_the_book_is_printed_and_the_job_is_completed(benches, step, action):
    bench = benches()
    told = ordered(bench, step, action)
    assert bench.phase() is Phase.COMPLETED
    assert ("transfer-refused" in told) is (action is Action.TRANSFER)
    assert [event for event in told if event.startswith("print-")] == [
        "print-committed",
        "print-completed",
    ]
    assert inked(bench) == 1
    assert bench.phase(SECOND) is (Phase.CANCELED if action is Action.RETIRE else Phase.COMPLETED)


@pytest.mark.parametrize("profile", ["page-slip", "column-slip"])
@pytest.mark.parametrize("step", [*BEFORE_INTENT, *AFTER_INTENT])
def test_what_the_authority_says_was_printed_is_completed_and_the_printer_goes_on(
    benches, step, profile
):
    bench = benches(profile)
    through = {"through": 5, "head": "A" * 43}
    told = ordered(bench, step, Action.RESUME, printed=[FIRST], **through)
    assert bench.phase() is Phase.COMPLETED
    assert told.count("print-completed") == 1
    assert inked(bench) == (step in AFTER_INTENT)
    assert bench.phase(SECOND) is Phase.COMPLETED
    assert inked(bench, SECOND) == 1
    assert bench.read().value("SELECT count(*) FROM attempts WHERE stage != 'closed'") == 0


@pytest.mark.parametrize("profile", ["page-slip", "column-slip"])
def test_what_the_authority_says_of_a_doubt_closes_it_when_the_printer_comes_back(benches, profile):
    bench = benches(profile)
    bench.submit_jobs()

    def power_fails():
        bench.printer.power_off(bench.time)
        bench.line.pull()
        bench.after(20.0, lambda: bench.printer.power_on(bench.time))
        bench.after(21.0, bench.line.plug)

    bench.at(Step.PRINTING, power_fails)
    bench.run(lambda: bench.phase() is Phase.IN_DOUBT)
    order = directive(SEQ, Action.RESUME, through=5, head="A" * 43, printed=[FIRST])
    assert bench.intake.take(order).status == 201
    bench.start_agent()
    bench.run(
        lambda: bench.phase(SECOND) is Phase.COMPLETED and bench.view().state is PrinterState.IDLE
    )
    assert bench.phase() is Phase.COMPLETED
    assert bench.read().value("SELECT count(*) FROM attempts WHERE stage != 'closed'") == 0


def by_technician(act):
    def order(bench, job, seq):
        del seq
        with contextlib.suppress(RequestRefused):
            bench.write(lambda tx: act(tx, job, actor="technician:ani", reason=None))

    return order


def by_authority(action):
    def order(bench, job, seq):
        claims = {"through": 5, "head": "A" * 43, "printed": [job]}
        assert bench.intake.take(directive(seq, action, job=job, **claims)).status == 201

    return order


ORDERS = {
    **{f"authority: {action}": by_authority(action) for action in Action if action != "trust"},
    "technician: cancel": by_technician(acts.cancel),
    "technician: hold": by_technician(acts.hold),
    "technician: release": by_technician(acts.release),
    "technician: replay": by_technician(acts.replay),
}


@given(
    plan=st.dictionaries(
        st.sampled_from([*BEFORE_INTENT, *AFTER_INTENT]),
        st.lists(
            st.tuples(st.sampled_from(sorted(ORDERS)), st.sampled_from([FIRST, SECOND])),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(
    max_examples=settings.default.max_examples // 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_is_ordered_meanwhile_no_book_is_inked_twice_and_the_journal_is_whole(
    benches, plan
):
    bench = benches()
    bench.submit_jobs()
    numbers = itertools.count(SEQ)

    def ordering(orders):
        for name, job in orders:
            ORDERS[name](bench, job, next(numbers))

    for step, orders in plan.items():
        bench.at(step, partial(ordering, orders))
    stopped = {*ENDED, Phase.HELD}
    bench.run(
        lambda: (
            bench.view().state is PrinterState.IDLE
            and bench.view().job is None
            and (
                all(bench.phase(job) in stopped for job in (FIRST, SECOND))
                or bench.read().station("rolled_back")
            )
        )
    )
    for job in (FIRST, SECOND):
        assert inked(bench, job) <= 1
        phase, told = bench.phase(job), bench.events(job)
        printed = "print-committed" in told
        assert inked(bench, job) == printed
        if printed:
            assert phase is Phase.COMPLETED
        elif phase is Phase.COMPLETED:
            (end,) = [
                one
                for one in bench.receipts()
                if one.get("job") == job and one["event"] == "print-completed"
            ]
            assert end["actor"] == "authority"
    assert bench.verify().faults == ()
    bench.close()
