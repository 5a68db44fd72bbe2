"""How long a printer idles between two books while jobs wait, beyond what line, mechanics and person explain.

Worker, dialogue, serial port, journal and composer are the product's own. Time is virtual where somebody waits,
and real where the agent works: its computing and its syncs are in it, and a cycle of ten seconds takes none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from agent.composer import ComposedPage
from agent.drivers.profile import load_profile
from agent.queue.jobs import Job
from agent.queue.journal import Reader
from benchmarks.figure import Figure
from benchmarks.office import book
from benchmarks.page import LINE_BYTES_A_SECOND, PROFILES, printing_seconds
from benchmarks.past import print_jobs, working
from tests.integration.printer_bench import HAND_S, SMALL, Bench


class CostedBench(Bench):
    """A bench whose clock moves on by what the agent really took since its last wait; pages are composed as in the service."""

    def __init__(self, folder: Path, profile: str) -> None:
        self._worked_since: float | None = None
        whole = load_profile(profile)
        size = {key: getattr(whole, key) for key in SMALL}
        super().__init__(folder, profile, overrides=size, ahead=self._beside)

    def _beside(self, task: Callable[[], None]) -> None:
        # A thread of its own in the service: it takes nothing from the worker that waits for the printer.
        self.after(0.1, task)

    def wait(self, ready: Callable[[], Any], timeout_s: float) -> Any:
        """As the bench's, after the agent's own time."""
        if self._worked_since is not None:
            self.time += time.perf_counter() - self._worked_since
        try:
            return super().wait(ready, timeout_s)
        finally:
            self._worked_since = time.perf_counter()

    def page(self, reader: Reader, job: Job) -> ComposedPage:
        """The composer's, which may have it ready."""
        return self.composer.page(reader, job)

    def compose_ahead(self, reader: Reader, job: Job) -> None:
        self.composer.compose_ahead(reader, job)


def measure(*, books: int = 8) -> Iterator[Figure]:
    """The figure of both profiles; of the books' cycles the median."""
    for name in PROFILES:
        with TemporaryDirectory() as folder:
            yield _idle(Path(folder), name, books)


def _idle(folder: Path, name: str, books: int) -> Figure:
    bench = CostedBench(folder, name)
    with working(bench):
        print_jobs(bench, 1, books)
        starts = [bench.book(book(number)).passes[0].started_at for number in range(1, books + 1)]
        cycles = [after - before for before, after in pairwise(starts)]
        beyond = [
            cycle_s - _explained_s(bench, number) for number, cycle_s in enumerate(cycles, start=1)
        ]
    cycle_s, beyond_s = median(cycles), median(beyond)
    return Figure(
        f"{name}: printer idle between two books while jobs wait",
        beyond_s / cycle_s * 100,
        1.0,
        "%",
        f"{beyond_s * 1_000:.0f} ms of a cycle of {cycle_s:.1f} s",
    )


def _explained_s(bench: Bench, number: int) -> float:
    """From the first row of one book to that of the next one: its printing, two moves of the person, the next page's load."""
    printed, following = (bench.job(f"job-{each}") for each in (number, number + 1))
    mechanics_s = printing_seconds(bench.raster(printed.id), bench.profile.name)
    page = bench.page(bench.read(), following)
    return mechanics_s + 2 * HAND_S + len(page.data) / LINE_BYTES_A_SECOND
