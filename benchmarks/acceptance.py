"""Durable acceptance over HTTP by a whole station: what a message costs beside its cryptography, and how often the disk is synced."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest import mock

import apsw

from agent.cli.client import Client
from agent.queue import journal
from agent.queue.damage import checked_vfs
from benchmarks.bare import bare_cost_s
from benchmarks.figure import Figure
from benchmarks.office import authorizations
from tests.integration.station_fixture import serving

BATCH = 1_000
CLIENTS = 64
VFS = "counts-syncs"


class CountedDisk(apsw.VFS):
    """The journal's own VFS, which counts what it syncs and for how long."""

    def __init__(self) -> None:
        self.base = checked_vfs()
        self.seconds: list[float] = []
        super().__init__(VFS, self.base)

    def xOpen(self, name, flags):  # noqa: N802 - apsw's name
        return _CountedFile(self, name, flags)

    def xDelete(self, name, syncdir):  # noqa: N802 - apsw's name
        self.timed(lambda: super(CountedDisk, self).xDelete(name, syncdir), count=syncdir)

    def timed(self, act: Callable[[], None], *, count: bool = True) -> None:
        before = time.perf_counter()
        act()
        if count:
            self.seconds.append(time.perf_counter() - before)


class _CountedFile(apsw.VFSFile):
    def __init__(self, disk: CountedDisk, name: str, flags: list[int]) -> None:
        self._disk = disk
        super().__init__(disk.base, name, flags)

    def xSync(self, flags):  # noqa: N802 - apsw's name
        self._disk.timed(lambda: super(_CountedFile, self).xSync(flags))


@cache
def counted_disk() -> CountedDisk:
    """The one of this process; connections of threads that ended may close later than their station."""
    return CountedDisk()


@dataclass(frozen=True, slots=True)
class Taken:
    """What a station did for some messages.

    Attributes:
        processor_s: A message's, of the whole station.
        syncs_s: How long each sync took.
        answers_s: How long each call took, seen by its sender.
    """

    processor_s: float
    syncs_s: list[float]
    answers_s: list[float]


def measure(*, batch: int = BATCH, singles: int = 200, rounds: int = 3) -> Iterator[Figure]:
    """The figures, each the median of some rounds; the bare cost is taken between them."""
    messages = authorizations(batch + 1)[1:]
    alone = messages[:singles]
    bare, together, crowd, single = [], [], [], []
    disk = counted_disk()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as senders:
        for _ in range(rounds):
            bare.append(bare_cost_s(messages))
            together.append(_taken([b"\n".join(messages)], senders, disk, count=batch))
            crowd.append(_taken(messages, senders, disk, clients=CLIENTS))
            single.append(_taken(alone, senders, disk))
    cost = median(bare)
    syncs = max(len(each.syncs_s) for each in together)
    yield _ratio(f"batch of {batch:,}: CPU a message", cost, together, goal=1.5)
    yield Figure(f"batch of {batch:,}: fsyncs in all", syncs, 16, "fsyncs")
    yield _ratio(f"{CLIENTS} clients at once: CPU a message", cost, crowd, goal=3.0)
    yield Figure(
        "one at a time: fdatasyncs a message",
        max(len(each.syncs_s) for each in single) / len(alone),
        1.0,
        "fdatasyncs",
    )
    answer_s = median(second for each in single for second in each.answers_s)
    sync_s = median(second for each in single for second in each.syncs_s)
    yield Figure(
        "one at a time: beside its fdatasync and the bare cost",
        (answer_s - sync_s - cost) * 1_000,
        3.0,
        "ms",
        f"{answer_s * 1_000:.1f} ms in all, {sync_s * 1_000:.1f} of them the fdatasync",
    )


def _ratio(what: str, bare_s: float, taken: Sequence[Taken], *, goal: float) -> Figure:
    spent_s = median(each.processor_s for each in taken)
    detail = f"{spent_s * 1_000:.2f} ms against {bare_s * 1_000:.2f} ms"
    return Figure(what, spent_s / bare_s, goal, "x", detail)


def _taken(
    bodies: Sequence[bytes],
    senders: ProcessPoolExecutor,
    disk: CountedDisk,
    *,
    clients: int = 1,
    count: int | None = None,
) -> Taken:
    """Hands messages to a new station, from another process, so that only the station's work is counted."""
    with TemporaryDirectory() as folder:
        with (
            mock.patch.object(journal, "checked_vfs", return_value=VFS),
            serving(Path(folder)) as client,
        ):
            # Now the senders' process is there, and the journal's thread has just written: its next idle moment is far.
            senders.submit(_send, client.path, authorizations(1), 1).result()
            disk.seconds.clear()
            before = _processor_s()
            sent: Future[list[float]] = senders.submit(_send, client.path, bodies, clients)
            answers_s = sent.result()
            spent_s = _processor_s() - before
            syncs_s = list(disk.seconds)
        # The connections of threads that ended are closed while their files are still there.
        gc.collect()
    return Taken(spent_s / (count or len(bodies)), syncs_s, answers_s)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _send(socket: Path, bodies: Sequence[bytes], clients: int) -> list[float]:
    """Runs in the senders' process: posts each body, so many at once; gives each call's time."""
    client = Client(socket)

    def post(body: bytes) -> float:
        kind = "application/jose-seq" if b"\n" in body else "application/jose"
        before = time.perf_counter()
        status, answer = client.call("POST", "/v1/messages", body, kind=kind)
        took_s = time.perf_counter() - before
        if status not in (201, 207) or b'"type":"' in answer.replace(b" ", b""):
            raise RuntimeError(f"the station refused: {status} {answer[:200]!r}")
        return took_s

    with ThreadPoolExecutor(clients) as threads:
        return list(threads.map(post, bodies))
