"""What stands beside the station: printers that come and go, as a technician meets them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import sys

import pytest
from desk_fixture import (
    BOOK,
    JOB,
    SPECIMEN,
    WAIT_SECONDS_MAX,
    claims,
    plugged_in,
    shown,
    submit,
    wait_for,
)

from agent import service
from agent.cli import main


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


# What a technician sees


class Eyes:
    """Everything that shows a printer's state: the call, the metrics, the command."""

    def __init__(self, client, desk, capsys, monkeypatch):
        self.client = client
        self.capsys = capsys
        monkeypatch.setattr(
            sys, "argv", ["print-agent", "printers", "--config", str(desk.folder / "station.toml")]
        )

    def see(self, state, *reasons, book_in, says):
        """Waits until the call shows it; the others must show the same."""

        def it_comes():
            (printer,) = self.client.get("/v1/printers")
            found = (printer["state"], printer["reasons"], printer["book_in"])
            return found == (state, list(reasons), book_in) and says in printer["detail"]

        wait_for(it_comes)
        metrics = self.client.call("GET", "/metrics")[1].decode()
        assert f'print_agent_printer{{name="main",state="{state}"}} 1.0' in metrics
        for reason in reasons:
            assert f'print_agent_printer_reason{{name="main",reason="{reason}"}} 1.0' in metrics
        book = 'print_agent_printer_book_in{name="main"}'
        assert (book in metrics) == (book_in is not None)
        if book_in is not None:
            assert f"{book} {float(book_in)}" in metrics
        assert main() == 0
        row = self.capsys.readouterr().out.splitlines()[1].split()
        assert row[:2] == ["main", state]
        assert {None: "-", True: "in", False: "none"}[book_in] in row
        assert says in " ".join(row)


def test_every_state_of_a_printer_is_told_to_a_technician(desk, capsys, monkeypatch):
    with desk.serving() as client:
        see = Eyes(client, desk, capsys, monkeypatch).see
        see("stopped", "offline", book_in=None, says="no such port")
        desk.switch_on()
        printer = desk.printer
        see("idle", book_in=False, says="")
        printer.open_cover()
        see("stopped", "cover-open", book_in=False, says="close the cover")
        printer.close_cover()
        printer.jam()
        see("stopped", "media-jam", book_in=False, says="take out what is jammed")
        printer.clear_jam()
        see("idle", book_in=False, says="")
        printer.insert("X1")
        see("idle", "book-removal-wanted", book_in=True, says="take the book out")
        submit(client)
        client.post("/v1/printers/main/book", {"number": BOOK})
        see("processing", "book-removal-wanted", book_in=True, says="take the book out")
        printer.remove()
        see("processing", "media-needed", book_in=False, says=f"put in book {BOOK}")
        printer.set_speed(2.0)
        printer.insert(BOOK)
        see("processing", book_in=True, says="printing")
        printer.set_speed(20.0)
        see("idle", "book-removal-wanted", book_in=True, says="take the book out")
        printer.remove()
        printer.power_off(hang_up=True)
        see("stopped", "offline", book_in=None, says="no such port")


def test_another_printer_in_the_same_place_waits_for_a_person(desk, capsys, monkeypatch):
    desk.switch_on(serial="X1")
    with desk.serving() as client:
        see = Eyes(client, desk, capsys, monkeypatch).see
        see("idle", book_in=False, says="")
        desk.close()
        desk.switch_on(serial="X2")
        see(
            "stopped",
            "printer-changed",
            book_in=False,
            says="serial number is X2, that of the last one was X1",
        )
        client.post("/v1/printers/main/accept", {"reason": "the old one is in repair"})
        see("idle", book_in=False, says="")


def test_a_printer_that_was_used_elsewhere_waits_for_a_person(desk, capsys, monkeypatch):
    desk.switch_on()
    with desk.serving() as client:
        Eyes(client, desk, capsys, monkeypatch).see("idle", book_in=False, says="")
    desk.printer.insert("X1")
    with open(desk.printer.port, "wb", buffering=0) as elsewhere:
        elsewhere.write(b"one line\n\x0c")
        state = desk.printer.wait_for(lambda state: state.place == "ejected")
    desk.printer.remove()
    with desk.serving() as client:
        see = Eyes(client, desk, capsys, monkeypatch).see
        see(
            "stopped",
            "printer-used-elsewhere",
            "printer-changed",
            book_in=False,
            says=f"it printed {state.counter} rows that this station did not send",
        )
        client.post("/v1/printers/main/accept", {"reason": "it was a test page"})
        see("idle", book_in=False, says="")


# Readers


@pytest.fixture
def reader(desk):
    with plugged_in(desk.folder / "reader") as device:
        yield device


def scan(reader, text):
    os.write(reader, f"{text}\r\n".encode())


def printed(desk, client, reader):
    """A book was scanned, put in, printed and taken out."""
    submit(client)
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


def client_events(client):
    """What the readers said, from now on, as somebody sees it who looks at live changes."""
    connection = http.client.HTTPConnection("localhost", timeout=WAIT_SECONDS_MAX)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(client.path))
    connection.request("GET", "/v1/events")
    stream = connection.getresponse()
    assert stream.readline().startswith(b":")

    def said():
        with contextlib.closing(connection), contextlib.closing(stream):
            for line in stream:
                if line.startswith(b"data: ") and b'"reader"' in line:
                    yield json.loads(line.removeprefix(b"data: "))["detail"]

    return said()


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


def test_a_scanned_zone_ends_a_doubt(desk, reader):
    desk.switch_on()
    quick = "overrides = {page_seconds = 2.0}\n"
    with desk.serving(quick + READER.format(desk.folder)) as client:
        submit(client)
        wait_for(lambda: shown(client) == ("idle", []))
        wait_for(lambda: client.get("/v1/status")["conditions"] == [])
        scan(reader, BOOK)
        wait_for(lambda: "media-needed" in shown(client)[1])
        desk.printer.insert(BOOK)
        wait_for(lambda: desk.printer.state().printing)
        desk.printer.power_off(hang_up=True)
        desk.printer.remove()
        wait_for(lambda: "print-in-doubt" in job(client)["reasons"])
        desk.printer.power_on()
        wait_for(lambda: "printer-not-clear" not in job(client)["reasons"])
        upper, lower = SPECIMEN["mrz"]
        scan(reader, f"{upper}{lower}")
        wait_for(lambda: job(client)["state"] == "completed")


def test_where_two_must_agree_a_reader_verifies_nothing(desk, reader):
    desk.switch_on()
    two = '\n[console]\ntwo_person = ["verify"]'
    with desk.serving(READER.format(desk.folder) + two) as client:
        printed(desk, client, reader)
        with contextlib.closing(client_events(client)) as events:
            scan(reader, "\r".join(SPECIMEN["mrz"]))
            assert "two technicians" in next(events)
        assert "verify-wanted" in job(client)["reasons"]


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
