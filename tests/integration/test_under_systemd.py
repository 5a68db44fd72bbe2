"""The process as systemd sees it: told when it is ready, alive, stopping; and the line that outlives a crash."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from station_fixture import ABSENT, START_SECONDS_MAX, VECTORS, prepare

from agent import service
from agent.cli.client import Client
from agent.clock import SystemClock, sleep
from agent.config import load_settings
from agent.drivers.virtual.client import spawn
from agent.heartbeat import Heartbeat
from agent.links import http_server
from agent.links.inbox import Inbox
from agent.queue import group_commit
from agent.service import Service
from agent.verification import verify_journal

BOOK, JOB = "P0000003", "valid-es256"
WAIT_SECONDS_MAX = 60.0
# systemd sets LISTEN_PID and moves what it kept to 3 between fork and exec; so does this shell, which becomes the agent.
AS_SYSTEMD_STARTS = 'LISTEN_PID=$$ exec "$0" -m agent run --config "$1" 3<&"$2"'


class Systemd:
    """Starts the agent as the unit does, hears what it tells, and keeps what it is given."""

    def __init__(self, configuration: Path) -> None:
        self.configuration = configuration
        self.heard: list[str] = []
        self.store: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(configuration.parent / "notify"))
        self._socket.settimeout(START_SECONDS_MAX)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        kept = self.store.get("printer-main")
        passed = 2 if kept is None else kept
        environment = os.environ | {
            "NOTIFY_SOCKET": str(self.configuration.parent / "notify"),
            "LISTEN_FDS": str(len(self.store)),
            "LISTEN_FDNAMES": ":".join(self.store),
        }
        with (self.configuration.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *("bash", "-c", AS_SYSTEMD_STARTS),
                    *(sys.executable, str(self.configuration), str(passed)),
                ],
                env=environment,
                pass_fds=(passed,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def hear(self) -> str:
        data, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 8)
        message = data.decode()
        self.heard.append(message)
        name = message.partition("FDNAME=")[2]
        if message.startswith("FDSTORE=1"):
            (self.store[name],) = descriptors
        elif message.startswith("FDSTOREREMOVE=1") and name in self.store:
            os.close(self.store.pop(name))
        return message

    def hear_until(self, start: str) -> None:
        deadline = SystemClock().monotonic() + WAIT_SECONDS_MAX
        while not self.hear().startswith(start):
            assert SystemClock().monotonic() < deadline, self.heard

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS_MAX)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        for descriptor in self.store.values():
            os.close(descriptor)
        self._socket.close()


@pytest.fixture
def printer(tmp_path):
    with spawn(tmp_path / "printer", speed=20.0) as found:
        yield found
        found.quit()


@pytest.fixture
def systemd(tmp_path, printer) -> Iterator[Systemd]:
    found = Systemd(prepare(tmp_path, f'port = "{printer.port}"\nflow = "none"'))
    yield found
    found.close()


def test_it_says_when_it_serves_that_it_lives_and_how_long_its_stop_may_take(systemd):
    systemd.start()
    systemd.hear_until("READY=1")
    settings = load_settings(systemd.configuration)
    assert Client(settings.http.socket).call("GET", "/healthz")[0] == 200
    systemd.hear_until("WATCHDOG=1")
    assert systemd.end(signal.SIGTERM) == 0
    systemd.hear_until("STOPPING=1")
    # The profile's page_seconds and what comes after a page.
    assert systemd.heard[-1].endswith("EXTEND_TIMEOUT_USEC=100000000")
    systemd.hear_until("FDSTOREREMOVE=1")
    assert systemd.store == {}


def test_killed_while_it_prints_the_kept_line_brings_the_reply_to_the_next_process(
    systemd, printer
):
    client = Client(load_settings(systemd.configuration).http.socket)
    systemd.start()
    systemd.hear_until("READY=1")
    systemd.hear_until("FDSTORE=1")
    kept = os.fstat(systemd.store["printer-main"]).st_rdev
    assert kept == printer.port.stat().st_rdev
    submit(client)
    wait_for(lambda: client.get("/v1/printers")[0]["state"] == "idle")
    client.post("/v1/printers/main/book", {"number": BOOK})
    wait_for(lambda: client.get(f"/v1/jobs/{JOB}")["reasons"] == ["book-wanted"])
    printer.insert(BOOK)
    wait_for(lambda: printer.state().printing)
    systemd.end(signal.SIGKILL)
    # Completion reply and the status of the book that was taken out come while no agent lives.
    wait_for(lambda: not printer.state().printing)
    wait_for(lambda: printer.remove() == BOOK)
    systemd.start()
    systemd.hear_until("READY=1")
    # The lock is on the kept line: the next process takes it over, and it is kept anew.
    systemd.hear_until("FDSTORE=1")
    wait_for(lambda: client.get(f"/v1/jobs/{JOB}")["state"] != "processing")
    assert client.get(f"/v1/jobs/{JOB}")["state"] == "completed"
    (book,) = printer.books()
    assert len(book.passes) == 1
    assert systemd.end(signal.SIGTERM) == 0


def test_a_stop_waits_for_the_page_that_is_printing_and_begins_no_other(systemd, printer):
    client = Client(load_settings(systemd.configuration).http.socket)
    systemd.start()
    systemd.hear_until("READY=1")
    submit(client)
    wait_for(lambda: client.get("/v1/printers")[0]["state"] == "idle")
    client.post("/v1/printers/main/book", {"number": BOOK})
    wait_for(lambda: client.get(f"/v1/jobs/{JOB}")["reasons"] == ["book-wanted"])
    # Stopped while the page waits for its book: a book that goes in now gets no ink.
    assert systemd.end(signal.SIGTERM) == 0
    printer.insert(BOOK)
    assert not printer.state().printing
    assert printer.remove() == BOOK
    systemd.start()
    wait_for(lambda: client.runs() and client.get("/v1/printers")[0]["state"] == "idle")
    assert client.get(f"/v1/jobs/{JOB}")["state"] == "pending"
    client.post("/v1/printers/main/book", {"number": BOOK})
    wait_for(lambda: client.get(f"/v1/jobs/{JOB}")["reasons"] == ["book-wanted"])
    printer.insert(BOOK)
    wait_for(lambda: printer.state().printing)
    # Stopped while it prints: the outcome is waited for and journaled, no doubt is left.
    assert systemd.end(signal.SIGTERM) == 0
    report = verify_journal(
        load_settings(systemd.configuration).journal_path,
        station_id="sambas-01",
        authority_id="imigrasi-jakarta",
    )
    assert report.faults == ()
    assert printer.remove() == BOOK
    systemd.start()
    wait_for(client.runs)
    assert client.get(f"/v1/jobs/{JOB}")["state"] == "completed"
    assert client.get(f"/v1/jobs/{JOB}")["attempts"] == 2
    (book,) = printer.books()
    assert len(book.passes) == 1


def test_a_thread_that_hangs_is_named_and_ends_the_process_and_no_other_is(tmp_path, monkeypatch):
    told: list[str] = []
    hanging = threading.Event()
    monkeypatch.setattr(service, "TICK_S", 0.01)
    monkeypatch.setattr(service, "Heartbeat", partial(Heartbeat, still_looks_max=200))
    for module, longest_wait in (
        (service, "REOPEN_TOLD_S"),
        (service, "RECONNECT_S"),
        (http_server, "TICK_S"),
        (group_commit, "IDLE_STEP_S"),
    ):
        monkeypatch.setattr(module, longest_wait, 0.1)
    monkeypatch.setattr(Inbox, "scan", lambda _: hanging.wait())
    settings = load_settings(prepare(tmp_path, ABSENT))
    station = Service(settings)
    monkeypatch.setattr(station.manager, "alive", lambda: told.append("alive"))
    station.start()
    station.wait()
    assert len(told) >= 200
    assert str(station.failure) == "the part inbox does not move any more"
    hanging.set()
    station.failure = None
    station.stop()


def submit(client: Client) -> None:
    raw = (VECTORS / f"messages/{JOB}.jws").read_bytes()
    assert client.call("POST", "/v1/messages", raw, kind="application/jose")[0] == 201


def wait_for(condition) -> None:
    deadline = SystemClock().monotonic() + WAIT_SECONDS_MAX
    while SystemClock().monotonic() < deadline:
        if condition():
            return
        sleep(0.02)
    raise AssertionError("it did not come")
