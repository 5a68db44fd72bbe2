"""A station's worker and a printer on one bench: real journal, real serial port, virtual time.

Journal, intake, worker, dialogue and serial transport are the product's own, the printer is the virtual one, and
between them is a pty. Only the clock is the bench's: it moves on when nobody has anything to do, so that a wait
of a minute takes no time and every run is the same.
"""

from __future__ import annotations

import contextlib
import enum
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agent.composer import ComposedPage, Composer
from agent.crypto.keys import load_station_keys, load_trust
from agent.crypto.receipts import ReceiptSigner
from agent.drivers import escpos
from agent.drivers.profile import Fence, load_profile
from agent.drivers.transport import FlowControl, SerialSettings, Transport
from agent.drivers.virtual.book import Book
from agent.drivers.virtual.make import printer_make
from agent.drivers.virtual.model import BookPlace, VirtualPrinter
from agent.intake import Intake
from agent.live import Board, PrinterReason, PrinterState, PrinterView, Situation
from agent.model import Raster
from agent.queue import attempts, jobs, start
from agent.queue.jobs import Job
from agent.queue.journal import Journal, Operation, Reader
from agent.queue.states import Phase
from agent.verification import Report, verify_journal
from agent.worker import PrinterWorker, WorkerSettings
from tests.integration.bench_line import BenchLine
from tests.integration.station_fixture import VECTORS, index

FIRST, SECOND = "valid-mononym", "valid-hyphen"
BOOKS = {FIRST: "P0000007", SECOND: "P0000009"}
# A page of the usual form in few dots, so that it is composed and printed quickly.
SMALL = {"dpi_x": 45, "dpi_y": 45, "width": 222, "height": 156}
HAND_S = 1.0  # what a person takes to put a book in or out
CALL_S = 0.0002  # what a call of the agent takes: a loop without a wait is seen by its calls
EPOCH = 1_790_000_000
STOPS = (PrinterReason.PRINTER_CHANGED, PrinterReason.USED_ELSEWHERE)
PRINTING_ROWS = 10  # the printing is under way


class Step(enum.StrEnum):
    """Where the first job's attempt stands, seen from the line; each is reached before its bytes go on."""

    OPENING = "opening"
    CLEARING = "clearing"
    IDENTIFYING = "identifying"
    LOADING = "loading"
    FENCE = "fence"
    BOOK_WANTED = "book-wanted"
    INTENT = "intent"
    COMMIT = "commit"
    PRINTING = "printing"
    REPLY = "reply"
    OUTCOME = "outcome"


class Over(BaseException):
    """The run is at its end; nothing of the agent may catch it."""


class BenchWorker(PrinterWorker):
    """The worker; its pause between two tries passes in virtual time."""

    bench: Bench

    def _pause(self, seconds: float) -> None:
        self.bench.wait(lambda: not self._requests.empty(), seconds)
        if not self._requests.empty():
            super()._pause(0.0)


class Bench:
    """One printer, its line, its worker and the person beside it.

    Args:
        folder: Where journal and port lie.
        profile: The profile's name; its page is a small one.
        overrides: Further keys of the profile.
        make: Fields of the printer's make that differ.
        printer: The printer's class.
        flow: The line's flow control.
        offset_mm: Where this printer puts the page's corner.
        ahead: What runs a task beside the printing; None: nothing does.
        settings: Fields of the worker's settings that differ.
    """

    def __init__(
        self,
        folder: Path,
        profile: str = "page-slip",
        *,
        overrides: dict[str, Any] | None = None,
        make: dict[str, Any] | None = None,
        printer: type[VirtualPrinter] = VirtualPrinter,
        flow: FlowControl = FlowControl.NONE,
        offset_mm: tuple[float, float] = (0.0, 0.0),
        ahead: Callable[[Callable[[], None]], None] | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.time = self.began = 1_000.0
        size = SMALL | {name: value for name, value in (overrides or {}).items() if name in SMALL}
        self.profile = load_profile(profile, SMALL | (overrides or {}))
        self.make = partial(printer_make, profile, **size)
        self.printer = printer(self.make(**(make or {})), now=self.time)
        self.line = BenchLine(
            folder,
            self.printer,
            moment=self.monotonic,
            wait=self.wait,
            heard=self._heard,
            answered=self._answered,
        )
        self.flow = flow
        self.replayed: Transport | None = None  # instead of the line
        self.same_page: ComposedPage | None = None  # for every job, instead of its own
        self.line.paces = flow is not FlowControl.XONXOFF
        self.calls = 0
        self.offset_mm = offset_mm
        self.ahead = ahead
        self.opened_at: list[float] = []
        self.reached: dict[Step, float] = {}
        self.back_at: float | None = None  # when what was away came back
        self.ready_at: list[float] = []
        self._plan: dict[Step, Callable[[], Any]] = {}
        self.books: dict[str, Book] = {}
        self.hands_full = False
        self._acts: list[tuple[float, Callable[[], None]]] = []
        self._until: Callable[[], bool] = lambda: False
        self._fences = 0
        self._phases: dict[str, Phase] = {}
        self._settings = settings
        self._open_station()

    def _open_station(self) -> None:
        for name in ("station.jwks", "trust.jwks"):
            shutil.copyfile(VECTORS / name, self.folder / name)
            (self.folder / name).chmod(0o600)
        keys = load_station_keys(self.folder / "station.jwks")
        trust = load_trust(self.folder / "trust.jwks")
        self._ids = {"station_id": index()["station"], "authority_id": index()["authority"]}
        self.path = self.folder / "journal.db"
        self.path.touch(0o600)
        signer = ReceiptSigner(keys.signing)
        self.journal = Journal.open(self.path, signer=signer, clock=self, **self._ids)
        start.take_signer(self.journal, signer, public_jwks=keys.public_jwks())
        self.intake = Intake(self, trust=lambda: trust, keys=lambda: keys, clock=self, **self._ids)
        self.composer = Composer(keys=lambda: keys, profile=self.profile, offset_mm=self.offset_mm)
        self.board = Board()
        self.board.add(PrinterView(name="main", profile=self.profile.name))
        self.board.listen(self._shown)
        self.start_agent()

    def start_agent(self) -> None:
        """The agent starts, also after one that was stopped or killed."""
        begun = self.journal.write(
            partial(start.begin, boot="bench", version="0", book_checks={"main": "none"})
        )
        self.worker = BenchWorker(
            WorkerSettings(
                name="main",
                profile=self.profile,
                run=begun.run,
                boot=begun.boot,
                xonxoff=self.flow is FlowControl.XONXOFF,
                **({"book_check": False, "read_back": "none"} | self._settings),
            ),
            journal=self,
            board=self.board,
            clock=self,
            composer=self,
            open_line=self._open_line,
            ahead=self.ahead,
        )
        self.worker.bench = self

    def close(self) -> None:
        """The end of the bench."""
        self.line.pull()
        self.journal.close()

    # Time

    def now(self) -> int:
        return EPOCH + int(self.time)

    def monotonic(self) -> float:
        return self.time

    def wait(self, ready: Callable[[], Any], timeout_s: float) -> Any:
        """Lets the world go on until something is ready, or the time is over; gives what ``ready`` gave."""
        self.calls += 1
        self.time += CALL_S
        if Step.REPLY in self.reached and self.phase() is Phase.COMMITTED:
            self._reach(Step.OUTCOME)
        deadline = self.time + timeout_s
        while True:
            self._go_on()
            found = ready()
            if found or self.time >= deadline:
                return found
            moments = [self.printer.next_change_at(), self.line.next_at()]
            moments += [due for due, _ in self._acts]
            later = [moment for moment in moments if moment is not None and moment > self.time]
            self.time = min([deadline, *later])

    def _go_on(self) -> None:
        due = [act for moment, act in self._acts if moment <= self.time]
        self._acts = [one for one in self._acts if one[0] > self.time]
        for act in due:
            act()
        self.printer.advance(self.time)
        self.line.move()
        self._see()
        self._use_hands()
        if self._until():
            raise Over

    def after(self, seconds: float, act: Callable[[], Any]) -> None:
        """Does something later."""
        self._acts.append((self.time + seconds, act))

    def comes_back_after(self, seconds: float, act: Callable[[], Any]) -> None:
        """Ends a fault later, and notes when."""

        def back() -> None:
            act()
            self.back_at = self.time

        self.after(seconds, back)

    def replace_printer(self) -> None:
        """Another one of the same make stands there, switched on; the book that was in the first one is out."""
        self.remove()
        self.printer.power_off(self.time)
        make = replace(self.printer.make, serial="VIRTUAL0002")
        self.printer = self.line.printer = VirtualPrinter(make, now=self.time)

    def run(self, until: Callable[[], bool], *, seconds: float = 600.0) -> None:
        """Lets the agent work until something is so, within so many virtual seconds; then it is killed."""
        deadline = self.time + seconds
        self._until = lambda: until() or self.time > deadline
        with contextlib.suppress(Over):
            self.worker.run()
        assert self.time <= deadline, f"not within {seconds:g} s: {self.story()}"

    def play(self, story: Iterator[Callable[[], bool]], *, seconds: float = 600.0) -> None:
        """Lets the agent work while a story goes on; what it yields is waited for."""
        waits_for: list[Callable[[], bool]] = [lambda: True]

        def over() -> bool:
            while waits_for[0]():
                try:
                    waits_for[0] = next(story)
                except StopIteration:
                    return True
            return False

        self.run(over, seconds=seconds)

    def passed(self, seconds: float) -> Callable[[], bool]:
        """Whether so much time has passed since now."""
        moment = self.time + seconds
        self.after(seconds, lambda: None)
        return lambda: self.time >= moment

    def run_to_its_end(self, *, seconds: float = 600.0) -> None:
        """Lets the agent work until it has stopped by itself."""
        deadline = self.time + seconds
        self._until = lambda: self.time > deadline
        self.worker.run()

    # The journal, as the worker and intake see it

    def write(self, operation: Operation[Any]) -> Any:
        self.calls += 1
        result = self.journal.write(operation)
        self._phases = {
            row["id"]: Phase(row["phase"]) for row in self.read().rows("SELECT id, phase FROM jobs")
        }
        if self.phase() is Phase.LOADED:
            self._reach(Step.BOOK_WANTED)
        if self.phase() is Phase.COMMITTED:
            self._reach(Step.INTENT)
        return result

    def submit_many(self, operations: Sequence[Operation[Any]]) -> list[Future[Any]]:
        written: list[Future[Any]] = [Future() for _ in operations]
        for operation, done in zip(operations, written, strict=True):
            done.set_result(self.write(operation))
        return written

    def read(self) -> Reader:
        return self.journal.read()

    def clock_trusted(self) -> bool:
        return self.journal.clock_trusted()

    def time_for_expiry(self) -> int:
        return self.journal.time_for_expiry()

    def page(self, reader: Reader, job: Job) -> ComposedPage:
        return self.same_page or self._composed(job)[1]

    def compose_ahead(self, reader: Reader, job: Job) -> None:
        self.page(reader, job)

    def _composed(self, job: Job) -> tuple[Raster, ComposedPage]:
        """The page as dots and as bytes; composed once for all benches of a kind."""
        key = (job.id, job.entry, self.profile, self.offset_mm)
        if key not in _COMPOSED:
            page = self.composer.page(self.read(), job)
            _COMPOSED[key] = (self.composer.raster(self.read(), job), page)
        return _COMPOSED[key]

    # What happens

    def _open_line(self) -> Transport:
        self.opened_at.append(self.time)
        self._fences = 0
        self._reach(Step.OPENING)
        if self.replayed is not None:
            return self.replayed
        return self.line.open(SerialSettings(str(self.folder / "port"), flow=self.flow))

    def at(self, step: Step, act: Callable[[], Any]) -> None:
        """Does something when the first job's attempt reaches a step the next time."""
        self._plan[step] = act

    def _reach(self, step: Step) -> None:
        self.reached.setdefault(step, self.time)
        self._plan.pop(step, lambda: None)()

    def _heard(self, data: bytes) -> None:
        phase = self.phase()
        self._fences += data.startswith(escpos.LOAD_FENCE)
        serial = escpos.identity(escpos.Identity.SERIAL_NUMBER)
        if data.startswith(escpos.CLEAR_BUFFERS) or escpos.INITIALIZE in data:
            self._reach(Step.CLEARING)
        elif data.startswith(serial) or (not self.profile.serial and self._fences == 3):
            self._reach(Step.IDENTIFYING)
        elif phase is Phase.LOADING and data.startswith(escpos.LOAD_FENCE):
            self._reach(Step.FENCE)
        elif phase is Phase.LOADING and not data.startswith((escpos.PAGE_MODE, b"\x10")):
            self._reach(Step.LOADING)
        elif phase is Phase.COMMITTED and data.startswith(escpos.FORM_FEED):
            self._reach(Step.COMMIT)

    def _shown(self, view: PrinterView) -> None:
        if view.situation is Situation.READY:
            self.ready_at.append(self.time)

    def _answered(self, reply: bytes) -> None:
        completes = reply[0] & 0x90 == 0 if self.profile.fence is Fence.PAPER_SENSOR else False
        if self.phase() is Phase.COMMITTED and (completes or reply.startswith(b"\x37\x22")):
            self._reach(Step.REPLY)

    def _see(self) -> None:
        book = self.printer.book
        if book is not None and book.passes and book.passes[-1].rows >= PRINTING_ROWS:
            self._reach(Step.PRINTING)

    # People

    def submit_jobs(self, *names: str) -> None:
        """The authority's messages."""
        for name in names or (FIRST, SECOND):
            answer = self.intake.take((VECTORS / f"messages/{name}.jws").read_bytes())
            assert answer.status == 201, answer

    def insert(self, number: str) -> None:
        """A person puts a book in."""
        self.printer.insert_book(self.book(number), self.time)

    def remove(self) -> str | None:
        """A person takes the book out, whatever the printer does."""
        book = self.printer.remove_book(self.time)
        return None if book is None else book.number

    def _use_hands(self) -> None:
        """The person beside the printer does what it asks, one thing after the other."""
        if self.hands_full:
            return
        if self._wanted_of_hands() is None:
            return
        self.hands_full = True

        def done() -> None:
            self.hands_full = False
            act = self._wanted_of_hands()
            if act is not None:
                act()

        self.after(HAND_S, done)

    def _wanted_of_hands(self) -> Callable[[], Any] | None:
        view = self.view()
        if view.state is PrinterState.STOPPED and view.reasons and view.reasons[0] in STOPS:
            return self.accept
        if self.printer.place is BookPlace.EJECTED:
            return self.remove
        if self.printer.place is BookPlace.IN:
            wanted = PrinterReason.BOOK_REMOVAL_WANTED in view.reasons or view.removal_wanted
            return self.remove if wanted and not self.printer.printing else None
        if PrinterReason.MEDIA_NEEDED in view.reasons and view.job is not None:
            number = self.job(view.job).book
            return None if self.book(number).inked() else partial(self.insert, number)
        if view.state is PrinterState.IDLE and view.presented is None and self.presents:
            waiting = [job for job, phase in self._phases.items() if phase is Phase.WAITING]
            return partial(self.present, self.job(waiting[0]).book) if waiting else None
        return None

    @property
    def presents(self) -> bool:
        """Whether books must be presented."""
        through = int(self.read().station("presented_only_through", 0))
        return self.worker.settings.book_check or through > 0

    def present(self, number: str) -> Future[str]:
        """A technician presents a book."""
        worker = self.worker
        return worker.request(lambda: worker.present(number, actor="technician:bench"))

    def accept(self) -> None:
        """A technician accepts a printer that stopped as changed, or declares one that is away switched off."""
        answers = self.view().situation is not Situation.AWAY
        self.write(
            lambda tx: attempts.accept_printer(
                tx, "main", actor="technician:bench", reason="bench", answers=answers
            )
        )

    # What can be seen

    def view(self) -> PrinterView:
        """The printer as the station shows it."""
        view = self.board.view("main")
        assert view is not None
        return view

    def job(self, job_id: str = FIRST) -> Job:
        return jobs.require(self.read(), job_id)

    def phase(self, job_id: str = FIRST) -> Phase | None:
        """Where a job stands; None before it was submitted."""
        return self._phases.get(job_id)

    def book(self, number: str) -> Book:
        """A book of the office; blank when it is first asked for."""
        if number not in self.books:
            self.books[number] = Book(number, self.profile.width, self.profile.height)
        return self.books[number]

    def raster(self, job_id: str = FIRST) -> Raster:
        """The page as it was composed for a job."""
        return self._composed(self.job(job_id))[0]

    def receipts(self) -> list[dict[str, Any]]:
        """The claims of all receipts."""
        rows = self.read().rows("SELECT payload FROM events WHERE seq IS NOT NULL ORDER BY seq")
        return [json.loads(bytes(row["payload"])) for row in rows]

    def events(self, job_id: str = FIRST) -> list[str]:
        """The receipts' events of one job."""
        return [one["event"] for one in self.receipts() if one.get("job") == job_id]

    def verify(self) -> Report:
        return verify_journal(self.path, **self._ids)

    def story(self) -> str:
        """What a failed run tells."""
        view = self.view()
        steps = ", ".join(f"{step} {at:.1f}" for step, at in self.reached.items())
        return (
            f"at {self.time:.1f}: {self._phases}, printer {view.state} {view.reasons} {view.detail!r},"
            f" book {self.printer.place}; steps {steps}; receipts {self.events()}"
        )


_COMPOSED: dict[Any, tuple[Raster, ComposedPage]] = {}
