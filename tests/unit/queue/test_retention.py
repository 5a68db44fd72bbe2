"""Documents go when the authority has their end and the days are over; what proves the past stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model import Action
from agent.queue import acts
from agent.queue.retention import DAY_S, erase_documents
from agent.queue.states import Phase
from tests.unit.crypto.crypto_samples import NOW
from tests.unit.queue.intake_bench import IntakeBench

KEPT_DAYS = 7


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[IntakeBench]:
    found = IntakeBench(tmp_path)
    found.intake._documents_days = KEPT_DAYS
    yield found
    found.close()


def documents(bench: IntakeBench) -> list[str]:
    return [row["job"] for row in bench.read().rows("SELECT job FROM documents ORDER BY job")]


def erase(bench: IntakeBench) -> int:
    count: int = bench.write(lambda tx: erase_documents(tx, kept_days=KEPT_DAYS))
    return count


def keep_clock_right(bench: IntakeBench, seconds: int) -> None:
    """Time passes with receipts now and then, so that the clock stays trusted."""
    for moment in range(0, seconds, DAY_S // 2):
        bench.clock.time = NOW + moment
        bench.write(lambda tx: tx.receipt("station-started", actor="agent"))
    bench.clock.time = NOW + seconds


def test_a_document_is_kept_for_its_days_after_the_end(bench):
    raw = bench.authorization("job-1", "C0000001")
    bench.accept(raw)
    bench.bring_to(Phase.COMPLETED)
    bench.direct(Action.ACKNOWLEDGE)
    assert documents(bench) == ["job-1"]
    assert bench.events()[-1] != "documents-erased"
    keep_clock_right(bench, KEPT_DAYS * DAY_S - 1)
    assert erase(bench) == 0
    bench.clock.time += 1
    assert erase(bench) == 1
    assert documents(bench) == []
    assert bench.events()[-1] == "documents-erased"
    # What was accepted is known for ever, and its receipts stay.
    assert bench.take(raw).status == 200
    assert "print-completed" in bench.events()
    assert bench.fate("C0000001") == ["printed"]
    assert erase(bench) == 0


def test_without_the_authoritys_word_a_document_stays_however_old(bench):
    bench.authorize("job-1", "C0000001")
    bench.bring_to(Phase.COMPLETED)
    keep_clock_right(bench, 10 * KEPT_DAYS * DAY_S)
    assert erase(bench) == 0
    assert documents(bench) == ["job-1"]


def test_a_clock_that_is_not_trusted_erases_nothing(bench):
    bench.authorize("job-1", "C0000001")
    bench.bring_to(Phase.COMPLETED)
    bench.direct(Action.ACKNOWLEDGE)
    bench.journal.known_time.started(NOW + 400 * DAY_S, 0.0)
    bench.clock.time = NOW + 400 * DAY_S
    assert erase(bench) == 0
    assert documents(bench) == ["job-1"]


def test_many_documents_go_in_steps(bench):
    for number in range(1, 4):
        bench.authorize(f"job-{number}", f"C000000{number}")
        bench.act(acts.cancel, f"job-{number}")
    bench.direct(Action.ACKNOWLEDGE)
    keep_clock_right(bench, KEPT_DAYS * DAY_S)
    counts = [
        bench.write(lambda tx: erase_documents(tx, kept_days=KEPT_DAYS, limit=2)) for _ in range(3)
    ]
    assert counts == [2, 1, 0]
