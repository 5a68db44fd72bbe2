"""`print-agent demo`: a working day of books on the virtual printer, with the plug pulled twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agent.authority import Authority, random_document
from agent.cli.client import CallFailed, Client, part
from agent.clock import SystemClock, sleep
from agent.crypto.keys import init_station_keys
from agent.drivers.virtual.client import VirtualPrinterClient, spawn
from agent.errors import PrintAgentError
from agent.page.raster import contact_sheet

STATION = "demo-01"
AUTHORITY = "demo-authority"
DAY_S = 86_400
POLL_S = 0.2
START_TIMEOUT_S = 30.0
STALL_MAX_S = 180.0  # without any progress the demo gives up and says so
SHEET_BOOKS = 12

SHEET = "contact-sheet.png"
LEFT = frozenset({"station.toml", "station", "authority", "agent.log", SHEET})  # by an earlier demo
CONFIGURATION = """\
[station]
id = "demo-01"
state_dir = "station"

[authority]
id = "demo-authority"

[http]
socket = "agent.sock"

[printers.main]
driver = "virtual"
book_check = "present"
overrides = {page_seconds = 10.0}  # a true bound at the demo's speed
"""


class DemoFailed(PrintAgentError):
    """The demo did not end as it must; the text says where."""


class Day:
    """One working day: an authority, a station, a virtual printer and the person who resolves doubts."""

    def __init__(self, directory: Path, *, books: int, speed: float) -> None:
        self.directory = directory
        self.books = books
        self.speed = speed
        self.state = directory / "station"
        self.socket = self.state / "agent.sock"
        self.client = Client(self.socket)
        self.process: subprocess.Popen[bytes] | None = None
        self.resolved: list[tuple[str, str]] = []

    def prepare(self) -> None:
        """A fresh authority and a fresh station, in the place of an earlier demo's.

        Raises:
            DemoFailed: The folder holds something else, or a demo runs in it.
        """
        if self.directory.exists():
            self._require_old_demo()
            _end_old_printer(self.state / "virtual" / "main")
            shutil.rmtree(self.directory)
        self.state.mkdir(mode=0o700, parents=True)
        (self.directory / "station.toml").write_text(CONFIGURATION, encoding="utf-8")
        authority = Authority.create(self.directory / "authority", AUTHORITY)
        (self.state / "trust.jwks").write_text(json.dumps(authority.trust_jwks()), encoding="utf-8")
        keys = init_station_keys(self.state / "station.jwks")
        authority.add_station(STATION, keys.public_jwks())
        self.authority = authority

    def _require_old_demo(self) -> None:
        elsewhere = "give another place: --directory DIR"
        try:
            foreign = sorted(
                entry.name for entry in self.directory.iterdir() if entry.name not in LEFT
            )
        except OSError as error:
            raise DemoFailed(f"{self.directory}: {error.strerror}; {elsewhere}") from error
        if foreign:
            raise DemoFailed(
                f"{self.directory} holds what no demo made ({foreign[0]}), and would be deleted; {elsewhere}"
            )
        if self.client.runs():
            raise DemoFailed(
                f"a demo runs in {self.directory}: end it in its terminal (Ctrl-C), or {elsewhere}"
            )

    def start_printer(self, *, presents: bool) -> VirtualPrinterClient:
        """The virtual printer with its operator, who may present the books too; it outlives the agent."""
        return spawn(
            self.state / "virtual" / "main",
            speed=self.speed,
            agent_socket=self.socket,
            printer="main",
            presents=presents,
        )

    def start_agent(self) -> None:
        """Starts the real agent, and waits until it serves."""
        command = [
            sys.executable,
            "-m",
            "agent",
            "run",
            "--config",
            str(self.directory / "station.toml"),
        ]
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - this product's own module, no shell
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = SystemClock().monotonic() + START_TIMEOUT_S
        while SystemClock().monotonic() < deadline:
            try:
                if self.client.call("GET", "/healthz")[0] == 200:
                    return
            except CallFailed:
                if self.process.poll() is not None:
                    break
            sleep(POLL_S)
        raise DemoFailed(f"the agent did not start; see {self.directory / 'agent.log'}")

    def kill_agent(self) -> None:
        """The plug of the PC: no time to say goodbye."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop_agent(self) -> None:
        """An ordered end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)

    def authorize(self) -> int:
        """Issues the day's authorizations, two books each, and hands them over in one batch; gives how many were accepted."""
        rng = random.Random(20180221)  # the same invented people each time
        now = SystemClock().now()
        lines = []
        for index in range(self.books):
            numbers = [f"X{index:05d}A", f"X{index:05d}B"]
            document = random_document(numbers[0], rng)
            document.pop("mrz", None)
            lines.append(
                self.authority.authorize(
                    STATION,
                    books=[(number, document) for number in numbers],
                    jti=f"demo-{index:03d}",
                    exp=now + DAY_S,
                    now=now,
                    application=f"2018-{index:04d}",
                )
            )
        _, raw = self.client.call(
            "POST", "/v1/messages", "\n".join(lines).encode(), kind="application/jose-seq"
        )
        return sum(row["status"] == 201 for row in json.loads(raw))

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        found: dict[str, int] = self.client.get("/v1/status")["jobs"]
        return found

    def resolve_doubts(self, printer: VirtualPrinterClient) -> None:
        """A person looks at the ink of each book in doubt and says what it is."""
        for job in self.client.get("/v1/jobs?state=processing-stopped"):
            if "printer-not-clear" in job["reasons"]:
                continue
            outcome = _look(printer, job["book"])
            try:
                self.client.post(
                    f"/v1/jobs/{part(job['id'])}/resolve", {"outcome": outcome, "book": job["book"]}
                )
            except CallFailed:
                continue  # late evidence was faster
            self.resolved.append((job["id"], outcome))


def _look(printer: VirtualPrinterClient, number: str) -> str:
    """What the eye sees: no ink, the whole page (its last line is there), or a part of it."""
    raster = printer.raster(number)
    rows = [index for index in range(raster.height) if any(raster.row(index))]
    if not rows:
        return "blank"
    return "printed" if rows[-1] > raster.height * 0.9 else "spoiled"


def _end_old_printer(directory: Path) -> None:
    try:
        with VirtualPrinterClient(directory) as old:
            old.quit()
    except PrintAgentError:
        return


def run_demo(directory: Path, *, books: int, speed: float, serve: bool) -> int:
    """Runs the day, or leaves a station running to play with; gives the exit code."""
    console = Console(soft_wrap=True)
    day = Day(directory.resolve(), books=books, speed=speed)
    day.prepare()
    console.print(
        f"An authority and a station in {directory}; the printer runs {speed:g} times faster than a real one."
    )
    printer = day.start_printer(presents=not serve)
    day.start_agent()
    try:
        accepted = day.authorize()
        console.print(f"{accepted} signed authorizations accepted, each durable before its answer.")
        if serve:
            return _serve(day, console)
        _work(day, printer, console)
        return 1 if _sum_up(day, printer, console, accepted) else 0
    finally:
        if day.process is not None and day.process.poll() is None:
            day.stop_agent()
        printer.quit()
        printer.close()


def _serve(day: Day, console: Console) -> int:
    console.print("The station is yours. In another terminal:")
    console.print(f"  export PRINT_AGENT_CONFIG={day.directory / 'station.toml'}")
    console.print("  print-agent jobs     # present one of the books: print-agent present X00000A")
    console.print("Ctrl-C ends it.")
    assert day.process is not None
    try:
        return day.process.wait()
    except KeyboardInterrupt:
        return 0


def _work(day: Day, printer: VirtualPrinterClient, console: Console) -> None:
    cuts: list[tuple[int, str, Callable[[], None]]] = [
        (
            max(1, day.books // 4),
            "the PC loses power in the middle of a print; the printer goes on",
            lambda: _cut_agent(day, printer),
        ),
        (
            max(2, day.books * 6 // 10),
            "the whole office loses power in the middle of a print",
            lambda: _cut_office(day, printer),
        ),
    ]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    clock = SystemClock()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("printing", total=day.books)
        last, moved = -1, clock.monotonic()
        while True:
            counts = day.counts()
            done = counts["completed"] + counts["aborted"] + counts["canceled"]
            progress.update(task, completed=done)
            if done >= day.books:
                return
            if done != last:
                last, moved = done, clock.monotonic()
            if clock.monotonic() - moved > STALL_MAX_S:
                raise DemoFailed(
                    f"nothing moved for {STALL_MAX_S:g} s at {done} books; see {day.directory / 'agent.log'}"
                )
            if cuts and done >= cuts[0][0]:
                _, told, cut = cuts.pop(0)
                console.print(f"[bold red]Cut:[/] {told}.")
                cut()
                console.print("The agent is back and asks journal, printer and book.")
            day.resolve_doubts(printer)
            sleep(POLL_S)


def _wait_until_printing(printer: VirtualPrinterClient) -> None:
    deadline = SystemClock().monotonic() + 60
    while SystemClock().monotonic() < deadline and not printer.state().printing:
        sleep(0.005)


def _cut_agent(day: Day, printer: VirtualPrinterClient) -> None:
    _wait_until_printing(printer)
    day.kill_agent()
    sleep(0.5)
    day.start_agent()


def _cut_office(day: Day, printer: VirtualPrinterClient) -> None:
    _wait_until_printing(printer)
    printer.power_off()
    day.kill_agent()
    sleep(0.5)
    printer.power_on()
    day.start_agent()


def _sum_up(day: Day, printer: VirtualPrinterClient, console: Console, accepted: int) -> bool:
    jobs: list[dict[str, Any]] = day.client.get("/v1/jobs")
    printed = [job for job in jobs if job["state"] == "completed"]
    inked: dict[str, list[str]] = {}
    twice = 0
    for book in printer.books():
        if book.inked_rows:
            inked.setdefault(book.number[:-1], []).append(book.number)
        twice += len(book.passes) > 1
    whole = {
        person: [number for number in numbers if _look(printer, number) == "printed"]
        for person, numbers in inked.items()
    }
    doubled = twice + sum(len(numbers) > 1 for numbers in whole.values())
    lost = accepted - len(jobs) + sum(not whole.get(job["book"][:-1]) for job in printed)
    sheet = day.directory / SHEET
    sheet.write_bytes(
        contact_sheet([printer.raster(job["book"]) for job in printed[:SHEET_BOOKS]], 3)
    )
    audit = day.authority.verify(STATION, _receipts(day.client))
    console.print(
        f"accepted {accepted}, printed {len(printed)}, doubtful {len(day.resolved)}, doubled = {doubled}, lost = {lost}"
    )
    for job_id, outcome in day.resolved:
        console.print(f"  in doubt: {job_id}; a person looked at the book: {outcome}")
    console.print(
        f"{len(audit.entries)} receipts: {'the chain is whole' if audit.is_whole() else 'THE CHAIN IS BROKEN'}"
    )
    console.print(f"the first pages: {os.path.relpath(sheet)}")
    return bool(doubled or lost or not audit.is_whole() or len(printed) != accepted)


def _receipts(client: Client) -> list[str]:
    lines: list[str] = []
    while True:
        _, raw = client.call("GET", f"/v1/receipts?after={len(lines)}&limit=1000")
        page = raw.decode().split()
        lines += page
        if len(page) < 1000:
            return lines
