"""docs/drill.md, command by command: a PC dies with jobs in all states, the spare takes over, the dead one wakes up.

The judge looks at the ink in the books and at what the authority was told, never at a station's own opinion.
DRILL_JOBS=80 measures a whole day; the machine's seconds for each command are printed with `pytest -s`.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from station_fixture import await_healthy, start_process

from agent.authority import Authority, random_document
from agent.cli.client import CallFailed, Client
from agent.clock import SystemClock, sleep
from agent.config import load_settings
from agent.drivers.virtual.client import spawn
from agent.model import Action

ROOT = Path(__file__).parents[2]
DEAD, SPARE, IMIGRASI = "sambas-01", "sambas-02", "imigrasi"
WAITING_JOBS = int(os.environ.get("DRILL_JOBS", "14")) - 11
SPEED = 100.0
WAIT_SECONDS_MAX = 90.0
DAY_S = 86_400
CONFIGURATION = """\
[station]
id = "{station}"
state_dir = "s"
[authority]
id = "imigrasi"
[http]
socket = "a.sock"
[printers.main]
driver = "virtual"
overrides = {{page_seconds = 3.0}}
"""


class Command(NamedTuple):
    """One line of the drill: where it is typed, and what."""

    place: str
    line: str


def drill_commands() -> list[Command]:
    text = (ROOT / "docs/drill.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh (spare|authority|old)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [Command(place, line) for place, block in blocks for line in block.splitlines()]


class Desk:
    """Where the drill is typed: the next command of the page, in its place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands = drill_commands()
        self.seconds: list[tuple[float, str]] = []
        programs = folder / "bin"
        programs.mkdir()
        program = programs / "print-agent"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agent "$@"\n')
        program.chmod(0o755)
        self._environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder / "home"),
        }

    def type(self, place: str, words: str, *, typed: str = "") -> str:
        """Types the page's next command, which must be this one; gives what it shows."""
        command = self.commands.pop(0)
        assert command.place == place, command
        assert command.line.startswith(f"print-agent {words}"), command
        return self.run(command, typed=typed)

    def run(self, command: Command, *, typed: str = "") -> str:
        clock = SystemClock()
        begun = clock.monotonic()
        configuration = str(self.folder / command.place / "station.toml")
        done = subprocess.run(
            ["bash", "-euc", command.line],
            cwd=self.folder,
            env=self._environment | {"PRINT_AGENT_CONFIG": configuration},
            input=typed,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        self.seconds.append((clock.monotonic() - begun, command.line))
        return done.stdout


class Office:
    """A station as a process, and its printer; the books are put in by hand until an operator comes."""

    def __init__(self, folder: Path, station: str, trust: dict) -> None:
        self.folder, self.station = folder, station
        state = folder / "s"
        state.mkdir(parents=True, mode=0o700)
        (folder / "station.toml").write_text(CONFIGURATION.format(station=station))
        (state / "trust.jwks").write_text(json.dumps(trust))
        self.settings = load_settings(folder / "station.toml")
        self.client = Client(self.settings.http.socket)
        self.printer_directory = state / "virtual" / "main"
        self.process = None
        self.printer = None

    def switch_printer_on(self, **settings) -> None:
        self.printer = spawn(
            self.printer_directory,
            speed=SPEED,
            agent_socket=self.settings.http.socket if settings else None,
            **settings,
        )

    def switch_printer_off(self) -> None:
        if self.printer is not None:
            self.printer.quit()
            self.printer.close()
            self.printer = None

    def start(self) -> None:
        self.process = start_process(self.folder / "station.toml")
        await_healthy(self.client)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(30) == 0
        self.switch_printer_off()

    def job(self, job: str) -> dict:
        return self.client.get(f"/v1/jobs/{job}")

    def act(self, job: str, act: str, **body: str) -> None:
        self.client.post(f"/v1/jobs/{job}/{act}", body)

    def until(self, condition) -> None:
        deadline = SystemClock().monotonic() + WAIT_SECONDS_MAX
        while not condition():
            assert SystemClock().monotonic() < deadline, (self.folder / "log").read_text()
            sleep(0.02)

    def until_state(self, job: str, state: str) -> None:
        self.until(lambda: self.job(job)["state"] == state)

    def load(self, job: str, book: str) -> None:
        """Presents a book and waits until the printer wants it."""

        def presented() -> bool:
            try:
                self.client.post("/v1/printers/main/book", {"number": book})
            except CallFailed:
                return False
            return True

        self.until(presented)
        self.until(lambda: "book-wanted" in self.job(job)["reasons"])

    def print_by_hand(self, job: str, book: str) -> None:
        self.load(job, book)
        self.printer.insert(book)
        self.until(lambda: self.printer.state().place == "ejected")
        self.printer.remove()
        self.until_state(job, "completed")


class Story:
    """The day until the PC dies: jobs in all states, and what became of their books that nobody was told."""

    def __init__(self, authority: Authority, office: Office) -> None:
        self.authority, self.office = authority, office
        self.books: dict[str, list[str]] = {}
        self.handed_out: set[str] = set()
        self._numbers = iter(range(1, 10_000))

    def authorize(self, job: str, *, books: int = 2, **terms: int) -> str:
        number = next(self._numbers)
        numbers = [f"{letter}{number:06}" for letter in "AB"[:books]]
        document = random_document(numbers[0], random.Random(number))
        document.pop("mrz")
        self.books[job] = numbers
        now = SystemClock().now()
        return self.authority.authorize(
            DEAD,
            books=[(book, document) for book in numbers],
            jti=job,
            exp=now + DAY_S,
            now=now,
            application=f"2018-{number:04}",
            **terms,
        )

    def direct(self, action: Action, job: str) -> str:
        now = SystemClock().now()
        return self.authority.direct(
            DEAD, action, job=job, reason="drill", exp=now + DAY_S, now=now
        )

    def submit(self, *messages: str) -> None:
        _, raw = self.office.client.call(
            "POST", "/v1/messages", "\n".join(messages).encode(), kind="application/jose-seq"
        )
        assert {row["status"] for row in json.loads(raw)} == {201}

    def receipts(self) -> str:
        return "".join(f"{line}\n" for line in self.office.client.receipts(0))

    def live(self, received: Path) -> None:
        """A day's work; the authority fetches the receipts once, before the last of it."""
        office, printer = self.office, self.office.printer
        waiting = [f"waiting-{index}" for index in range(WAITING_JOBS)]
        names = ["heard", "unheard", "in-house", "canceled", "held", "spoiled", "all-spoiled"]
        names += ["torn", "loaded", *waiting]
        self.submit(
            *(self.authorize(name, books=1 if name == "all-spoiled" else 2) for name in names),
            self.authorize("later", nbf=SystemClock().now() + DAY_S // 2),
            self.direct(Action.HOLD, "held"),
        )
        office.print_by_hand("heard", self.books["heard"][0])
        self.handed_out |= {self.books["heard"][0]}
        office.act("canceled", "cancel", reason="the holder withdrew")
        for name in ("spoiled", "all-spoiled"):
            office.act(name, "resolve", outcome="spoiled", book=self.books[name][0])
        received.write_text(self.receipts())

        # From here on nobody hears of it.
        book = self.books["torn"][0]
        office.load("torn", book)
        printer.trip_after_rows(120)
        printer.insert(book)
        office.until(lambda: not printer.state().powered)
        office.until_state("torn", "processing-stopped")
        printer.power_on()
        office.until(lambda: printer.state().line_up)
        if printer.state().place != "out":
            printer.remove()
        office.print_by_hand("unheard", self.books["unheard"][0])
        self.handed_out |= {self.books["unheard"][0]}
        office.print_by_hand("in-house", self.books["in-house"][0])
        self.authorize("never-came")
        self.authorize("revoked")
        self.direct(Action.REVOKE, "revoked")
        office.load("loaded", self.books["loaded"][0])
        office.kill()


def look(printer, number: str, known: set[str]) -> str:
    """What an honest eye says of a book in the hand."""
    if number not in known:
        return "blank"
    raster = printer.raster(number)
    rows = [row for row in range(raster.height) if any(raster.row(row))]
    if not rows:
        return "blank"
    return "printed" if rows[-1] > raster.height * 0.9 else "damaged"


def piles_of(story: Story, printer) -> dict[str, list[str]]:
    """The books of the house, sorted by an honest eye; the torn one of `all-spoiled` has gone already."""
    known = {book.number for book in printer.books()}
    piles: dict[str, list[str]] = {"blank": [], "printed": [], "damaged": []}
    for job, books in story.books.items():
        for book in books:
            if book in story.handed_out or job == "all-spoiled":
                continue
            # A spoiled blank is torn, which the model of a book does not show.
            torn = job == "spoiled" and book == books[0]
            piles["damaged" if torn else look(printer, book, known)].append(book)
    return piles


@pytest.fixture
def place(tmp_path):
    for name in ("stick", "received"):
        (tmp_path / name).mkdir()
    authority = Authority.create(tmp_path / IMIGRASI, IMIGRASI)
    offices = {
        name: Office(tmp_path / name, station, authority.trust_jwks())
        for name, station in (("old", DEAD), ("spare", SPARE))
    }
    yield authority, offices["old"], offices["spare"], Desk(tmp_path)
    for office in offices.values():
        office.end()


def test_the_drill_prints_everybody_once_and_loses_nobody(place, tmp_path):
    authority, old, spare, desk = place
    for name in ("old", "spare"):
        desk.run(Command(name, "print-agent keys init"))
    keys = json.loads(desk.run(Command("old", "print-agent keys show")))
    authority.add_station(DEAD, keys)
    old.switch_printer_on()
    old.start()
    story = Story(authority, old)
    received = tmp_path / "received" / f"{DEAD}.receipts"
    story.live(received)

    desk.type("spare", "keys show")
    # The printer goes to the spare, books and all.
    old.switch_printer_off()
    spare.printer_directory.parent.mkdir(parents=True)
    shutil.move(old.printer_directory, spare.printer_directory)
    spare.switch_printer_on(presents=True)
    spare.start()
    spare.until(lambda: spare.client.get("/v1/printers")[0]["state"] == "idle")
    assert "main: idle" in desk.type("spare", "status")
    desk.type("authority", "authority books")

    piles = piles_of(story, spare.printer)
    assert len(piles["printed"]) == 1
    assert len(piles["damaged"]) == 2
    half = len(piles["blank"]) // 2
    counting = desk.commands[0]
    # The mains fail in the middle of the scanning.
    desk.run(counting, typed="\n".join([*piles["blank"][:half], "X99999999"]) + "\n")
    lines = [
        *piles["blank"][half - 2 :],
        "p",
        *piles["printed"],
        "d",
        *piles["damaged"],
        "e",
        "sign",
    ]
    shown = desk.type("spare", "takeover", typed="\n".join(lines) + "\n")
    assert "Signed: receipt" in shown
    desk.type("spare", "receipts")
    taken = desk.commands[0]
    shown = desk.type("authority", "authority takeover")
    signed = (tmp_path / "stick" / f"{SPARE}.jose-seq").read_bytes()
    told = json.loads(desk.run(Command("authority", f"{taken.line} --json")))
    assert (tmp_path / "stick" / f"{SPARE}.jose-seq").read_bytes() == signed
    verdicts = {row["job"]: row["verdict"] for row in told["jobs"]}
    given = {job for job, verdict in verdicts.items() if verdict == "given"}
    waiting = {f"waiting-{index}" for index in range(WAITING_JOBS)}
    assert given == waiting | {"spoiled", "torn", "loaded", "later", "never-came"}
    assert verdicts.keys() - given == {
        *("heard", "canceled", "all-spoiled", "revoked"),
        *("held", "unheard", "in-house"),
    }
    assert {job for job, verdict in verdicts.items() if verdict == "waits"} == {
        *("held", "unheard", "in-house")
    }

    desk.type("spare", "submit")
    desk.type("spare", "jobs")
    spare.until(lambda: spare.client.get("/v1/status")["jobs"]["completed"] == len(given) - 1)

    # The old PC wakes up, with a printer, and an operator who would put in any book that it asks for.
    old.switch_printer_on(presents=False)
    old.start()
    old.until(lambda: old.client.get("/v1/printers")[0]["reasons"] != ["offline"])
    desk.type("old", "submit")
    assert "! retired" in desk.type("old", "status")
    desk.type("old", "receipts")
    old.until(lambda: not old.client.get("/v1/status")["jobs"]["pending"])
    for book in piles["blank"]:
        with pytest.raises(CallFailed):
            old.client.post("/v1/printers/main/book", {"number": book})
    shown = desk.type("authority", "authority takeover")
    assert desk.commands == []
    assert (tmp_path / "stick" / f"{SPARE}.jose-seq").read_bytes() == signed
    judge(story, old, spare, given)
    for seconds, line in desk.seconds:
        print(f"{seconds:6.1f} s  {line}")


def judge(story: Story, old: Office, spare: Office, given: set[str]) -> None:
    """Nobody printed twice, nobody lost, whatever the stations say."""
    assert [book.number for book in old.printer.books() if book.inked] == []
    inked = {book.number: len(book.passes) for book in spare.printer.books() if book.inked}
    assert set(inked.values()) == {1}
    whole = {
        job: [book for book in books if look(spare.printer, book, set(inked)) == "printed"]
        for job, books in story.books.items()
    }
    printed = {job for job, books in whole.items() if books}
    assert {job: len(books) for job, books in whole.items() if books} == dict.fromkeys(printed, 1)
    assert printed == given - {"later"} | {"heard", "unheard", "in-house"}
    assert story.books["torn"][0] in inked
    for station, office in ((DEAD, old), (SPARE, spare)):
        lines = office.client.receipts(0)
        assert story.authority.verify(station, lines).is_whole()
