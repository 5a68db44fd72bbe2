"""The real parts of one office: the agent's process, the virtual printer's, the authority, and the plugs of all."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from random import Random

from agent.authority import Authority, random_document
from agent.cli.client import Client
from agent.clock import SystemClock
from agent.crypto.keys import init_station_keys
from agent.drivers.virtual.book import Book, InkPass
from agent.drivers.virtual.client import VirtualPrinterClient, spawn
from agent.drivers.virtual.operator import Station
from agent.errors import RequestRefused
from tests.campaign.cuts import Printer
from tests.campaign.pages import SIZE, Pages

ROOT = Path(__file__).parents[2]
STATION, AUTHORITY, PRINTER = "campaign-01", "campaign-authority", "main"
SPEED = 2.0  # times faster than the usual printer
EJECT_S = 0.5 / SPEED
PAGE_S = 2.0  # a true bound: a page prints in less than a second
DAY_S = 86_400
STOP_S = 30.0

CONFIGURATION = """\
[station]
id = "{station}"
state_dir = "station"
[authority]
id = "{authority}"
[http]
socket = "agent.sock"
[printers.{printer}]
driver = "virtual"
book_check = "present"
overrides = {{{overrides}}}
"""


class Office:
    """An office that has just been fitted out; nothing runs yet.

    Args:
        folder: Everything lies in it.
        rng: The people who apply.
        printer: What its printer is like.
        mutation: How the agent is broken on purpose; empty: not at all.
    """

    def __init__(self, folder: Path, rng: Random, printer: Printer, *, mutation: str = "") -> None:
        self.folder = folder
        self.state = folder / "station"
        self.state.mkdir(mode=0o700)
        self.inbox = self.state / "inbox"
        self.printer = printer
        self.reply_to_ejected_s = EJECT_S if printer.completion == "printed" else 0.0
        self.client = Client(self.state / "agent.sock")
        self.station = Station(self.client.path, PRINTER)
        self.process: subprocess.Popen[bytes] | None = None
        self.boot = 1
        self._rng = rng
        self._mutation = mutation
        self._clock = SystemClock()
        keys = init_station_keys(self.state / "station.jwks")
        self.authority = Authority.create(folder / "authority", AUTHORITY)
        self.authority.add_station(STATION, keys.public_jwks())
        (self.state / "trust.jwks").write_text(json.dumps(self.authority.trust_jwks()))
        self.pages = Pages(keys)
        size = ", ".join(f"{name} = {value}" for name, value in SIZE.items())
        overrides = f'{size}, page_seconds = {PAGE_S}, counter_kept = "{printer.counter_kept}"'
        (folder / "station.toml").write_text(
            CONFIGURATION.format(
                station=STATION, authority=AUTHORITY, printer=PRINTER, overrides=overrides
            ),
            encoding="utf-8",
        )
        # Two pairs of hands: the one that strikes does not wait for the other.
        self.hand = spawn(
            self.state / "virtual" / PRINTER,
            speed=SPEED,
            counter_kept=printer.counter_kept,
            completion_moment=printer.completion,
            **SIZE,
        )
        self.striking_hand = VirtualPrinterClient(self.hand.directory)

    def order(self, number: int) -> tuple[str, list[str], str]:
        """The authority signs the next authorization; gives the job, its books, and the message."""
        job, books = f"C{number:05}", [f"C{number:05}{entry}" for entry in "AB"]
        document = random_document(books[0], self._rng)
        del document["mrz"]
        now = self._clock.now()
        message = self.authority.authorize(
            STATION,
            books=[(book, document) for book in books],
            jti=job,
            exp=now + DAY_S,
            now=now,
        )
        self.pages.order(job, message)
        return job, books, message

    def look(self, number: str) -> Book:
        """A look at a book; one that was never in the printer is blank."""
        book = Book(number, SIZE["width"], SIZE["height"])
        with contextlib.suppress(RequestRefused):
            passes = self.hand.book(number).passes
            book.passes = [
                InkPass(begun, page_mode=page, rows=rows) for begun, page, rows in passes
            ]
            book.rows[:] = self.hand.raster(number).rows
        return book

    # The plugs

    def start_agent(self) -> None:
        """The service manager starts it."""
        if self.process is not None:
            self.process.wait()
        program = ["agent"]
        if self.boot > 1 or self._mutation:
            boot = f"boot-{self.boot}" if self.boot > 1 else ""
            program = ["tests.campaign.launch", boot, self._mutation]
        configuration = str(self.folder / "station.toml")
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program, "run", "--config", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )

    def kill_agent(self) -> None:
        """No time to say goodbye; what else is cut is cut in the same moment."""
        assert self.process is not None
        self.process.kill()

    def stop_agent(self) -> int:
        """An ordered end; gives the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_S)

    def close(self) -> None:
        """Ends what still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.striking_hand.close()
        self.hand.quit()
        self.hand.close()
