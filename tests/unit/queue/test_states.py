"""The table of a job's life: total, and nothing with ink comes back by itself."""

from __future__ import annotations

import pytest

from agent.queue.states import (
    ENDED,
    MAY_HAVE_INK,
    TABLE,
    Event,
    IllegalTransition,
    Phase,
    next_phase,
    phases_of,
    state_of,
)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_a_row_or_an_error(phase, event):
    if event in TABLE[phase]:
        assert next_phase(phase, event).phase in Phase
    else:
        with pytest.raises(IllegalTransition):
            next_phase(phase, event)


def test_only_a_person_or_a_proof_of_a_blank_book_brings_a_job_with_possible_ink_back():
    back = {
        event
        for phase in MAY_HAVE_INK
        for event, step in TABLE[phase].items()
        if step.phase is Phase.WAITING
    }
    assert back == {Event.NO_INK, Event.RESOLVE_BLANK, Event.SPOIL}


def test_a_completed_or_canceled_job_never_moves():
    assert TABLE[Phase.COMPLETED] == {}
    assert TABLE[Phase.CANCELED] == {}
    assert next_phase(Phase.ABORTED, Event.REPLAY).phase is Phase.WAITING


def test_only_a_loaded_page_is_committed():
    assert [phase for phase in Phase if Event.COMMIT in TABLE[phase]] == [Phase.LOADED]


def test_states_and_phases_are_each_others_inverse():
    for phase in Phase:
        assert phase in phases_of(state_of(phase))
    assert {state_of(phase).value for phase in ENDED} == {"completed", "canceled", "aborted"}
