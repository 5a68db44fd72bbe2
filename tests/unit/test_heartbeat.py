from __future__ import annotations

from dataclasses import dataclass

from agent.drivers.book_printer import POLL_S, WRITE_TIMEOUT_S
from agent.heartbeat import STILL_LOOKS_MAX, Heartbeat
from agent.links import inbox, readers
from agent.queue import group_commit


@dataclass
class Part:
    progress: object = 0


def test_a_part_that_stands_still_is_named_and_one_that_moves_is_not():
    moving, stuck = Part(), Part()
    heartbeat = Heartbeat({"journal": moving, "printer main": stuck}, still_looks_max=3)
    found = []
    for number in range(6):
        moving.progress = number
        found.append(heartbeat.look())
    assert found == [None, None, None, None, "printer main", "printer main"]


def test_one_step_at_the_last_moment_is_enough():
    slow = Part()
    heartbeat = Heartbeat({"printer main": slow}, still_looks_max=3)
    for number in range(5):
        slow.progress = number
        assert [heartbeat.look() for _ in range(4)] == [None] * 4


def test_of_two_the_first_is_the_cause():
    parts = {"journal": Part(), "printer main": Part()}
    heartbeat = Heartbeat(parts, still_looks_max=1)
    assert [heartbeat.look() for _ in range(3)] == [None, None, "journal"]


def test_a_part_that_was_added_later_is_watched_too():
    parts: dict[str, Part] = {}
    heartbeat = Heartbeat(parts, still_looks_max=1)
    assert heartbeat.look() is None
    parts["inbox"] = Part()
    assert [heartbeat.look() for _ in range(3)] == [None, None, "inbox"]


def test_the_longest_waits_of_the_threads_fit_well():
    # One look a second.
    longest_s = max(
        *(WRITE_TIMEOUT_S, POLL_S, inbox.RESCAN_S, readers.IDLE_S, group_commit.IDLE_STEP_S)
    )
    assert 2 * longest_s < STILL_LOOKS_MAX
