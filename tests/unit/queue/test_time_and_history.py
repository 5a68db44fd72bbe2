"""CONTRACT section 7, rule by rule: a clock that lies, a journal that is older than the truth, a printer that went on without it."""

from __future__ import annotations

import shutil

import pytest

from agent.backup import roll_back
from agent.crypto.receipts import ChainVerifier, public_keys
from agent.drivers.book_printer import CounterReading
from agent.drivers.profile import load_profile
from agent.model import Action, PrinterIdentity, process_id_text
from agent.queue import attempts, intake_rules
from agent.queue.attempts import NotNow
from agent.queue.known_time import KnownTime
from agent.queue.recovery import Decision, Printer
from agent.queue.states import Phase
from agent.watch import Watch
from tests.unit.crypto.crypto_samples import KEYS, NOW, STATION
from tests.unit.queue.intake_bench import PRINTER, SERIAL, IntakeBench

HOUR, DAY = 3_600, 86_400
FOREIGN_HEAD = "A" * 43


@pytest.fixture
def bench(tmp_path):
    bench = IntakeBench(tmp_path)
    yield bench
    bench.close()


def started_again(bench: IntakeBench, *, at: int) -> None:
    """The station starts at this wall clock."""
    bench.clock.time = at
    bench.journal.known_time.started(at, bench.clock.monotonic())


def clock_of(receipt) -> str | None:
    return receipt.get("evidence", {}).get("clock")


# Time


@pytest.mark.parametrize(
    ("at", "trusted"),
    [(-301, False), (-300, True), (DAY, True), (DAY + 1, False)],
)
def test_the_clock_s_trust_at_a_start_ends_300_s_behind_and_a_day_ahead(at, trusted):
    time = KnownTime(NOW)
    time.started(NOW + at, 0.0)
    assert time.trusted(NOW + at) is trusted


def test_a_station_that_idles_for_a_week_trusts_its_clock_and_one_that_jumps_a_week_does_not():
    time = KnownTime(NOW)
    time.started(NOW, 0.0)
    for day in range(8):
        time.observe(NOW + day * DAY, float(day * DAY))
    assert time.trusted(NOW + 7 * DAY)
    time.observe(NOW + 15 * DAY, 7.0 * DAY + 1)
    assert not time.trusted(NOW + 15 * DAY)
    # Set back it has jumped again, so that it is held against the known time once more.
    time.observe(NOW + 7 * DAY, 7.0 * DAY + 2)
    assert not time.trusted(NOW + 7 * DAY)
    time.observe(NOW + HOUR, 7.0 * DAY + 3)
    assert time.trusted(NOW + HOUR)


@pytest.mark.parametrize("at", [-301, DAY + 1])
def test_under_an_untrusted_clock_messages_are_taken_nothing_prints_and_nothing_expires(bench, at):
    bench.authorize(exp=NOW + HOUR)
    known = bench.journal.known_time.known
    started_again(bench, at=NOW + at)
    bench.authorize("job-2", "C0000002", exp=NOW + HOUR)
    assert clock_of(bench.receipts()[-1]) == "untrusted"
    assert bench.journal.known_time.known == known
    bench.write(intake_rules.let_time_pass)
    for job in ("job-1", "job-2"):
        assert bench.job(job).phase is Phase.WAITING
        with pytest.raises(NotNow, match="the clock is not trusted"):
            bench.select(job)
    # Corrected, it goes on by itself.
    bench.clock.time = NOW
    bench.select()
    assert bench.job().phase is Phase.SELECTED


def test_a_window_is_held_against_the_known_time_while_the_clock_is_not_trusted(bench):
    bench.authorize()
    started_again(bench, at=NOW - DAY)
    assert bench.take(bench.authorization("job-2", "C0000002", exp=NOW - 1)).status == 410


def test_a_clock_ahead_is_confirmed_by_a_message_s_iat_and_by_nothing_else_of_it(bench):
    bench.authorize()
    started_again(bench, at=NOW + 2 * DAY)
    later = NOW + 2 * DAY - HOUR
    bench.authorize("job-2", "C0000002", exp=later, nbf=later)
    assert bench.take(b"refused").status == 400
    assert bench.take(bench.authorization("job-3", "C0000003", iat=later, priority=0)).status == 400
    assert not bench.journal.clock_trusted()
    bench.authorize("job-4", "C0000004", iat=later, exp=later + DAY)
    assert bench.journal.clock_trusted()
    assert clock_of(bench.receipts()[-1]) is None


def test_an_iat_far_ahead_waits_and_moves_nothing_else(bench):
    known = bench.journal.known_time.known or NOW
    ahead = NOW + DAY + 1
    bench.authorize(iat=ahead, exp=ahead + DAY)
    assert bench.shown() == ("pending-held", ["clock-untrusted"])
    assert bench.journal.known_time.known == known
    bench.clock.time = ahead - 1
    bench.write(intake_rules.let_time_pass)
    assert bench.job().phase is Phase.HELD
    bench.pass_time(ahead)
    assert bench.job().phase is Phase.WAITING


def test_a_directive_from_the_future_takes_effect_and_moves_no_clock(bench):
    bench.authorize()
    bench.direct(Action.REVOKE, iat=NOW + 30 * DAY, exp=NOW + 40 * DAY)
    assert bench.shown() == ("canceled", ["revoked"])
    assert bench.journal.known_time.known == NOW


# A journal that is older than the truth


def cloned(bench: IntakeBench, folder) -> IntakeBench:
    """Another PC with a copy of the disk."""
    bench.journal.checkpoint()
    folder.mkdir()
    shutil.copyfile(bench.path, folder / "journal.db")
    return IntakeBench(folder, clock=bench.clock)


def test_a_cloned_disk_is_found_by_the_first_acknowledge_of_the_other_s_receipts(bench, tmp_path):
    bench.authorize()
    clone = cloned(bench, tmp_path / "clone")
    bench.bring_to(Phase.COMPLETED)
    through, head = bench.journal.durable_head(bench.read())
    foreign = bench.order(Action.ACKNOWLEDGE)
    bench.accept(foreign)
    assert not bench.read().station("rolled_back")
    with clone.told() as told:
        clone.accept(foreign)
        clone.accept(clone.order(Action.ACKNOWLEDGE, seq=3, through=through + 9, head=FOREIGN_HEAD))
    assert told == ["journal-rolled-back"]
    assert clone.receipts()[-1]["evidence"] == {"through": through, "head": head}
    clone.close()


def test_a_journal_that_is_rolled_back_goes_on_accepting_and_prints_nothing_until_resume(bench):
    bench.authorize()
    bench.direct(Action.ACKNOWLEDGE, through=50, head=FOREIGN_HEAD)
    bench.authorize("job-2", "C0000002")
    bench.direct(Action.HOLD, "job-2")
    assert bench.shown("job-2") == ("pending-held", ["job-hold"])
    with pytest.raises(NotNow, match="older than the truth"):
        bench.select()
    # Not even an acknowledge that fits ends it: the station does not judge its own past.
    bench.direct(Action.ACKNOWLEDGE)
    with pytest.raises(NotNow, match="older than the truth"):
        bench.select()
    bench.direct(Action.RESUME, job=None, through=50, head=FOREIGN_HEAD)
    bench.select()
    assert bench.job().phase is Phase.SELECTED


def test_a_page_that_is_loaded_when_the_rollback_is_found_is_never_committed(bench):
    bench.authorize()
    bench.bring_to(Phase.LOADED)
    bench.direct(Action.ACKNOWLEDGE, through=50, head=FOREIGN_HEAD)
    with pytest.raises(NotNow, match="older than the truth"):
        bench.commit()
    assert bench.fate() == ["blank"]


@pytest.mark.parametrize("through", [2, 60])
def test_the_resume_s_receipt_is_the_only_one_that_jumps_and_the_chain_stays_whole(bench, through):
    bench.authorize()
    bench.direct(Action.ACKNOWLEDGE, through=50, head=FOREIGN_HEAD)
    last = bench.journal.head.seq
    bench.direct(Action.RESUME, job=None, through=through, head=FOREIGN_HEAD)
    resumed = bench.receipts()[-1]
    assert resumed["event"] == "journal-resumed"
    assert resumed["seq"] == max(through, last) + 1
    assert resumed["evidence"] == {"through": through, "head": FOREIGN_HEAD, "forked_after": None}
    bench.authorize("job-2", "C0000002")
    assert bench.receipts()[-1]["seq"] == resumed["seq"] + 1
    verifier = ChainVerifier(STATION, public_keys(KEYS.public_jwks()))
    texts = [text for _, text in bench.journal.receipts_after(bench.read(), 0, 1_000)]
    assert verifier.faults(texts) == []


def test_a_resume_names_what_both_chains_share(bench):
    bench.authorize()
    seq, head = bench.journal.durable_head(bench.read())
    bench.direct(Action.RESUME, job=None, through=seq, head=head)
    assert bench.receipts()[-1]["evidence"]["forked_after"] == seq
    # What an earlier restore knew does not outlive its resume.
    bench.write(lambda tx: tx.put("station", "restored_through", value=2) or tx.note("restored"))
    for shared in (2, None):
        bench.direct(Action.RESUME, job=None, through=90, head=FOREIGN_HEAD)
        assert bench.receipts()[-1]["evidence"]["forked_after"] == shared


def test_an_acknowledge_signed_before_the_resume_does_not_undo_it(bench):
    bench.authorize()
    old = bench.order(Action.ACKNOWLEDGE, through=50, head=FOREIGN_HEAD)
    bench.direct(Action.RESUME, job=None, through=50, head=FOREIGN_HEAD)
    bench.accept(old)
    assert not bench.read().station("rolled_back")


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.HELD, Phase.LOADED, Phase.IN_DOUBT])
def test_what_the_authority_knows_to_be_printed_is_completed_by_the_resume(bench, phase):
    bench.authorize()
    bench.bring_to(phase)
    bench.direct(Action.RESUME, "job-1")
    assert bench.shown() == ("completed", [])
    assert bench.fate() == ["printed"]
    completed = [row for row in bench.receipts() if row["event"] == "print-completed"][-1]
    assert (completed["actor"], completed["job"]) == ("authority", "job-1")


def test_what_was_printed_is_completed_also_when_it_is_sent_again_only_later(bench):
    bench.direct(Action.RESUME, "job-1", printed=["job-1"])
    bench.authorize()
    assert bench.shown() == ("completed", [])
    with pytest.raises(NotNow):
        bench.select()


def test_after_a_resume_the_jobs_of_before_print_only_into_a_presented_book(bench):
    bench.authorize()
    bench.direct(Action.RESUME, job=None)
    bench.authorize("job-2", "C0000002")
    assert [job.id for job in attempts.candidates(bench.read(), now=NOW, limit=9)] == ["job-2"]
    bench.select()


def test_process_ids_leap_so_that_no_lost_one_comes_again(bench):
    bench.authorize()
    bench.bring_to(Phase.COMMITTED)
    assert bench.receipts()[-1]["evidence"]["process_id"] == process_id_text(1)
    bench.complete()
    bench.direct(Action.RESUME, job=None)
    bench.authorize("job-2", "C0000002")
    bench.bring_to(Phase.COMMITTED, "job-2")
    assert bench.receipts()[-1]["evidence"]["process_id"] == process_id_text(
        1_000_002 + NOW % 1_000_000
    )


def test_one_copy_restored_twice_gives_process_ids_that_do_not_meet(tmp_path):
    """A reply to an attempt after the first restore, still held by a printer, answers none after the second."""
    found = []
    for later in (0, 60):
        (tmp_path / str(later)).mkdir()
        bench = IntakeBench(tmp_path / str(later))
        bench.clock.time += later
        bench.write(roll_back)
        found.append(bench.read().station("process_id"))
        bench.close()
    assert found[1] - found[0] == 60


def test_a_copy_of_a_restored_journal_knows_what_it_shares_with_the_authority(bench):
    bench.authorize()
    shared = bench.receipts()[-1]["seq"]
    bench.write(roll_back)
    bench.write(roll_back)
    bench.direct(Action.RESUME, job=None, through=100, head=FOREIGN_HEAD)
    resumed = [row for row in bench.receipts() if row["event"] == "journal-resumed"][-1]
    assert resumed["evidence"]["forked_after"] == shared


# A printer that went on without this journal


def connect(bench: IntakeBench, counter: int | None, *, serial: str | None = "SN-1") -> str | None:
    """The printer is connected; gives why it must stop."""
    identity = PrinterIdentity(serial=serial, model=SERIAL.model)
    return bench.write(
        lambda tx: attempts.seen_at_connect(tx, printer=PRINTER, identity=identity, counter=counter)
    )


def accept_printer(bench: IntakeBench) -> bool:
    return bench.write(
        lambda tx: attempts.accept_printer(
            tx, PRINTER, actor="technician:ani", reason="looked", answers=True
        )
    )


def test_a_counter_ahead_of_the_journal_stops_the_printer_until_a_technician_accepts_it(bench):
    assert connect(bench, 500) is None
    bench.authorize()
    assert connect(bench, 501) == "printer-used-elsewhere"
    told = bench.receipts()[-1]
    assert told["event"] == "printer-changed"
    assert told["evidence"]["counter"] == 501
    assert told["evidence"]["journaled"] == 500
    assert attempts.reason_of_stop(bench.read(), PRINTER)
    assert connect(bench, 501)
    assert bench.events().count("printer-changed") == 1
    assert accept_printer(bench)
    assert bench.receipts()[-1]["actor"] == "technician:ani"
    assert connect(bench, 501) is None
    # Whoever used it may have printed what waits here.
    assert attempts.candidates(bench.read(), now=NOW) == []


def test_a_counter_that_fell_back_lost_its_power_and_stops_nothing(bench):
    connect(bench, 500)
    assert connect(bench, 0) is None


def test_another_printer_than_the_last_one_stops_and_the_first_one_is_taken(bench):
    assert connect(bench, 500) is None
    assert connect(bench, 10, serial="SN-2") == "printer-changed"
    assert accept_printer(bench)
    assert connect(bench, 10, serial="SN-2") is None
    assert connect(bench, 500) == "printer-changed"


def test_a_counter_may_run_ahead_of_an_open_intent_until_it_is_clear_and_counted(bench):
    connect(bench, 500)
    bench.authorize()
    bench.bring_to(Phase.COMMITTED)
    assert connect(bench, 650) is None
    bench.doubt()
    assert connect(bench, 700) is None
    assert connect(bench, 701) == "printer-used-elsewhere"


def test_after_a_restore_no_counter_speaks_for_an_attempt_of_before(bench):
    """The printer was switched off and on meanwhile, and its counter stands where it stood at the intent."""

    def decided() -> Decision:
        watch = Watch(bench.attempt(), load_profile("page-slip"))
        watch.printer, watch.clear = Printer.SAME, True
        watch.count(CounterReading(500, position=0))
        watch.unasked_after_counter = True
        return watch.decide()

    bench.authorize()
    bench.bring_to(Phase.COMMITTED)
    assert decided() is Decision.NO_INK
    bench.write(lambda tx: attempts.forget_counters(tx) or tx.note("restored"))
    assert decided() is Decision.IN_DOUBT
