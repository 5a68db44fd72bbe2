"""What the printer said is evidence wherever the session broke off, and nothing else is."""

from __future__ import annotations

import pytest
from bench_line import unspoilt
from printer_bench import BOOKS, FIRST, SECOND, Step

from agent.drivers import escpos
from agent.drivers.book_printer import RESTART_GRACE_S
from agent.live import PrinterState
from agent.queue.states import Phase

MUTE_S = 20.0


def settled(bench):
    return lambda: (
        bench.phase(SECOND) is Phase.COMPLETED and bench.view().state is PrinterState.IDLE
    )


def lose_statuses(bench, seconds=MUTE_S):
    """The answers to DLE EOT are lost for a while; everything else arrives."""
    bench.line.spoil = lambda reply: [] if reply[0] & 0x93 == 0x12 else [(0.0, reply)]
    bench.after(seconds, lambda: setattr(bench.line, "spoil", unspoilt))


def test_a_completion_reply_read_while_a_status_was_awaited_completes_the_job(benches):
    bench = benches()
    bench.submit_jobs()
    bench.at(Step.PRINTING, lambda: lose_statuses(bench))
    bench.run(settled(bench))
    assert bench.events()[1:] == ["print-committed", "print-completed"]


def test_an_error_read_while_a_status_was_awaited_fails_the_job(benches):
    bench = benches()
    bench.submit_jobs()

    def trouble():
        # The cover is open for a moment, and the question that was asked just before has no answer.
        lose_statuses(bench)
        bench.after(2.0, lambda: bench.printer.open_cover(bench.time))
        bench.after(2.5, lambda: bench.printer.close_cover(bench.time))

    bench.printer.make = bench.make(row_seconds=0.05)
    bench.at(Step.PRINTING, trouble)
    bench.run(settled(bench))
    assert bench.events()[1:] == ["print-committed", "print-failed"]


def test_a_reply_outlives_a_session_that_broke_before_the_printer_said_who_it_is(benches):
    bench = benches()
    bench.submit_jobs()
    bench.line.holds_replies = True

    def cable_out_for_a_while():
        bench.line.pull()
        bench.after(3.0, bench.line.plug)

    def and_again():
        cable_out_for_a_while()
        bench.at(Step.CLEARING, cable_out_for_a_while)

    bench.at(Step.PRINTING, and_again)
    bench.run(settled(bench))
    assert bench.events()[1:] == ["print-committed", "print-in-doubt", "print-completed"]


@pytest.mark.parametrize(
    ("profile", "then"),
    [
        # The counter did not move, and the book that was taken out proves that the printer kept its memory.
        ("page-slip", ["job-requeued", "print-committed", "print-completed"]),
        ("column-slip", []),
    ],
)
def test_an_answer_to_another_question_never_completes_a_page(benches, profile, then):
    bench = benches(profile)
    bench.submit_jobs()

    def nothing_gets_through():
        # The commit stalls; what clears the printer gets through, and is answered.
        bench.line.block()
        bench.after(40.0, bench.line.unblock)

    bench.at(Step.COMMIT, nothing_gets_through)
    bench.run(settled(bench))
    assert bench.events()[1:] == ["print-committed", "print-in-doubt", *then]
    assert len(bench.book(BOOKS[FIRST]).passes) == (1 if then else 0)


def test_a_doubt_ends_as_soon_as_the_book_that_proves_it_blank_is_taken_out(benches):
    bench = benches()
    bench.submit_jobs()
    taken_out_at = []
    remove = bench.remove

    def nothing_gets_through():
        bench.line.block()
        bench.after(40.0, bench.line.unblock)

    def note_and_remove():
        taken_out_at.append(bench.time)
        remove()

    bench.at(Step.COMMIT, nothing_gets_through)
    bench.remove = note_and_remove
    bench.run(lambda: taken_out_at and bench.phase() is not Phase.IN_DOUBT)
    assert bench.events()[1:] == ["print-committed", "print-in-doubt", "job-requeued"]
    # A person who looks at the book in the hand by then is not asked any more.
    assert bench.time - taken_out_at[0] < RESTART_GRACE_S / 2


def test_a_reply_without_process_ids_is_no_evidence_in_the_next_session(benches):
    bench = benches("column-slip")
    bench.submit_jobs()
    bench.hands_full = True
    bench.after(2.0, lambda: bench.insert(BOOKS[FIRST]))

    def cable_out():
        bench.line.pull()
        bench.after(3.0, bench.line.plug)
        bench.after(200.0, lambda: setattr(bench, "hands_full", False))

    bench.at(Step.OUTCOME, cable_out)
    bench.run(settled(bench))
    assert bench.events()[1:] == ["print-committed", "print-in-doubt"]


def test_a_stop_in_a_doubt_keeps_the_next_start_from_taking_a_new_status_for_an_old_one(benches):
    bench = benches()
    bench.submit_jobs()
    bench.after(2.0, lambda: bench.insert(BOOKS[FIRST]))
    bench.hands_full = True

    def power_blinks():
        # The counter begins at 0 again, where it was before the page: it seems not to have moved.
        bench.printer.power_off(bench.time)
        bench.printer.power_on(bench.time)

    bench.at(Step.PRINTING, power_blinks)
    bench.run(lambda: bench.view().removal_wanted)
    bench.after(1.0, bench.worker.stop)
    bench.run_to_its_end()
    bench.start_agent()
    bench.run(lambda: bench.view().removal_wanted)
    bench.hands_full = False
    bench.run(settled(bench))
    assert bench.phase() is Phase.IN_DOUBT


@pytest.mark.parametrize("profile", ["page-slip", "column-slip"])
def test_a_book_put_in_for_one_that_was_pulled_out_while_no_agent_ran_stays_blank(benches, profile):
    bench = benches(profile)
    bench.submit_jobs(FIRST)
    bench.run(lambda: Step.PRINTING in bench.reached)
    bench.hands_full = True
    bench.remove()
    bench.start_agent()
    other = bench.book("OTHER0001")
    # Within the time in which the first page might still be printing.
    bench.after(3.0, lambda: bench.printer.insert_book(other, bench.time))
    bench.run(lambda: bench.phase() is Phase.IN_DOUBT, seconds=300.0)
    bench.run(bench.passed(bench.profile.page_seconds), seconds=300.0)
    assert not other.inked()


def test_what_proves_a_page_outlives_a_reconciliation_that_broke_off(benches):
    bench = benches(make={"completion_moment": "ejected"})
    bench.submit_jobs(FIRST)
    bench.run(lambda: Step.PRINTING in bench.reached)
    bench.hands_full = True

    def cable_out_at_the_counter(reply):
        if not (reply[:1] == b"_" and reply[1:-1].isdigit()):
            return unspoilt(reply)
        # By now the reply, the ejection and the serial number were heard; the book leaves unseen.
        bench.line.spoil = unspoilt
        bench.line.pull()
        bench.remove()
        bench.after(3.0, bench.line.plug)
        return []

    bench.line.spoil = cable_out_at_the_counter
    bench.start_agent()
    bench.run(lambda: bench.phase() is Phase.COMPLETED)
    assert bench.line.spoil is unspoilt


@pytest.mark.parametrize("blinks", [False, True])
def test_a_reply_that_comes_after_the_counter_was_read_has_it_read_again(benches, blinks):
    bench = benches()
    bench.submit_jobs()
    held = []

    def hold_completion(reply):
        if not reply.startswith(b"\x37\x22"):
            return [(0.0, reply)]
        held.append(reply)
        return []

    def story():
        yield lambda: bench.phase() is Phase.COMMITTED
        bench.hands_full = True
        yield lambda: bench.phase() is Phase.IN_DOUBT
        yield bench.passed(3.0)
        if blinks:
            bench.printer.power_off(bench.time)
            bench.printer.power_on(bench.time)
        bench.line.say(held[0])
        yield bench.passed(30.0)

    bench.at(Step.COMMIT, lambda: setattr(bench.line, "spoil", hold_completion))
    bench.play(story())
    counter = escpos.counter(bench.profile.counter)
    talk = bench.line.talk
    afterwards = talk[talk.index(("printer", held[0])) :]
    assert any(who == "host" and counter in data for who, data in afterwards)
    # Switched off and on since, its counter says no more that the page was printed whole.
    assert bench.phase() is (Phase.IN_DOUBT if blinks else Phase.COMPLETED)


def blink(bench):
    """The printer loses its power for a second; what is sent to it meanwhile is gone."""

    def back():
        bench.line.forget_sent()
        bench.printer.power_on(bench.time)

    bench.printer.power_off(bench.time)
    bench.after(1.0, back)


def test_a_printer_that_was_silent_before_the_intent_has_its_page_loaded_again(benches):
    bench = benches()
    bench.submit_jobs()

    def blinks_once_it_told_of_the_book(reply):
        if reply[0] & 0x93 == 0x10 and bench.phase() is Phase.LOADED:
            bench.line.spoil = unspoilt
            blink(bench)
        return [(0.0, reply)]

    bench.at(
        Step.BOOK_WANTED, lambda: setattr(bench.line, "spoil", blinks_once_it_told_of_the_book)
    )
    bench.run(settled(bench))
    assert bench.events()[1:] == ["print-committed", "print-completed"]


def test_a_book_that_went_in_during_the_print_makes_a_doubt_though_its_leaving_died_with_the_agent(
    benches,
):
    bench = benches()
    bench.submit_jobs()
    out_at = []

    def pulled_out():
        out_at.append(bench.time)
        bench.hands_full = True
        bench.remove()

    bench.printer.make = bench.make(row_seconds=0.05)
    bench.at(Step.PRINTING, pulled_out)
    # It was told of the leaving, and asks where the book is.
    bench.run(lambda: out_at and bench.line.sent.endswith(b"\x10\x04\x05"))
    told = [data for who, data in bench.line.talk if who == "printer"]
    assert any(data.startswith(b"\x10\x00\x60") for data in told)
    bench.insert(BOOKS[FIRST])
    bench.hands_full = False
    bench.start_agent()
    bench.run(settled(bench))
    assert bench.events()[1:] == ["print-committed", "print-in-doubt"]
    assert len(bench.book(BOOKS[FIRST]).passes) == 2  # torn, as the person who looks at it will see
