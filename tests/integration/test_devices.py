"""What stands beside the station: printers that come and go, as a technician meets them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import tty

import pytest
from station_fixture import VECTORS, index, serving

from agent import service
from agent.clock import SystemClock, sleep
from agent.drivers.virtual.client import spawn

(SPECIMEN,) = [vector for vector in index()["vectors"] if vector["name"] == "valid-es256"]
BOOK, JOB = SPECIMEN["book"], SPECIMEN["job"]
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


def claims(receipt):
    payload = receipt.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


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


# Readers


@contextlib.contextmanager
def plugged_in(port):
    """A reader on a pty; the end that scans."""
    device, terminal = pty.openpty()
    tty.setraw(terminal)
    port.symlink_to(os.ttyname(terminal))
    yield device
    os.close(terminal)
    os.close(device)


@pytest.fixture
def reader(desk):
    with plugged_in(desk.folder / "reader") as device:
        yield device


def scan(reader, text):
    os.write(reader, f"{text}\r\n".encode())


def printed(desk, client, reader):
    """A book was scanned, put in, printed and taken out."""
    raw = (VECTORS / SPECIMEN["file"]).read_bytes()
    assert client.call("POST", "/v1/messages", raw, kind="application/jose")[0] == 201
    wait_for(lambda: shown(client) == ("idle", []))
    wait_for(lambda: client.get("/v1/status")["conditions"] == [])
    scan(reader, BOOK)
    wait_for(
        lambda: "book-wanted" in job(client)["reasons"] and client.get("/v1/printers")[0]["job"]
    )
    desk.printer.insert(BOOK)
    wait_for(lambda: "verify-wanted" in job(client)["reasons"])
    desk.printer.remove()


def job(client):
    return client.get(f"/v1/jobs/{JOB}")


READER = 'verify = "mrz"\n[readers.desk]\nport = "{}/reader"'


def test_a_scanned_book_is_printed_and_its_scanned_zone_completes_the_job(desk, reader):
    desk.switch_on()
    with desk.serving(READER.format(desk.folder)) as client:
        printed(desk, client, reader)
        upper, lower = SPECIMEN["mrz"]
        scan(reader, f"{upper}\r{lower[:-1]}{(int(lower[-1]) + 1) % 10}")  # misread: no evidence
        scan(
            reader,
            "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\rL898902C36UTO7408122F1204159ZE184226B<<<<<10",
        )
        scan(reader, f"{upper}\r{lower}")
        wait_for(lambda: job(client)["state"] == "completed")
        told = client.receipts(0)
    events = [claims(receipt)["event"] for receipt in told]
    assert events[-3:] == ["print-committed", "print-completed", "print-verified"]


def test_a_book_with_another_zone_than_its_jobs_stops_the_job(desk, reader):
    desk.switch_on()
    with desk.serving(READER.format(desk.folder)) as client:
        printed(desk, client, reader)
        upper, lower = SPECIMEN["mrz"]
        scan(reader, f"{upper[:5]}OTHER<<NAME{'<' * 28}\r{lower}")
        wait_for(lambda: "verify-failed" in job(client)["reasons"])
        client.post(f"/v1/jobs/{JOB}/resolve", {"outcome": "printed", "book": BOOK})
        assert job(client)["state"] == "completed"


def test_a_reader_that_is_away_is_a_condition_that_ends_when_it_comes(desk):
    def away(client):
        conditions = client.get("/v1/status")["conditions"]
        return [one["detail"] for one in conditions if one["name"] == "reader-offline"]

    with desk.serving(READER.format(desk.folder)) as client:
        wait_for(lambda: "no such port" in "".join(away(client)))
        metrics = client.call("GET", "/metrics")[1].decode()
        assert 'print_agent_condition{name="reader-offline"} 1.0' in metrics
        with plugged_in(desk.folder / "reader"):
            wait_for(lambda: not away(client))
