"""A job whose page ends the agent twice is set aside, and the others go on."""

from __future__ import annotations

import contextlib

import pytest
from station_fixture import VECTORS, VIRTUAL, await_healthy, prepare

from agent.cli.client import CallFailed, Client
from agent.clock import SystemClock, sleep
from agent.config import load_settings
from agent.drivers.virtual.client import spawn
from agent.service import Service, hold_state_directory

BOOK, JOB = "P0000003", "valid-es256"


def wait_for(condition):
    deadline = SystemClock().monotonic() + 30
    while not condition():
        assert SystemClock().monotonic() < deadline
        sleep(0.02)


@contextlib.contextmanager
def started(settings):
    with hold_state_directory(settings):
        service = Service(settings)
        service.start()
        client = Client(settings.http.socket)
        await_healthy(client)
        try:
            yield service, client
        finally:
            failed = service.failure is not None
            service.stop()
            if failed:
                # The process would have ended here.
                service.commits.stop()
                service.commits.journal.close()


def present(client):
    def presented():
        try:
            client.post("/v1/printers/main/book", {"number": BOOK})
        except CallFailed:
            return False
        return True

    wait_for(presented)


def test_a_job_that_ends_the_agent_twice_is_set_aside_and_can_be_replayed(tmp_path, monkeypatch):
    settings = load_settings(prepare(tmp_path, VIRTUAL))
    directory = settings.station.state_dir / "virtual" / "main"
    printer = spawn(directory, speed=20.0, agent_socket=settings.http.socket, printer="main")
    try:
        with monkeypatch.context() as broken:

            def explode(*_args, **_more):
                raise ZeroDivisionError

            broken.setattr("agent.composer.compose", explode)
            for start in range(2):
                with started(settings) as (service, client):
                    if start == 0:
                        raw = (VECTORS / f"messages/{JOB}.jws").read_bytes()
                        client.call("POST", "/v1/messages", raw, kind="application/jose")
                    present(client)
                    wait_for(lambda service=service: service.failure is not None)
                    assert isinstance(service.failure, ZeroDivisionError)
        with started(settings) as (service, client):
            job = client.get(f"/v1/jobs/{JOB}")
            assert (job["state"], job["reasons"]) == ("pending-held", ["job-set-aside"])
            with pytest.raises(CallFailed, match="no waiting job"):
                client.post("/v1/printers/main/book", {"number": BOOK})
            assert client.post(f"/v1/jobs/{JOB}/replay", {})["state"] == "pending"
            present(client)
            wait_for(lambda: client.get(f"/v1/jobs/{JOB}")["state"] == "completed")
            assert service.failure is None
    finally:
        printer.quit()
        printer.close()
