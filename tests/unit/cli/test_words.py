"""A stopped job tells a person what to do, and never to decide too early."""

from __future__ import annotations

import pytest

from agent.cli.words import STATE_STYLES, next_steps, why
from agent.model import JobState, Reason


def job(state: JobState, *reasons: str) -> dict[str, object]:
    return {"id": "job-7", "book": "C1234567", "state": state, "reasons": list(reasons)}


@pytest.mark.parametrize("state", JobState)
def test_every_state_and_reason_has_words(state):
    assert state in STATE_STYLES
    for reason in Reason:
        assert why(job(state, reason)) not in ("-", reason.value)


def test_a_reason_of_a_newer_agent_is_shown_as_it_is():
    assert why(job(JobState.PENDING, "moon-wanted")) == "moon-wanted"


def test_a_wish_is_not_told_as_done_while_the_book_may_have_ink():
    stopped = why(job(JobState.PROCESSING_STOPPED, Reason.PRINT_IN_DOUBT, Reason.REVOKED))
    assert "will be canceled if it has no ink" in stopped
    assert why(job(JobState.CANCELED, Reason.REVOKED)) == "revoked by the authority"


@pytest.mark.parametrize(
    "reason", [Reason.PRINT_IN_DOUBT, Reason.PRINT_FAILED, Reason.VERIFY_FAILED]
)
def test_a_stopped_job_names_its_book_and_every_outcome(reason):
    steps = "\n".join(next_steps(job(JobState.PROCESSING_STOPPED, reason)))
    for outcome in ("printed", "blank", "spoiled"):
        assert f"print-agent resolve job-7 --book C1234567 --outcome {outcome}" in steps


def test_nobody_is_told_to_decide_while_the_page_can_still_print():
    steps = next_steps(
        job(JobState.PROCESSING_STOPPED, Reason.PRINT_IN_DOUBT, Reason.PRINTER_NOT_CLEAR)
    )
    assert "resolve" not in " ".join(steps)
    assert "printer accept" in " ".join(steps)


@pytest.mark.parametrize("state", [JobState.ABORTED, JobState.CANCELED, JobState.COMPLETED])
def test_nothing_is_to_be_done_about_an_ended_job(state):
    assert next_steps(job(state, *Reason)) == []


@pytest.mark.parametrize(
    ("state", "reason", "told"),
    [
        (JobState.PENDING, Reason.BOOK_WANTED, "print-agent present C1234567"),
        (JobState.PROCESSING, Reason.BOOK_WANTED, "Insert book C1234567"),
        (JobState.PROCESSING, Reason.BOOK_REMOVAL_WANTED, "Take the book out"),
        (JobState.PROCESSING, Reason.VERIFY_WANTED, "print-agent verify job-7 --mrz -"),
        (JobState.PENDING_HELD, Reason.JOB_SET_ASIDE, "print-agent replay job-7"),
        (JobState.PENDING_HELD, Reason.JOB_HOLD, "print-agent release job-7"),
    ],
)
def test_what_a_person_does_next(state, reason, told):
    assert told in next_steps(job(state, reason))[0]
