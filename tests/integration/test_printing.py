"""A signed authorization becomes one printed book, whatever is killed in between."""

from __future__ import annotations

import signal

import pytest
from station_fixture import VECTORS, VIRTUAL, await_healthy, prepare, start_process

from agent.cli.client import CallFailed, Client
from agent.clock import SystemClock, sleep
from agent.config import load_settings
from agent.drivers.virtual.client import spawn
from agent.verification import verify_journal

BOOK, JOB = "P0000003", "valid-es256"
WAIT_SECONDS_MAX = 60.0


class Office:
    """A station as a process, and the virtual printer that outlives it."""

    def __init__(self, folder):
        self.configuration = prepare(folder, VIRTUAL)
        self.settings = load_settings(self.configuration)
        self.client = Client(self.settings.http.socket)
        directory = self.settings.station.state_dir / "virtual" / "main"
        self.printer = spawn(
            directory, speed=20.0, agent_socket=self.settings.http.socket, printer="main"
        )
        self.process = None

    def start(self):
        self.process = start_process(self.configuration)
        await_healthy(self.client)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def submit(self):
        raw = (VECTORS / f"messages/{JOB}.jws").read_bytes()
        assert self.client.call("POST", "/v1/messages", raw, kind="application/jose")[0] == 201

    def present(self):
        def presented():
            try:
                return self.client.post("/v1/printers/main/book", {"number": BOOK})["job"] == JOB
            except CallFailed:
                return False

        self.wait_for(presented)

    def job(self):
        return self.client.get(f"/v1/jobs/{JOB}")

    def wait_for(self, condition):
        deadline = SystemClock().monotonic() + WAIT_SECONDS_MAX
        while SystemClock().monotonic() < deadline:
            if condition():
                return
            sleep(0.02)
        raise AssertionError((self.configuration.parent / "log").read_text())

    def ink(self):
        return [book for book in self.printer.books() if book.inked]

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(30) == 0
        self.printer.quit()
        self.printer.close()

    def verify(self):
        settings = self.settings
        return verify_journal(
            settings.journal_path,
            station_id=settings.station.id,
            authority_id=settings.authority.id,
        )


@pytest.fixture
def office(tmp_path):
    office = Office(tmp_path)
    yield office
    office.end()


def test_a_presented_book_is_printed_once_and_the_journal_is_whole(office):
    office.start()
    office.submit()
    office.present()
    office.wait_for(lambda: office.job()["state"] == "completed")
    assert office.job()["attempts"] == 1
    (book,) = office.ink()
    assert book.number == BOOK
    assert len(book.passes) == 1
    report = office.verify()
    assert report.faults == ()
    assert report.receipts >= 5


def test_killed_before_the_load_is_printed_after_it(office):
    office.start()
    office.submit()
    office.kill()
    office.start()
    assert office.job()["state"] == "pending"
    office.present()
    office.wait_for(lambda: office.job()["state"] == "completed")


def test_killed_while_it_prints_is_completed_by_the_reply_that_the_printer_held(office):
    office.start()
    office.submit()
    office.present()
    office.wait_for(lambda: office.printer.state().printing)
    office.kill()
    office.start()
    office.wait_for(lambda: office.job()["state"] != "processing")
    assert office.job()["state"] == "completed"
    (book,) = office.ink()
    assert len(book.passes) == 1


def test_power_lost_by_the_printer_while_it_prints_is_a_doubt_that_a_person_ends(office):
    office.start()
    office.submit()
    office.present()
    office.wait_for(lambda: office.printer.state().printing)
    office.printer.power_off()
    office.kill()
    office.printer.power_on()
    office.start()
    office.wait_for(lambda: office.job()["state"] == "processing-stopped")
    assert "print-in-doubt" in office.job()["reasons"]
    office.wait_for(lambda: "printer-not-clear" not in office.job()["reasons"])
    with pytest.raises(CallFailed):
        office.client.post(f"/v1/jobs/{JOB}/resolve", {"outcome": "blank", "book": "OTHER"})
    office.client.post(f"/v1/jobs/{JOB}/resolve", {"outcome": "spoiled", "book": BOOK})
    assert office.job()["state"] == "aborted"
    assert office.job()["reasons"] == ["book-spoiled"]
    office.client.post(f"/v1/jobs/{JOB}/resolve", {"outcome": "spoiled", "book": BOOK})
    with pytest.raises(CallFailed):
        office.client.post(f"/v1/jobs/{JOB}/resolve", {"outcome": "printed", "book": BOOK})


def test_a_second_agent_on_the_same_state_directory_refuses(office):
    office.start()
    second = start_process(office.configuration)
    assert second.wait(30) == 1
    assert "another agent works on" in (office.configuration.parent / "log").read_text()
    assert "Traceback" not in (office.configuration.parent / "log").read_text()
