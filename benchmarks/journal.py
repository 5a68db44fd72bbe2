"""How the journal grows, and how soon a station with a long past is ready."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from agent.cli.client import Client
from agent.clock import SystemClock
from agent.queue.states import Phase
from benchmarks.figure import Figure
from benchmarks.office import authorization
from benchmarks.past import fill, print_jobs, working
from tests.integration.printer_bench import Bench
from tests.integration.station_fixture import (
    ABSENT,
    await_healthy,
    directive,
    prepare,
    processor_s,
    start_process,
)

ORDERS_FROM = 1_000_000  # the acknowledgements' numbers; the jobs' are below


def measure(*, printed: int = 100, ended: int = 100_000, rounds: int = 7) -> Iterator[Figure]:
    """The figures: growth over printed jobs, and starts with and without a past, in turn."""
    with TemporaryDirectory() as folder:
        yield _growth(Path(folder), printed)
    with TemporaryDirectory() as folder:
        young, old = (prepare(Path(folder) / name, ABSENT) for name in ("young", "old"))
        fill(old, ended, Phase.COMPLETED)
        starts = [(_start(young), _start(old)) for _ in range(rounds)]
    (young_s, old_s), (young_wall_s, old_wall_s) = (
        [median(start[kind] for start in side) for side in zip(*starts, strict=True)]
        for kind in (0, 1)
    )
    yield Figure(
        f"start to ready, {ended:,} ended jobs against none: CPU",
        old_s / young_s,
        1.2,
        "x",
        f"{old_s:.3f} s against {young_s:.3f} s; on the clock {old_wall_s:.2f} s against {young_wall_s:.2f} s",
    )


def _growth(folder: Path, printed: int) -> Figure:
    """The file's growth over the second half of the jobs: the first half left room for documents in it."""
    half = printed // 2
    with working(Bench(folder)) as bench:
        print_jobs(bench, 1, half)
        _erase(bench, ORDERS_FROM)
        before = bench.path.stat().st_size
        print_jobs(bench, half + 1, printed)
        _erase(bench, ORDERS_FROM + 1)
        grown = bench.path.stat().st_size - before
    return Figure(
        "journal growth a printed job, its document erased",
        grown / (printed - half) / 1_000,
        4.0,
        "KB",
        f"its authorization had {len(authorization(1)) / 1_000:.0f} KB",
    )


def _erase(bench: Bench, seq: int) -> None:
    """The authority has all receipts: the documents go, and the log is merged."""
    through, head = bench.journal.durable_head(bench.read())
    answer = bench.intake.take(directive(seq, "acknowledge", through=through, head=head))
    assert answer.status == 201
    assert bench.read().value("SELECT count(*) FROM documents") == 0
    assert bench.journal.checkpoint()


def _start(configuration: Path) -> tuple[float, float]:
    """Seconds of the processor and of the clock from the start of the process until it serves."""
    client = Client(configuration.parent / "s/a.sock")
    clock = SystemClock()
    began = clock.monotonic()
    process = start_process(configuration)
    try:
        await_healthy(client)
        return processor_s(process.pid), clock.monotonic() - began
    finally:
        process.terminate()
        assert process.wait(30) == 0
