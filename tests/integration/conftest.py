"""What the tests of stations with printers share."""

from __future__ import annotations

import contextlib

import pytest
from desk_fixture import Desk
from printer_bench import Bench

from agent import worker
from agent.drivers import transport_serial


@pytest.fixture
def desk(tmp_path, monkeypatch):
    for pause in ("RECONNECT_S", "FAULT_POLL_S", "POLL_S"):
        monkeypatch.setattr(worker, pause, 0.2)
    with contextlib.closing(Desk(tmp_path)) as found:
        yield found


@pytest.fixture
def benches(tmp_path, monkeypatch):
    """Makes a bench; the serial transport's waiting is then in its virtual time."""
    made = []

    def make(profile="page-slip", **settings):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        bench = Bench(folder, profile, **settings)
        monkeypatch.setattr(transport_serial, "_monotonic", bench.monotonic)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.close()
