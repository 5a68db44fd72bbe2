"""The honest person beside the virtual printer."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import select
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.drivers.virtual.client import PrinterState, spawn
from agent.drivers.virtual.operator import Act, ActKind, StationView, next_act

EMPTY = PrinterState(
    version=1,
    scene=1,
    powered=True,
    place="none",
    book=None,
    cover_open=False,
    jammed=False,
    error=False,
    offline=False,
    waiting_for_book=False,
    printing=False,
    mode="page",
    counter=0,
    received_size=0,
    stalled_size=0,
    line_up=True,
    speed=1.0,
    kind="page-slip",
    serial="V1",
)
IN = dataclasses.replace(EMPTY, place="in", book="C1")
EJECTED = dataclasses.replace(EMPTY, place="ejected", book="C1")
NOTHING_INKED: frozenset[str] = frozenset()


def job(state: str, *reasons: str, book: str = "C1", priority: int = 50) -> dict[str, Any]:
    return {"state": state, "reasons": list(reasons), "book": book, "priority": priority}


def view(shown: dict[str, Any] | None, *waiting: dict[str, Any], **printer: Any) -> StationView:
    printer = {"state": "processing", "reasons": [], "presented": None, **printer}
    return StationView(printer, shown, waiting)


WANTED = job("processing", "book-wanted")


def test_wanted_book_is_put_in() -> None:
    assert next_act(EMPTY, view(WANTED), inked=NOTHING_INKED) == Act(ActKind.INSERT, "C1")


def test_no_book_is_put_in_while_the_page_is_loading() -> None:
    assert next_act(EMPTY, view(job("processing")), inked=NOTHING_INKED) is None


@pytest.mark.parametrize("state", ["pending", "pending-held", "processing-stopped"])
def test_no_book_is_put_in_for_a_job_that_is_not_processing(state: str) -> None:
    shown = view(job(state, "book-wanted"))
    assert next_act(EMPTY, shown, inked=NOTHING_INKED) is None


def test_inked_book_is_never_put_in_again() -> None:
    assert next_act(EMPTY, view(WANTED), inked=frozenset({"C1"})) == Act(ActKind.REFUSE, "C1")


def test_ejected_book_is_taken_out_even_when_no_station_answers() -> None:
    assert next_act(EJECTED, None, inked=NOTHING_INKED) == Act(ActKind.REMOVE)


def test_book_is_left_in_while_it_prints_and_taken_out_when_asked() -> None:
    asked = view(job("processing", "book-removal-wanted"))
    assert next_act(IN, view(job("processing")), inked=NOTHING_INKED) is None
    assert next_act(IN, asked, inked=NOTHING_INKED) == Act(ActKind.REMOVE)
    printing = dataclasses.replace(IN, printing=True)
    assert next_act(printing, asked, inked=NOTHING_INKED) is None
    by_printer = view(None, reasons=["book-removal-wanted"])
    assert next_act(IN, by_printer, inked=NOTHING_INKED) == Act(ActKind.REMOVE)


def test_next_book_is_presented_by_priority_and_not_twice() -> None:
    jobs = [job("pending", book="C2"), job("pending", "book-wanted", book="C3", priority=90)]
    held = job("pending", "printer-stopped", book="C4", priority=99)
    shown = view(None, *jobs, held, state="idle")
    assert next_act(EMPTY, shown, inked=NOTHING_INKED) == Act(ActKind.PRESENT, "C3")
    presented = view(None, *jobs, state="idle", presented="C3")
    assert next_act(EMPTY, presented, inked=NOTHING_INKED) is None
    stopped = view(None, *jobs, state="stopped")
    assert next_act(EMPTY, stopped, inked=NOTHING_INKED) is None


class StationServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The calls of a station that a person needs; what it shows is set by the test.

    It announces nothing: ``GET /v1/events`` is missing, so that the person has to look.
    """

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.job: dict[str, Any] | None = None
        self.waiting: list[dict[str, Any]] = []
        self.presented: str | None = None
        self.asked = threading.Event()
        super().__init__(str(path), StationHandler)


class StationHandler(http.server.BaseHTTPRequestHandler):
    server: StationServer

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        station = self.server
        if self.path == "/v1/printers":
            shown = {"name": "main", "state": "idle", "reasons": [], "presented": station.presented}
            self._answer(200, [{**shown, "job": station.job and "j1"}])
        elif self.path == "/v1/jobs/j1":
            self._answer(200, station.job)
        elif self.path.startswith("/v1/jobs?"):
            self._answer(200, station.waiting)
        else:
            self._answer(404, {"type": "urn:print-agent:not-found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.presented = body["number"]
        self.server.job = job("processing", "book-wanted", book=body["number"])
        self._answer(200, {"job": "j1"})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[StationServer]:
    server = StationServer(tmp_path / "agent.sock")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("presents", [False, True])
def test_operator_serves_a_printer_by_itself(
    station: StationServer, tmp_path: Path, presents: bool
) -> None:
    if presents:
        station.waiting = [job("pending", book="C7")]
    else:
        station.job = job("processing", "book-wanted", book="C7")
    printer = spawn(
        tmp_path / "printer",
        speed=100.0,
        agent_socket=tmp_path / "agent.sock",
        presents=presents,
        width=64,
        height=24,
    )
    with contextlib.closing(printer):
        fd = os.open(printer.port, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"\x1bL\x1d$\x08\0\x1dv0\0\x01\0\x01\0\xff\x1dI\x01")
        assert select.select([fd], [], [], 10)[0]
        assert os.read(fd, 1) == b"\x21"
        printer.wait_for(lambda state: state.place == "in" and state.book == "C7")
        assert station.presented == ("C7" if presents else None)
        station.job = job("processing", book="C7")
        os.write(fd, b"\x0c")
        printer.wait_for(lambda state: state.place == "none")
        assert printer.book("C7").inked
        # The same number once more is refused and reported.
        station.job = job("processing", "book-wanted", book="C7")
        log = printer.directory / "log"
        with pytest.raises(Exception, match="in time"):
            printer.wait_for(
                lambda state: state.place == "in" or "C7 is wanted" in log.read_text(), 1.5
            )
        assert "C7 is wanted, but it has ink" in log.read_text()
        assert printer.state().place == "none"
        printer.quit()
        os.close(fd)
