"""What a person sees on a narrow terminal: ids that can be copied whole, and what to do."""

from __future__ import annotations

import re

import pytest

from agent.cli import output
from agent.cli.job_commands import _say_job, _say_jobs
from agent.model import JobState, Reason

STYLE = re.compile(r"\x1b\[[0-9;]*m")


def job(name: str, state: JobState, *reasons: str) -> dict[str, object]:
    return {
        "id": name,
        "state": state.value,
        "reasons": list(reasons),
        "priority": 50,
        "application": "2026-00017",
        "book": "C1234567",
        "attempts": 1,
        "accepted_at": 1_795_502_906,
        "nbf": None,
        "exp": 1_798_000_000,
        "ended_at": None,
    }


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns with colours."""
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)


STOPPED = job("job-b2791c965e44f844", JobState.PROCESSING_STOPPED, Reason.PRINT_IN_DOUBT)


def test_a_table_fits_and_breaks_no_id(narrow, capsys):
    _say_jobs([STOPPED, job("job-1", JobState.PENDING, Reason.BOOK_WANTED)])
    shown = capsys.readouterr().out
    assert "\x1b[" in shown
    lines = STYLE.sub("", shown).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("job-b2791c965e44f844  C1234567  processing-stopped")
    assert "  print-agent job job-b2791c965e44f844" in lines


def test_the_longest_id_that_the_contract_allows_still_fits(narrow, capsys):
    _say_jobs([job("x" * 64, JobState.PROCESSING_STOPPED, Reason.PRINT_IN_DOUBT)])
    table = STYLE.sub("", capsys.readouterr().out).partition("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert table.count("x") == 64


def test_a_command_to_copy_is_never_broken(narrow, capsys):
    _say_job(job("x" * 64, JobState.PROCESSING_STOPPED, Reason.PRINT_IN_DOUBT))
    command = f"    print-agent resolve {'x' * 64} --book C1234567 --outcome blank"
    assert command in STYLE.sub("", capsys.readouterr().out).splitlines()


def test_what_is_no_terminal_gets_one_line_a_row_without_colours(capsys):
    _say_jobs([STOPPED])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "\x1b" not in lines[1]
