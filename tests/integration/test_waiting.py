"""Waiting costs nothing: no processor time, no growing memory, and no end of the session."""

from __future__ import annotations

import contextlib
import os
import pty
import tty

import pytest
from printer_bench import FIRST, SECOND
from station_fixture import VECTORS, await_healthy, eventually, prepare, processor_s, start_process

from agent.cli.client import Client
from agent.clock import sleep
from agent.drivers.virtual.client import spawn
from agent.live import PrinterState
from agent.queue.states import Phase

NOISE_S = 60.0
LOOK_S = 3.0  # real seconds in which the processor time is measured
# Ten times and more what is measured (0.01 to 0.04); a loop without a wait takes all of it.
PROCESSOR_S_MAX = 0.5


def test_an_idle_printer_is_asked_now_and_then_and_nothing_piles_up(benches):
    bench = benches()

    def story():
        yield lambda: bench.view().state is PrinterState.IDLE
        calls = bench.calls
        yield bench.passed(1_800.0)
        assert bench.calls - calls <= 1_800.0 * 2
        assert len(bench.worker._session_now.log) <= 2

    bench.play(story(), seconds=2_000.0)
    assert len(bench.opened_at) == 1


@pytest.mark.parametrize("noise", [b"\xff", b"\x12", b"\x00", b"\x10\x00\x60\x02", b"\x13"])
def test_a_line_that_does_not_stop_talking_is_no_hang(benches, noise):
    bench = benches()
    bench.submit_jobs()
    quiet_at = bench.time + NOISE_S

    def talk():
        bench.line.say(noise)
        if bench.time < quiet_at:
            bench.after(0.1, talk)

    talk()
    bench.run(
        lambda: (
            bench.phase() is bench.phase(SECOND) is Phase.COMPLETED
            and bench.view().state is PrinterState.IDLE
        ),
        seconds=300.0,
    )
    assert bench.time < quiet_at + 60.0
    assert all(len(book.passes) <= 1 for book in bench.books.values())


@contextlib.contextmanager
def silent_port():
    """A port at whose other end nobody answers."""
    device, terminal = pty.openpty()
    tty.setraw(terminal)
    yield os.ttyname(terminal)
    os.close(device)
    os.close(terminal)


def test_an_agent_that_waits_for_printers_and_people_uses_no_processor_time(tmp_path):
    with contextlib.ExitStack() as office:
        made = {}
        for name in ("idle", "loaded", "open"):
            made[name] = office.enter_context(
                contextlib.closing(spawn(tmp_path / name, speed=20.0))
            )
            office.callback(made[name].quit)
        ports = {name: made[name].port for name in made}
        ports["silent"] = office.enter_context(silent_port())
        ports["missing"] = tmp_path / "nowhere"
        # The first job goes to the only printer that may print unasked.
        tables = [
            f'[printers.{name}]\nport = "{port}"\nflow = "none"\noverrides = {{reply_seconds = 1.0}}\n'
            f'book_check = "{"none" if name == "loaded" else "present"}"\n'
            for name, port in ports.items()
        ]
        configuration = prepare(tmp_path, 'driver = "virtual"')
        text = configuration.read_text(encoding="utf-8")
        kept = text.partition("[printers.main]")[0]
        configuration.write_text(kept + "".join(tables), encoding="utf-8")
        made["open"].open_cover()
        agent = start_process(configuration)
        office.callback(agent.wait, 60)
        office.callback(agent.terminate)
        client = Client(tmp_path / "s/a.sock")
        await_healthy(client)
        raw = (VECTORS / f"messages/{FIRST}.jws").read_bytes()
        client.call("POST", "/v1/messages", raw, kind="application/jose")

        def shown():
            return {one["name"]: one["reasons"] for one in client.get("/v1/printers")}

        eventually(
            lambda: (
                shown()
                == {
                    "idle": [],
                    "loaded": ["media-needed"],
                    "open": ["cover-open"],
                    "silent": ["offline"],
                    "missing": ["offline"],
                }
            ),
            "the printers do not show what they wait for",
        )
        before = processor_s(agent.pid)
        sleep(LOOK_S)
        assert processor_s(agent.pid) - before <= PROCESSOR_S_MAX
