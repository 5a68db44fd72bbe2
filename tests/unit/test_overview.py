"""What the station shows of itself, on a real journal."""

from __future__ import annotations

import shutil

import pytest

from agent import overview
from agent.config import settings_from
from agent.live import Board, Condition
from agent.model import JobState
from agent.overview import REFUSAL_SHOWN_S, Overview
from agent.queue.group_commit import GroupCommit
from agent.service import open_journal

NOW = 1_893_456_000


class Clock:
    def __init__(self):
        self.wall = NOW
        self.seconds = 0.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.seconds

    def go_on(self, seconds):
        self.wall += seconds
        self.seconds += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def journal(settings, clock):
    journal, _ = open_journal(settings, clock=clock)
    yield journal
    journal.close()


@pytest.fixture
def settings(tmp_path, vectors_dir):
    shutil.copyfile(vectors_dir / "station.jwks", tmp_path / "station.jwks")
    (tmp_path / "station.jwks").chmod(0o600)
    return settings_from(
        {
            "station": {"id": "sambas-01", "state_dir": str(tmp_path)},
            "authority": {"id": "imigrasi-jakarta"},
            "printers": {"main": {"driver": "virtual"}},
            "alerts": {"receipts_hours": 2},
        },
        tmp_path / "station.toml",
    )


@pytest.fixture
def view(settings, journal, clock):
    commits = GroupCommit(journal, failed=lambda error: None)
    return Overview(settings, commits=commits, board=Board(), clock=clock)


def names(view):
    return [condition.name for condition in view.conditions()]


def add_job(journal, number, phase):
    journal.write(
        lambda tx: (
            tx.put(
                "jobs",
                number,
                id=f"job-{number}",
                seq=number,
                phase=phase,
                priority=50,
                iat=1,
                exp=NOW * 2,
                accepted_at=NOW,
                entries=1,
                book=f"B{number}",
            ),
            tx.note("made"),
        )
    )


def test_receipts_that_nobody_acknowledges_become_a_condition(view, journal, clock):
    clock.go_on(100_000)
    assert names(view) == []
    journal.write(lambda tx: tx.receipt("station-started", actor="agent"))
    clock.go_on(2 * 3600 - 1)
    assert names(view) == []
    clock.go_on(1)
    (waiting,) = view.conditions()
    assert waiting.name == "receipts-waiting"
    assert "2 hours" in waiting.detail
    assert view.status()["oldest_unacknowledged_at"] == NOW + 100_000
    journal.write(
        lambda tx: (
            tx.put("station", "acknowledged", value=tx.last_receipt_seq),
            tx.note("acknowledged"),
        )
    )
    assert names(view) == []
    assert view.status()["oldest_unacknowledged_at"] is None


def test_jobs_for_a_person_are_counted_anew_after_every_change(view, journal):
    assert names(view) == []
    for number, phase in enumerate(("in-doubt", "set-aside", "waiting", "completed"), 1):
        add_job(journal, number, phase)
    assert view.status()["needs_person"] == 2
    assert names(view) == ["jobs-need-a-person"]
    journal.write(lambda tx: (tx.put("jobs", 1, phase="completed"), tx.note("resolved")))
    journal.write(lambda tx: (tx.put("jobs", 2, phase="waiting"), tx.note("replayed")))
    assert names(view) == []
    assert view.status()["jobs"][JobState.COMPLETED] == 2


def test_an_idle_station_does_not_count_its_jobs_every_second(view, journal, monkeypatch):
    add_job(journal, 1, "in-doubt")
    assert names(view) == ["jobs-need-a-person"]
    monkeypatch.setattr(overview, "jobs_for_a_person", lambda reader: pytest.fail("counted"))
    assert names(view) == ["jobs-need-a-person"]


def test_a_message_that_was_refused_unseen_is_shown_for_an_hour(view, clock):
    view.refused("malformed", sender_waits=True)
    assert names(view) == []
    view.refused("malformed", sender_waits=False)
    view.refused("expired", sender_waits=False)
    (shown,) = view.conditions()
    assert shown.name == "messages-refused"
    assert shown.detail.startswith("2 ")
    assert view.status()["messages_refused"] == {"malformed": 2, "expired": 1}
    clock.go_on(REFUSAL_SHOWN_S + 1)
    assert names(view) == []


def test_a_boot_in_1970_is_a_condition_until_the_clock_is_set(view, clock):
    clock.wall = 61
    assert "1970-01-01" in view.conditions()[0].detail
    clock.wall = NOW
    assert names(view) == []


def test_other_parts_tell_their_own(view):
    view.sources.append(lambda: [Condition("disk-filling", "free some room")])
    status = view.status()
    assert status["conditions"] == [
        {"name": "disk-filling", "detail": "free some room", "about": ""}
    ]
    assert status["journal_bytes"] > 100_000
    assert status["disk_free_bytes"] > 0
    assert status["last_receipt_at"] is None
