"""A stop ends the worker in time wherever it stands: no new commit, and a committed page is waited for."""

from __future__ import annotations

import pytest
from printer_bench import FIRST, Step

from agent.service import STOP_TIMEOUT_S


def blocked(bench):
    bench.line.block()


def silent(bench):
    bench.line.spoil = lambda reply: []


def cable_out(bench):
    bench.line.pull()


def cover_open(bench):
    bench.printer.open_cover(bench.time)


def nobody_there(bench):
    bench.hands_full = True


def power_lost(bench):
    bench.hands_full = True
    bench.printer.power_off(bench.time)
    bench.printer.power_on(bench.time)


@pytest.mark.parametrize("profile", ["page-slip", "column-slip"])
@pytest.mark.parametrize("seconds", [0.0, 7.0, 200.0])
@pytest.mark.parametrize(
    ("step", "trouble"),
    [
        (Step.OPENING, blocked),
        (Step.OPENING, silent),
        (Step.CLEARING, cable_out),
        (Step.IDENTIFYING, cover_open),
        (Step.LOADING, blocked),
        (Step.LOADING, silent),
        (Step.FENCE, cover_open),
        (Step.BOOK_WANTED, nobody_there),
        (Step.BOOK_WANTED, blocked),
        (Step.COMMIT, blocked),
        (Step.PRINTING, silent),
        (Step.PRINTING, cover_open),
        (Step.PRINTING, power_lost),
        (Step.REPLY, nobody_there),
        (Step.OUTCOME, cable_out),
    ],
)
def test_a_stop_ends_the_worker_in_time(benches, profile, step, trouble, seconds):
    bench = benches(profile)
    bench.submit_jobs(FIRST)
    stopped_at = []

    def stop():
        stopped_at.append(bench.time)
        bench.worker.stop()

    def happens():
        trouble(bench)
        bench.after(seconds, stop)

    bench.at(step, happens)
    bench.run_to_its_end(seconds=1_000.0)
    assert bench.time - stopped_at[0] <= bench.profile.page_seconds + STOP_TIMEOUT_S
    assert bench.verify().faults == ()
    sent = bytes(bench.line.sent).count(b"\x0c\x1d\x28\x48") + bytes(bench.line.sent).count(
        b"\x0c\x1bv"
    )
    assert sent == bench.events().count("print-committed") or trouble is blocked
    assert sent <= 1
