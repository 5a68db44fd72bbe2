"""What a station takes while it waits: memory with 10,000 jobs, and processor time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.cli.client import Client
from agent.clock import SystemClock, sleep
from agent.drivers.virtual.client import VirtualPrinterClient
from agent.queue.states import Phase
from benchmarks.figure import Figure
from benchmarks.past import fill
from tests.integration.station_fixture import (
    await_healthy,
    eventually,
    prepare,
    processor_s,
    resident_kib,
    start_process,
)


def measure(
    *, jobs: int = 10_000, settle_s: float = 3.0, seconds: float = 30.0
) -> Iterator[Figure]:
    """The figures of the real process with its virtual printer ready and every job waiting."""
    with TemporaryDirectory() as folder, contextlib.ExitStack() as office:
        # The book of the next job is not presented: the printer is ready, and waits.
        configuration = prepare(Path(folder), 'driver = "virtual"\nbook_check = "present"')
        fill(configuration, jobs, Phase.WAITING)
        agent = start_process(configuration)
        office.callback(agent.wait, 60)
        office.callback(agent.terminate)
        client = Client(configuration.parent / "s/a.sock")
        await_healthy(client)
        virtual = configuration.parent / "s/virtual/main"
        office.callback(_end_printer, virtual)
        eventually(lambda: client.get("/v1/printers")[0]["state"] == "idle")
        client.get("/v1/status")
        sleep(settle_s)  # the first checkpoint and the first look at everything are behind it then
        clock = SystemClock()
        used_s, began = processor_s(agent.pid), clock.monotonic()
        sleep(seconds)
        share = (processor_s(agent.pid) - used_s) / (clock.monotonic() - began)
        resident = resident_kib(agent.pid) * 1_024 / 1_000_000
    yield Figure(f"resident memory, idle, {jobs:,} jobs", resident, 90, "MB")
    yield Figure("idle processor time", share * 100, 0.2, "%", f"of a core, over {seconds:g} s")


def _end_printer(directory: Path) -> None:
    with VirtualPrinterClient(directory) as printer:
        printer.quit()
