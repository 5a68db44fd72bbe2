"""What stands beside the station: printers that come and go, as a technician meets them."""

from __future__ import annotations

import contextlib

import pytest
from station_fixture import serving

from agent import service
from agent.clock import SystemClock, sleep
from agent.drivers.virtual.client import spawn

BOOK, JOB = "P0000003", "valid-es256"
WAIT_SECONDS_MAX = 30.0


def wait_for(condition):
    deadline = SystemClock().monotonic() + WAIT_SECONDS_MAX
    while SystemClock().monotonic() < deadline:
        if found := condition():
            return found
        sleep(0.02)
    raise AssertionError("it did not come")


class Desk:
    """A virtual printer with nobody beside it but the test, and how a station finds it."""

    def __init__(self, folder):
        self.folder = folder
        self.directory = folder / "printer"
        self.configuration = f'port = "{self.directory}/port"\nflow = "none"'
        self.printer = None

    def switch_on(self):
        self.printer = spawn(self.directory, speed=20.0)

    def serving(self, extra=""):
        return serving(self.folder, printer=f"{self.configuration}\n{extra}")

    def close(self):
        if self.printer is not None:
            self.printer.quit()
            self.printer.close()


@pytest.fixture
def desk(tmp_path):
    with contextlib.closing(Desk(tmp_path)) as found:
        yield found


def shown(client):
    (printer,) = client.get("/v1/printers")
    return printer["state"], printer["reasons"]


def test_a_printer_whose_device_appears_is_reached_at_once(desk, monkeypatch):
    class Udev:
        """Tells when the test says so."""

        def __init__(self, appeared):
            self.appeared = appeared

        def run(self):
            return

        stop = run

    told = []

    def watch(appeared):
        told.append(Udev(appeared))
        return told[0]

    monkeypatch.setattr(service, "watch_devices", watch)
    monkeypatch.setattr(service, "REOPEN_TOLD_S", 3_600.0)
    with desk.serving() as client:
        wait_for(lambda: "no such port" in client.get("/v1/printers")[0]["detail"])
        desk.switch_on()
        told[0].appeared()
        wait_for(lambda: shown(client) == ("idle", []))
