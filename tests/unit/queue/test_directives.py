"""Every directive of CONTRACT section 3.3 meets every phase of a job, a job that is not there yet, and one that comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import RequestRefused
from agent.model import Action, PrinterIdentity, Reason
from agent.queue import acts, attempts
from agent.queue.acts import Outcome
from agent.queue.states import ENDED, MAY_HAVE_INK, PAGE_IN_PRINTER, STOPPED, Phase
from tests.unit.crypto.crypto_samples import NOW
from tests.unit.queue.intake_bench import EXP, PRINTER, TECHNICIAN, IntakeBench

FREE = frozenset({Phase.WAITING, Phase.HELD, Phase.SET_ASIDE, Phase.SELECTED})
INKED = MAY_HAVE_INK - ENDED
OPEN = FREE | PAGE_IN_PRINTER | INKED
# CONTRACT section 4, the table: the reasons that may go with a state of a job that has not ended.
WISHES = {"revoked", "job-hold"}
ALLOWED = {
    "pending": set(),
    "pending-held": {"job-hold", "not-yet-valid", "clock-untrusted", "job-set-aside"},
    "processing": {"book-wanted", "verify-wanted"} | WISHES,
    "processing-stopped": {"print-in-doubt", "print-failed", "verify-failed"} | WISHES,
    "canceled": {"revoked", "transferred", "canceled-by-technician"},
    "aborted": {"expired", "book-spoiled"},
    "completed": set(),
}
ON_JOBS = (Action.REVOKE, Action.HOLD, Action.RELEASE, Action.TRANSFER, Action.RETIRE)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[IntakeBench]:
    found = IntakeBench(tmp_path)
    yield found
    found.close()


@pytest.fixture
def job_in(bench: IntakeBench) -> Callable[[Phase], IntakeBench]:
    def brought(phase: Phase, *numbers: str) -> IntakeBench:
        bench.authorize("job-1", *numbers)
        bench.bring_to(phase)
        return bench

    return brought


def ended_as(bench: IntakeBench, state: str, *reasons: str) -> None:
    assert bench.shown() == (state, list(reasons))


# Each directive, each phase


@pytest.mark.parametrize("action", [*ON_JOBS, Action.RESUME, Action.ACKNOWLEDGE])
@pytest.mark.parametrize("phase", Phase)
def test_whatever_a_directive_does_is_a_pair_of_the_contract_s_table(job_in, phase, action):
    bench = job_in(phase)
    bench.direct(action)
    state, reasons = bench.shown()
    assert set(reasons) <= ALLOWED[state]
    assert [receipt["seq"] for receipt in bench.receipts()] == list(
        range(1, len(bench.receipts()) + 1)
    )


@pytest.mark.parametrize("action", ON_JOBS)
@pytest.mark.parametrize("phase", sorted(ENDED))
def test_a_job_that_has_ended_stays_ended(job_in, phase, action):
    bench = job_in(phase)
    before = bench.shown()
    bench.direct(action)
    assert bench.shown() == before


@pytest.mark.parametrize(
    ("action", "reason"),
    [(Action.REVOKE, "revoked"), (Action.TRANSFER, "transferred"), (Action.RETIRE, "transferred")],
)
@pytest.mark.parametrize("phase", sorted(FREE))
def test_a_job_without_ink_is_canceled_with_its_receipt(job_in, phase, action, reason):
    bench = job_in(phase)
    with bench.told() as told:
        bench.direct(action)
    ended_as(bench, "canceled", reason)
    assert told[-1] == "job-canceled"
    receipt = bench.receipts()[-1]
    assert (receipt["job"], receipt["state"], receipt["reasons"]) == ("job-1", "canceled", [reason])
    assert (receipt["actor"], receipt["book"]) == ("authority", "C0000001")
    assert bench.fate() == ["blank"]


@pytest.mark.parametrize(
    ("action", "reason"),
    [(Action.REVOKE, "revoked"), (Action.TRANSFER, "transferred"), (Action.RETIRE, "transferred")],
)
@pytest.mark.parametrize("phase", sorted(PAGE_IN_PRINTER))
def test_a_page_in_the_printer_is_cleared_before_its_job_is_given_up(job_in, phase, action, reason):
    bench = job_in(phase)
    state = bench.shown()[0]
    bench.direct(action)
    assert bench.shown()[0] == state == "processing"
    assert ("revoked" in bench.shown()[1]) is (action is Action.REVOKE)
    with pytest.raises(attempts.NotNow):
        bench.load()
    with bench.told() as told:
        bench.take_back()
    ended_as(bench, "canceled", reason)
    assert told == ["job-canceled"]


@pytest.mark.parametrize("phase", sorted(INKED))
def test_a_job_with_ink_keeps_its_state_and_shows_that_it_is_revoked(job_in, phase):
    bench = job_in(phase)
    state, reasons = bench.shown()
    bench.direct(Action.REVOKE)
    assert bench.shown() == (state, [*reasons, "revoked"])


@pytest.mark.parametrize("phase", sorted(MAY_HAVE_INK))
def test_a_transfer_is_refused_where_there_may_be_ink(job_in, phase):
    bench = job_in(phase)
    before = bench.shown()
    with bench.told() as told:
        bench.direct(Action.TRANSFER)
    assert told == ["transfer-refused"]
    assert bench.shown() == before
    assert bench.receipts()[-1]["evidence"] == {"to": "sambas-02"}
    if phase in STOPPED & {Phase.IN_DOUBT, Phase.FAILED}:
        # A refused transfer leaves no wish behind.
        bench.resolve(Outcome.BLANK)
        ended_as(bench, "pending")


def test_a_transfer_that_waits_for_the_page_to_be_cleared_is_refused_once_there_may_be_ink(job_in):
    bench = job_in(Phase.LOADING)
    bench.direct(Action.TRANSFER)
    with bench.told() as told:
        bench.doubt()
    assert told == ["print-in-doubt", "transfer-refused"]
    bench.resolve(Outcome.BLANK)
    ended_as(bench, "pending")


@pytest.mark.parametrize("wished", [Action.REVOKE, Action.RETIRE, Action.HOLD])
def test_the_other_wishes_outlast_a_doubt(job_in, wished):
    bench = job_in(Phase.LOADING)
    bench.direct(wished)
    with bench.told() as told:
        bench.doubt()
    assert told == ["print-in-doubt"]
    bench.resolve(Outcome.BLANK)
    assert bench.shown()[0] == ("pending-held" if wished is Action.HOLD else "canceled")


def test_a_transfer_is_taken_once_the_earlier_book_is_known_to_be_spoiled(job_in):
    bench = job_in(Phase.IN_DOUBT, "C0000001", "C0000002")
    bench.direct(Action.TRANSFER)
    bench.resolve(Outcome.SPOILED)
    bench.direct(Action.TRANSFER)
    ended_as(bench, "canceled", "transferred")


@pytest.mark.parametrize("phase", sorted(OPEN))
def test_a_hold_is_shown_in_every_open_state_and_a_release_takes_it_away(job_in, phase):
    bench = job_in(phase)
    state = bench.shown()[0]
    bench.direct(Action.HOLD)
    held = "pending-held" if phase in FREE else state
    assert bench.shown()[0] == held
    assert "job-hold" in bench.shown()[1]
    with bench.told() as told:
        bench.direct(Action.RELEASE)
    assert told == ["job-released"]
    assert "job-hold" not in bench.shown()[1]
    assert bench.shown()[0] == ("pending" if phase in FREE - {Phase.SET_ASIDE} else held)


def test_a_hold_of_a_job_that_a_printer_had_chosen_gives_it_back_to_all_printers(job_in):
    bench = job_in(Phase.SELECTED)
    bench.direct(Action.HOLD)
    bench.direct(Action.RELEASE)
    assert bench.job().printer is None
    bench.write(lambda tx: attempts.select(tx, "job-1", printer="other"))
    assert bench.job().printer == "other"


@pytest.mark.parametrize("phase", Phase)
def test_what_the_authority_knows_to_be_printed_is_completed_and_its_book_is_never_free_again(
    job_in, phase
):
    bench = job_in(phase)
    before = bench.shown()
    bench.direct(Action.RESUME)
    assert bench.fate() == ["printed"]
    if phase in ENDED:
        assert bench.shown() == before
    else:
        ended_as(bench, "completed")
        receipt = bench.receipts()[-1]
        assert (receipt["event"], receipt["actor"]) == ("print-completed", "authority")
    taken = bench.take(bench.authorization("job-2", "C0000001"))
    assert (taken.status, taken.type) == (409, "urn:print-agent:conflict")


@pytest.mark.parametrize("phase", sorted(OPEN - FREE))
def test_what_printer_and_people_say_after_the_authority_changes_nothing_and_breaks_nothing(
    job_in, phase
):
    bench = job_in(phase)
    attempt = bench.attempt()
    bench.direct(Action.RESUME)
    with bench.told() as told:
        if attempt.process_id is None:
            bench.take_back()
        else:
            bench.complete(read_back="mrz")
            bench.write(lambda tx: attempts.let_stand(tx, attempt))
        with pytest.raises(RequestRefused):
            bench.resolve(Outcome.BLANK, book="C0000001")
    assert told == []
    ended_as(bench, "completed")
    assert attempts.unfinished(bench.read(), PRINTER) == []


# Wishes and their fulfilment, in the commit that brings the job back without ink


COMING_BACK = {
    "no ink": (Phase.COMMITTED, IntakeBench.no_ink),
    "no ink, late": (Phase.IN_DOUBT, IntakeBench.no_ink),
    "blank in doubt": (Phase.IN_DOUBT, lambda bench: bench.resolve(Outcome.BLANK)),
    "blank failed": (Phase.FAILED, lambda bench: bench.resolve(Outcome.BLANK)),
    "spoiled": (Phase.IN_DOUBT, lambda bench: bench.resolve(Outcome.SPOILED)),
    "spoiled, read wrong": (Phase.VERIFY_FAILED, lambda bench: bench.resolve(Outcome.SPOILED)),
    "spoiled, to be read": (Phase.VERIFY_WANTED, lambda bench: bench.resolve(Outcome.SPOILED)),
    "page cleared, loading": (Phase.LOADING, IntakeBench.take_back),
    "page cleared, loaded": (Phase.LOADED, IntakeBench.take_back),
}


@pytest.mark.parametrize("way", COMING_BACK)
@pytest.mark.parametrize(
    ("wished", "state", "reason"),
    [
        ([Action.REVOKE], "canceled", "revoked"),
        ([Action.RETIRE], "canceled", "transferred"),
        ([Action.RETIRE, Action.REVOKE], "canceled", "revoked"),
        ([Action.HOLD], "pending-held", "job-hold"),
        ([Action.HOLD, Action.REVOKE], "canceled", "revoked"),
        ([Action.HOLD, Action.RELEASE], "pending", None),
        ([], "pending", None),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_a_wish_is_fulfilled_in_the_same_commit(job_in, way, wished, state, reason):
    phase, come_back = COMING_BACK[way]
    bench = job_in(phase, "C0000001", "C0000002")
    for action in wished:
        bench.direct(action)
    commits: list[list[str]] = []
    bench.journal.listen(lambda recorded: commits.append([event.kind for event in recorded]))
    come_back(bench)
    assert len(commits) == 1
    ended_as(bench, state, *([reason] if reason else []))


@pytest.mark.parametrize("way", COMING_BACK)
@pytest.mark.parametrize("wished", [None, Action.HOLD])
def test_an_ended_window_ends_the_job_that_comes_back_without_ink(job_in, way, wished):
    phase, come_back = COMING_BACK[way]
    bench = job_in(phase, "C0000001", "C0000002")
    if wished:
        bench.direct(wished)
    bench.pass_time(EXP + 1)
    assert bench.job().phase is phase
    come_back(bench)
    ended_as(bench, "aborted", "expired")
    assert bench.receipts()[-1]["event"] == "job-aborted"


@pytest.mark.parametrize("phase", [Phase.IN_DOUBT, Phase.FAILED, Phase.VERIFY_FAILED])
@pytest.mark.parametrize("wished", [Action.REVOKE, Action.RETIRE, Action.HOLD])
def test_a_printed_book_completes_its_job_whatever_was_wished(job_in, phase, wished):
    bench = job_in(phase)
    bench.direct(wished)
    bench.resolve(Outcome.PRINTED)
    ended_as(bench, "completed")


@pytest.mark.parametrize(
    ("wished", "state", "reason"),
    [
        (Action.REVOKE, "canceled", "revoked"),
        (Action.RETIRE, "canceled", "transferred"),
        (Action.HOLD, "aborted", "book-spoiled"),
    ],
)
def test_the_last_book_spoiled_ends_the_job_as_was_wished(job_in, wished, state, reason):
    bench = job_in(Phase.IN_DOUBT)
    bench.direct(wished)
    bench.resolve(Outcome.SPOILED)
    ended_as(bench, state, reason)


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.HELD, Phase.SELECTED])
def test_a_blank_that_was_torn_before_it_was_printed_gives_way_to_the_next(job_in, phase):
    bench = job_in(phase, "C0000001", "C0000002")
    state, reasons = bench.shown()
    bench.resolve(Outcome.SPOILED)
    assert bench.job().book == "C0000002"
    assert bench.shown() == ("pending" if state == "processing" else state, reasons)
    bench.resolve(Outcome.SPOILED)
    ended_as(bench, "aborted", "book-spoiled")
    with pytest.raises(RequestRefused):
        bench.act(acts.replay)


def test_what_a_technician_canceled_is_revoked_where_the_authority_says_so(job_in):
    bench = job_in(Phase.LOADED)
    bench.act(acts.cancel)
    assert bench.shown() == ("processing", ["book-wanted"])
    bench.direct(Action.REVOKE)
    bench.act(acts.cancel)
    assert bench.shown() == ("processing", ["book-wanted", "revoked"])
    bench.take_back()
    ended_as(bench, "canceled", "revoked")


def test_a_technician_cancels_no_job_with_ink_that_is_revoked_already(job_in):
    bench = job_in(Phase.IN_DOUBT)
    bench.direct(Action.REVOKE)
    with pytest.raises(RequestRefused):
        bench.act(acts.cancel)


def test_a_person_who_says_what_the_evidence_said_already_is_right_and_another_word_is_wrong(
    job_in,
):
    bench = job_in(Phase.IN_DOUBT)
    bench.complete()
    with bench.told() as told:
        bench.resolve(Outcome.PRINTED)
    assert told == []
    with pytest.raises(RequestRefused):
        bench.resolve(Outcome.BLANK)
    ended_as(bench, "completed")


# Who holds, who may release


def test_what_the_authority_holds_a_technician_cannot_release(job_in):
    bench = job_in(Phase.WAITING)
    bench.direct(Action.HOLD)
    bench.act(acts.hold)
    with pytest.raises(RequestRefused) as refused:
        bench.act(acts.release)
    assert (refused.value.status, refused.value.name) == (409, "not-allowed")
    ended_as(bench, "pending-held", "job-hold")
    bench.direct(Action.RELEASE)
    ended_as(bench, "pending")


@pytest.mark.parametrize("by_authority", [False, True])
def test_what_a_technician_holds_both_can_release(job_in, by_authority):
    bench = job_in(Phase.WAITING)
    bench.act(acts.hold)
    ended_as(bench, "pending-held", "job-hold")
    if by_authority:
        bench.direct(Action.RELEASE)
    else:
        bench.act(acts.release)
    ended_as(bench, "pending")
    actor = "authority" if by_authority else TECHNICIAN
    assert (bench.receipts()[-1]["event"], bench.receipts()[-1]["actor"]) == ("job-released", actor)


def test_a_release_before_its_time_leaves_the_job_waiting_for_its_window(bench):
    bench.authorize(nbf=NOW + 50)
    bench.direct(Action.HOLD)
    assert set(bench.shown()[1]) == {"not-yet-valid", "job-hold"}
    bench.direct(Action.RELEASE)
    ended_as(bench, "pending-held", "not-yet-valid")
    with bench.told() as told:
        bench.pass_time(NOW + 50)
    assert told == []
    ended_as(bench, "pending")


def test_a_window_that_opens_leaves_a_held_job_held(bench):
    bench.authorize(nbf=NOW + 50)
    bench.direct(Action.HOLD)
    bench.pass_time(NOW + 50)
    ended_as(bench, "pending-held", "job-hold")


# Retirement


def test_a_retired_station_takes_directives_and_known_messages_but_no_new_authorization(bench):
    first = bench.authorization("job-1")
    bench.accept(first)
    bench.direct(Action.RETIRE)
    assert bench.take(first).status == 200
    for fresh in (
        bench.authorization("job-2", "C0000002"),
        bench.authorization("job-3", "C0000003", exp=NOW - 1),
        bench.authorization("job-4", "C0000004", priority=0),
    ):
        answer = bench.take(fresh)
        assert (answer.status, answer.type) == (403, "urn:print-agent:wrong-station")
    bench.direct(Action.HOLD)
    with bench.told() as told:
        bench.direct(Action.RETIRE)
    assert told == []
    bench.direct(Action.ACKNOWLEDGE)
    assert bench.events()[-1] == "documents-erased"


def test_a_job_that_was_printing_when_the_station_retired_still_ends_honestly(job_in):
    bench = job_in(Phase.COMMITTED)
    bench.direct(Action.RETIRE)
    assert bench.shown() == ("processing", [])
    bench.complete()
    ended_as(bench, "completed")


# Unknown jobs, named in advance


def test_directives_for_an_unknown_job_apply_in_the_order_of_their_seq_when_it_arrives(bench):
    hold, release, late_hold = (
        bench.order(action) for action in (Action.HOLD, Action.RELEASE, Action.HOLD)
    )
    authorization = bench.authorization()
    bench.accept(late_hold)
    bench.accept(release)
    bench.accept(hold)
    bench.accept(authorization)
    ended_as(bench, "pending-held", "job-hold")
    assert bench.read().value("SELECT count(*) FROM kept") == 0


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (Action.REVOKE, Action.TRANSFER, "revoked"),
        (Action.TRANSFER, Action.REVOKE, "transferred"),
    ],
)
def test_of_two_ends_named_in_advance_the_lower_seq_counts(bench, first, second, reason):
    orders = [bench.order(first), bench.order(second)]
    for order in reversed(orders):
        bench.accept(order)
    bench.authorize()
    ended_as(bench, "canceled", reason)
    assert bench.events()[-2:] == ["job-accepted", "job-canceled"]


def test_a_directive_named_in_advance_counts_by_its_own_arrival_not_by_its_exp(bench):
    bench.direct(Action.REVOKE, exp=NOW + 10)
    bench.clock.time = NOW + 20
    bench.authorize()
    ended_as(bench, "canceled", "revoked")


def test_what_is_printed_elsewhere_is_completed_when_it_arrives_later(bench):
    bench.direct(Action.RESUME)
    bench.authorize()
    ended_as(bench, "completed")
    assert bench.receipts()[-1]["actor"] == "authority"
    assert bench.fate() == ["printed"]


def test_what_was_revoked_and_printed_keeps_its_book_from_others(bench):
    bench.direct(Action.REVOKE)
    bench.direct(Action.RESUME)
    bench.authorize()
    ended_as(bench, "canceled", "revoked")
    assert bench.take(bench.authorization("job-2", "C0000001")).status == 409


# Replays of an aborted job


def aborted_with_time_left(bench: IntakeBench) -> None:
    """Its window ended by a clock that was then put right: two seconds are left."""
    bench.authorize("job-1", "C0000001", "C0000002", exp=NOW + 60)
    bench.pass_time(NOW + 61)
    ended_as(bench, "aborted", "expired")
    bench.clock.time = NOW + 58


def test_an_aborted_job_comes_back_while_its_window_lasts(bench):
    aborted_with_time_left(bench)
    bench.act(acts.replay)
    ended_as(bench, "pending")


@pytest.mark.parametrize("number", ["C0000001", "C0000002"])
def test_an_aborted_job_never_comes_back_to_a_book_that_another_was_given(bench, number):
    aborted_with_time_left(bench)
    bench.authorize("job-2", number)
    with pytest.raises(RequestRefused, match="job-2"):
        bench.act(acts.replay)
    bench.direct(Action.REVOKE, "job-2")
    bench.act(acts.replay)
    ended_as(bench, "pending")


@pytest.mark.parametrize("action", [Action.REVOKE, Action.TRANSFER, Action.RESUME])
def test_an_aborted_job_that_the_authority_has_done_with_never_comes_back(bench, action):
    aborted_with_time_left(bench)
    bench.direct(action)
    with pytest.raises(RequestRefused):
        bench.act(acts.replay)
    ended_as(bench, "aborted", Reason.EXPIRED)


# A job that another printer has taken


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.LOADED])
def test_an_attempt_of_another_printer_is_neither_proven_nor_committed_nor_taken_back(
    job_in, phase: Phase
):
    bench = job_in(phase)
    stale = bench.attempt()
    bench.take_back()
    bench.write(lambda tx: attempts.select(tx, "job-1", printer="other"))
    facts = {"run": 1, "boot": "boot", "identity": PrinterIdentity(serial="SN-2"), "counter": 1}
    theirs = bench.write(lambda tx: attempts.begin_load(tx, "job-1", printer="other", **facts))
    if phase is Phase.LOADED:
        theirs = bench.write(lambda tx: attempts.prove_load(tx, theirs))
        with pytest.raises(attempts.NotNow, match="at printer other"):
            bench.write(lambda tx: attempts.commit(tx, stale, inked_rows=100))
    else:
        with pytest.raises(attempts.NotNow, match="at printer other"):
            bench.write(lambda tx: attempts.prove_load(tx, stale))
    bench.take_back()
    assert bench.job().phase is phase
    assert bench.attempt() == theirs


# A book that cannot be presented


def test_whoever_presents_a_book_in_vain_is_told_whose_it_is_and_where_to_look(job_in):
    bench = job_in(Phase.IN_DOUBT)
    refused = attempts.unknown_book(bench.read(), "C0000001")
    assert (refused.status, refused.name) == (404, "unknown-book")
    assert "of job job-1 (processing-stopped, print-in-doubt)" in refused.detail
    assert "print-agent job job-1" in refused.detail
    assert "of job" not in attempts.unknown_book(bench.read(), "C9999999").detail
