"""The evidence rules: each row of the contract, and that less evidence is never bolder."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import CounterKept
from agent.queue.recovery import (
    CounterMoved,
    Decision,
    Evidence,
    Printer,
    Stage,
    counter_movement,
    decide,
)

INTENT = Evidence(stage=Stage.INTENT, printer=Printer.SAME, buffers_clear=True)


def test_an_error_outranks_a_completion_reply():
    evidence = replace(INTENT, error_seen=True, reply_seen=True, unasked_after_reply=True)
    assert decide(evidence) is Decision.FAILED


def test_a_reply_without_a_proof_of_memory_is_a_doubt():
    assert decide(replace(INTENT, reply_seen=True)) is Decision.IN_DOUBT


def test_a_reply_and_an_unasked_status_after_it_complete():
    assert decide(replace(INTENT, reply_seen=True, unasked_after_reply=True)) is Decision.COMPLETED


def test_a_page_that_went_on_another_book_is_a_doubt_whatever_the_printer_says():
    evidence = replace(
        INTENT,
        reply_seen=True,
        unasked_after_reply=True,
        counter_kept=CounterKept.LOST,
        counter_moved=CounterMoved.BY_THE_INKED_ROWS,
    )
    assert decide(evidence) is Decision.COMPLETED
    assert decide(replace(evidence, another_book=True)) is Decision.IN_DOUBT


@pytest.mark.parametrize("kept", [CounterKept.DURABLE, CounterKept.UNKNOWN])
def test_only_a_counter_that_would_be_lost_proves_memory(kept):
    moved = replace(
        INTENT,
        reply_seen=True,
        counter_moved=CounterMoved.BY_THE_INKED_ROWS,
        counter_after_reply=True,
    )
    lost = replace(moved, counter_kept=CounterKept.LOST)
    assert decide(lost) is Decision.COMPLETED
    assert decide(replace(lost, counter_after_reply=False)) is Decision.IN_DOUBT
    assert decide(replace(moved, counter_kept=kept)) is Decision.IN_DOUBT


def test_a_counter_that_stands_still_contradicts_a_reply():
    evidence = replace(
        INTENT, reply_seen=True, unasked_after_reply=True, counter_moved=CounterMoved.NOT_AT_ALL
    )
    assert decide(evidence) is Decision.IN_DOUBT


def test_a_durable_counter_that_stands_still_proves_a_blank_book_only_with_clear_buffers():
    still = replace(INTENT, counter_kept=CounterKept.DURABLE, counter_moved=CounterMoved.NOT_AT_ALL)
    assert decide(still) is Decision.NO_INK
    assert decide(replace(still, buffers_clear=False)) is Decision.IN_DOUBT
    assert decide(replace(still, printer=Printer.OTHER)) is Decision.IN_DOUBT


def test_a_lost_counter_that_stands_still_proves_nothing_without_an_unasked_status():
    still = replace(INTENT, counter_kept=CounterKept.LOST, counter_moved=CounterMoved.NOT_AT_ALL)
    assert decide(still) is Decision.IN_DOUBT
    assert decide(replace(still, unasked_after_counter=True)) is Decision.NO_INK


def test_a_load_is_blank_only_while_somebody_watched():
    load = Evidence(stage=Stage.LOAD, agent_lived=True, book_or_line_noted=False)
    assert decide(load) is Decision.NO_INK
    assert decide(replace(load, book_or_line_noted=True)) is Decision.IN_DOUBT
    assert decide(replace(load, agent_lived=False)) is Decision.IN_DOUBT


def test_a_load_that_ended_with_the_pc_is_blank_whoever_started_since():
    load = Evidence(stage=Stage.CUT_OFF, book_or_line_noted=False)
    assert decide(load) is Decision.NO_INK
    assert decide(replace(load, book_or_line_noted=True)) is Decision.IN_DOUBT


def test_a_page_that_lay_loaded_left_no_ink():
    assert decide(Evidence(stage=Stage.LOADED)) is Decision.NO_INK


EVIDENCE = st.builds(
    Evidence,
    stage=st.sampled_from(Stage),
    printer=st.sampled_from(Printer),
    error_seen=st.booleans(),
    reply_seen=st.booleans(),
    unasked_after_reply=st.booleans(),
    another_book=st.booleans(),
    counter_kept=st.sampled_from(CounterKept),
    counter_moved=st.sampled_from(CounterMoved),
    counter_after_reply=st.booleans(),
    unasked_after_counter=st.booleans(),
    buffers_clear=st.booleans(),
    mrz_matches=st.booleans(),
    agent_lived=st.booleans(),
    book_or_line_noted=st.booleans(),
)
LESS = (
    {"reply_seen": False},
    {"unasked_after_reply": False},
    {"another_book": True},
    {"counter_after_reply": False},
    {"unasked_after_counter": False},
    {"buffers_clear": False},
    {"mrz_matches": False},
    {"printer": Printer.ABSENT},
    {"agent_lived": False},
    {"book_or_line_noted": True},
)


@given(evidence=EVIDENCE, less=st.sampled_from(LESS))
def test_less_evidence_never_gives_a_bolder_decision(evidence, less):
    before, after = decide(evidence), decide(replace(evidence, **less))
    # A contradiction that is no longer known of the same printer may restore the reply's own word.
    contradicted = "printer" in less and evidence.counter_moved in (
        CounterMoved.NOT_AT_ALL,
        CounterMoved.OTHERWISE,
        CounterMoved.FELL_BACK,
    )
    allowed = {before, Decision.IN_DOUBT}
    if before is Decision.COMPLETED and evidence.mrz_matches:
        allowed.add(Decision.NO_INK)
    assert after in allowed or contradicted


def test_a_counter_reading_is_put_into_words():
    moved = {
        after: counter_movement(before=500, after=after, inked_rows=466)
        for after in (500, 966, 0, 700, None)
    }
    assert moved == {
        500: CounterMoved.NOT_AT_ALL,
        966: CounterMoved.BY_THE_INKED_ROWS,
        0: CounterMoved.FELL_BACK,
        700: CounterMoved.OTHERWISE,
        None: CounterMoved.NOT_READ,
    }
