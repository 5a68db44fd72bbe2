"""The person beside the virtual printer: puts in the wanted book, takes out the printed one.

What the person does is decided by ``next_act`` from what the station and the printer show. The
person is honest: a book that has ink is never put in again, whatever the station asks; that is
reported.
"""

from __future__ import annotations

import enum
import http.client
import json
import os
import select
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.drivers.virtual import control
from agent.drivers.virtual.client import PrinterState, VirtualPrinterClient
from agent.errors import PrinterFault, RequestRefused
from agent.model import JobState, Reason

HAND_SECONDS = 2.0  # what a person takes to put a book in or out, at the printer's speed of 1
GLANCE_SECONDS = 0.5  # how often the person looks at a station that announces nothing
STATION_GLANCE_SECONDS = 5.0  # how often at one that does, to be sure
STATION_SECONDS_MAX = 10.0  # how long an answer of the station may take
WAITING_JOBS_MAX = 100


class ActKind(enum.StrEnum):
    """What a person can do beside a printer."""

    INSERT = "insert"
    REMOVE = "remove"
    PRESENT = "present"
    REFUSE = "refuse"  # the wanted book has ink: report it


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do; ``number`` is a book's."""

    kind: ActKind
    number: str = ""


@dataclass(frozen=True, slots=True)
class StationView:
    """What the station shows: one of ``GET /v1/printers``, its job, and the jobs that wait.

    ``waiting`` is empty unless the person also presents books.
    """

    printer: dict[str, Any]
    job: dict[str, Any] | None
    waiting: tuple[dict[str, Any], ...] = ()


def next_act(
    printer: PrinterState, station: StationView | None, *, inked: frozenset[str]
) -> Act | None:
    """What the person does next; None: nothing.

    Args:
        printer: what can be seen on the printer.
        station: None while the station does not answer.
        inked: the numbers of all books that have ink.
    """
    if printer.place == "ejected":
        return Act(ActKind.REMOVE)
    if station is None:
        return None
    job = station.job
    reasons = {*station.printer.get("reasons", ()), *(job["reasons"] if job else ())}
    if printer.place == "in":
        wanted_out = Reason.BOOK_REMOVAL_WANTED in reasons and not printer.printing
        return Act(ActKind.REMOVE) if wanted_out else None
    if job is not None and job["state"] == JobState.PROCESSING:
        if Reason.BOOK_WANTED not in job["reasons"]:
            return None
        return Act(ActKind.REFUSE if job["book"] in inked else ActKind.INSERT, job["book"])
    if station.printer.get("presented") or station.printer.get("state") == "stopped":
        return None
    ready = [one for one in station.waiting if set(one["reasons"]) <= {Reason.BOOK_WANTED}]
    if not ready:
        return None
    return Act(ActKind.PRESENT, max(ready, key=lambda one: int(one["priority"]))["book"])


class StationConnection(http.client.HTTPConnection):
    """HTTP over the station's unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=STATION_SECONDS_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = control.connect_path(self._path)
        self.sock.settimeout(self.timeout)


class Station:
    """The station as a person sees it through its socket."""

    def __init__(self, socket_path: Path, printer: str) -> None:
        self._path = socket_path
        self._printer = printer
        self._events: tuple[StationConnection, http.client.HTTPResponse] | None = None

    def view(self, *, with_waiting: bool) -> StationView | None:
        """What it shows now; None where it does not answer."""
        try:
            printers = self._get("/v1/printers")
            printer = next((one for one in printers if one["name"] == self._printer), None)
            if printer is None:
                return None
            job = self._get(f"/v1/jobs/{quote(printer['job'])}") if printer.get("job") else None
            waiting: list[dict[str, Any]] = []
            if with_waiting and not printer.get("presented"):
                waiting = self._get(f"/v1/jobs?state=pending&limit={WAITING_JOBS_MAX}")
            return StationView(printer, job, tuple(waiting))
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return None

    def present(self, number: str) -> None:
        """Scans a book; a refusal is the station's word, to be tried again later."""
        body = json.dumps({"number": number}).encode("ascii")
        try:
            self._call("POST", f"/v1/printers/{quote(self._printer)}/book", body)
        except (OSError, http.client.HTTPException):
            return

    def wait_for_event(self, printer: VirtualPrinterClient) -> None:
        """Waits until the station or the printer shows something new, or for a glance."""
        if self._events is None:
            self._events = self._listen()
        if self._events is None:
            select.select([printer], [], [], GLANCE_SECONDS)
            return
        connection, response = self._events
        ready, _, _ = select.select([connection.sock, printer], [], [], STATION_GLANCE_SECONDS)
        if connection.sock not in ready:
            return
        try:
            announced = response.read1(65536)
        except (OSError, http.client.HTTPException):
            announced = b""
        if not announced:
            connection.close()
            self._events = None
            select.select([printer], [], [], GLANCE_SECONDS)

    def _listen(self) -> tuple[StationConnection, http.client.HTTPResponse] | None:
        connection = StationConnection(self._path)
        try:
            connection.request("GET", "/v1/events", headers={"Accept": "text/event-stream"})
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            connection.close()
            return None
        if response.status != http.HTTPStatus.OK:
            connection.close()
            return None
        return connection, response

    def _get(self, target: str) -> Any:
        status, body = self._call("GET", target)
        if status != http.HTTPStatus.OK:
            raise ValueError(f"{target}: {status}")
        return json.loads(body)

    def _call(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = StationConnection(self._path)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class Operator:
    """Looks, decides, waits as long as a hand takes, acts.

    Args:
        directory: the virtual printer's.
        socket_path: the station's unix socket.
        printer: the printer's name at the station.
        presents: whether this person also scans the next waiting job's book.
    """

    def __init__(self, directory: Path, socket_path: Path, printer: str, *, presents: bool) -> None:
        self._client = VirtualPrinterClient(directory)
        self._station = Station(socket_path, printer)
        self._presents = presents
        self._watcher = VirtualPrinterClient(directory)
        self._watching = False
        self._reported: set[tuple[ActKind, str]] = set()
        self._view: StationView | None = None

    def run(self) -> None:
        """Works until the printer's process ends."""
        try:
            while True:
                printer = self._client.state()
                self._view = self._station.view(with_waiting=self._presents)
                act = next_act(printer, self._view, inked=self._inked())
                if act is not None and (act.kind, act.number) not in self._reported:
                    self._hand(printer, act)
                self._wait_for_news(printer.scene)
        except PrinterFault:
            return

    def _wait_for_news(self, scene: int) -> None:
        if not self._watching:
            self._watcher.watch_scene(scene)
            self._watching = True
        self._station.wait_for_event(self._watcher)
        if select.select([self._watcher], [], [], 0)[0]:
            self._watcher.seen_scene()
            self._watching = False

    def _inked(self) -> frozenset[str]:
        """Only the wanted book's ink is looked at."""
        job = self._view.job if self._view else None
        if job is None:
            return frozenset()
        try:
            book = self._client.book(job["book"])
        except RequestRefused:
            return frozenset()  # never seen before: blank
        return frozenset({book.number}) if book.inked else frozenset()

    def _hand(self, printer: PrinterState, act: Act) -> None:
        if act.kind in (ActKind.INSERT, ActKind.REMOVE):
            select.select([], [], [], HAND_SECONDS / printer.speed)
        try:
            match act.kind:
                case ActKind.INSERT:
                    self._client.insert(act.number)
                case ActKind.REMOVE:
                    self._client.remove()
                case ActKind.PRESENT:
                    self._station.present(act.number)
                case ActKind.REFUSE:
                    self._reported.add((act.kind, act.number))
                    sys.stderr.write(
                        f"operator: book {act.number} is wanted, but it has ink; not put in\n"
                    )
                    sys.stderr.flush()
        except RequestRefused:
            return  # someone else was quicker: look again


def start_operator(directory: Path, socket_path: Path, printer: str, *, presents: bool) -> None:
    """Runs an operator in a thread of the printer's process, which ends with it."""
    operator = Operator(directory, socket_path, printer, presents=presents)

    def work() -> None:
        try:
            operator.run()
        finally:
            # A printer whose person is gone would wait for ever.
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=work, name="operator", daemon=True).start()
