"""One loop for a printer: connect and reconcile, choose, load, ask for the book, commit, tell the outcome.

The steps and their order are CONTRACT section 4.1's. Every act on the printer follows a durable note of
it; what a fault leaves behind is judged by ``reconcile`` and never by the fault.
"""

from __future__ import annotations

import enum
import queue
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from agent.clock import Clock
from agent.composer import ComposedPage, DocumentGone
from agent.drivers.book_printer import POLL_S, BookPrinter, Said
from agent.drivers.escpos import FAULTS, Condition
from agent.drivers.profile import Profile
from agent.drivers.transport import Transport
from agent.errors import (
    LineLost,
    LineUnavailable,
    MessageRefused,
    NoAnswer,
    PrintAgentError,
    PrinterFault,
    RequestRefused,
)
from agent.live import Board, PrinterReason, PrinterState, Situation
from agent.loading import Loading
from agent.model import PrinterIdentity
from agent.printing import Printing
from agent.queue import attempts, jobs
from agent.queue.attempts import Attempt, NotNow
from agent.queue.jobs import Job
from agent.queue.journal import Operation, Reader
from agent.queue.recovery import Stage
from agent.queue.states import AT_PRINTER, PAGE_IN_PRINTER, Event, Phase
from agent.reconcile import Reconciliation
from agent.watch import Watch

RECONNECT_S = 1.0  # between two tries to reach a printer that is away
FAULT_POLL_S = 1.0  # how often a printer with an open cover is asked

T = TypeVar("T")


class JournalWriter(Protocol):
    """How a worker reaches the journal."""

    def write(self, operation: Operation[T]) -> T:
        """Runs an operation; returns when it is durable."""
        ...

    def read(self) -> Reader:
        """A reader for this thread."""
        ...

    def clock_trusted(self) -> bool:
        """Whether the clock may be believed now."""
        ...


class PageComposer(Protocol):
    """What makes pages of jobs."""

    def page(self, reader: Reader, job: Job) -> ComposedPage:
        """The job's page."""
        ...

    def compose_ahead(self, reader: Reader, job: Job) -> None:
        """Makes the page that is probably wanted next."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What one worker needs to know.

    Attributes:
        name: The printer's name in the configuration.
        book_check: Whether a book must be presented before it is printed.
        read_back: ``none`` or ``mrz``.
        run: The number of this start of the agent.
        boot: The kernel's id of this boot.
        xonxoff: Whether the line uses XON and XOFF.
        reopen_s: How long to wait before a line that cannot be opened is tried again.
    """

    name: str
    profile: Profile
    book_check: bool
    read_back: str
    run: int
    boot: str
    xonxoff: bool = False
    reopen_s: float = RECONNECT_S


class _BookSince(enum.Enum):
    """What the sensors showed since a number was presented."""

    WAS_IN = enum.auto()
    OUT = enum.auto()
    WENT_IN = enum.auto()


@dataclass(slots=True)
class _Presented:
    """The number that was presented last and is not used up."""

    number: str
    job: str
    since: _BookSince


@dataclass(frozen=True, slots=True)
class _Request:
    """What another thread wants of the worker at its next safe place: when no page is in the printer."""

    act: Callable[[], Any]
    done: Future[Any]


class TakenBack(PrintAgentError):
    """The job at hand must leave the printer: its page is cleared, then it waits or ends."""


class PrinterWorker:
    """Drives one printer.

    Args:
        settings: Its settings.
        journal: The journal; each write returns when it is durable.
        board: Where it shows what it does.
        clock: Time.
        composer: Makes the pages.
        open_line: Opens the line to the printer.
        ahead: Runs a task beside the printing (composing the next page).
        power: Why no book may be begun that takes so many seconds, None where one may.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        journal: JournalWriter,
        board: Board,
        clock: Clock,
        composer: PageComposer,
        open_line: Callable[[], Transport],
        ahead: Callable[[Callable[[], None]], None] | None = None,
        power: Callable[[float], str | None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.profile = settings.profile
        self.journal = journal
        self.board = board
        self.clock = clock
        self._composer = composer
        self._open_line = open_line
        self._ahead = ahead
        self._power = power
        self._requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._line: Transport | None = None
        self._session_now: BookPrinter | None = None
        self.identity = PrinterIdentity()
        self._stopping = False
        self._presented: _Presented | None = None
        self._watches: dict[int, Watch] = {}
        self._session_count = 0
        self.unclaimed: list[Said] = []  # said by a printer that has not said yet who it is

    # From other threads

    def stop(self) -> None:
        """No new commit; a committed page is waited for."""
        self._stopping = True
        self._requests.put(_Request(lambda: None, Future()))
        self.wake()

    def device_appeared(self) -> None:
        """A line that could not be opened may be there now: ends the wait for the next try."""
        if self._line is None:
            self._requests.put(_Request(lambda: None, Future()))

    def wake(self) -> None:
        """Something changed that the worker should look at."""
        line = self._line
        if line is not None:
            line.wake()

    @property
    def progress(self) -> object:
        """Another value after every step, also of a printer that only waits."""
        session = self._session_now
        return self._session_count, None if session is None else session.progress

    @property
    def stopping(self) -> bool:
        return self._stopping

    def request(self, act: Callable[[], T]) -> Future[T]:
        """Runs ``act`` in the worker's thread once no page is in the printer.

        The future fails with ``RequestRefused`` where the printer cannot be cleared now.
        """
        done: Future[Any] = Future()
        if self._busy():
            done.set_exception(self._refusal())
            return done
        self._requests.put(_Request(act, done))
        self.wake()
        return done

    def _busy(self) -> bool:
        view = self.board.view(self.name)
        return view is None or view.situation is not Situation.READY

    def _refusal(self) -> RequestRefused:
        view = self.board.view(self.name)
        away = view is None or view.situation is Situation.AWAY
        why = "is away" if away else "prints, or was not proven clear yet"
        return RequestRefused(
            409, "not-allowed", f"printer {self.name} {why}; wait for it and try again"
        )

    # The loop

    def run(self) -> None:
        """Works until ``stop``; a bug leaves as an exception and must end the process."""
        while not self._stopping:
            try:
                self._session()
            except PrinterFault as fault:
                self._session_broke(fault)
                absent = isinstance(fault, LineUnavailable)
                self._pause(self.settings.reopen_s if absent else RECONNECT_S)
        self.refuse_requests()

    def _pause(self, seconds: float) -> None:
        """Waits between two tries to connect; ends early when something is asked of the worker."""
        if self._stopping:
            return
        try:
            self._requests.get(timeout=seconds).done.set_exception(self._refusal())
        except queue.Empty:
            return

    def _session(self) -> None:
        self._session_count += 1
        self._line = line = self._open_line()
        session = BookPrinter(
            line, self.profile, self.clock.monotonic, xonxoff=self.settings.xonxoff
        )
        self._session_now = session
        try:
            self.board.change(self.name, situation=Situation.RECONCILING)
            reconciliation = Reconciliation(self, session, self._watches)
            reconciliation.run()
            if not self._stopping:
                # Where a stop ended the wait for late evidence, the next start must find it as it was.
                session.arm()
            while not self._stopping:
                session.forget()
                self._turn(session)
        except PrinterFault as fault:
            self.show_reported_fault(session)
            self._note_unwatched_load(session, fault)
            raise
        finally:
            self._line = None
            self._session_now = None
            session.close()
            for watch in self._watches.values():
                watch.session_ended()

    def _note_unwatched_load(self, session: BookPrinter, fault: PrinterFault) -> None:
        """A lost line, or a book that is not out, is noted of a page that was not proven to be loaded."""
        book_seen = session.slip is not None and not session.slip.book_out
        if not book_seen and not isinstance(fault, LineLost):
            return
        for attempt in attempts.unfinished(self.journal.read(), self.name):
            if attempt.stage == Stage.LOAD and attempt.run == self.settings.run:
                self.journal.write(partial(attempts.note_book_or_line, attempt=attempt))

    def _session_broke(self, fault: PrinterFault) -> None:
        """The session ended: what must be known of it is journaled at once."""
        self.board.change(
            self.name,
            situation=Situation.AWAY,
            state=PrinterState.STOPPED,
            reasons=self._away_reasons(),
            book_in=None,
            removal_wanted=False,
            detail=str(fault),
        )
        self.refuse_requests()
        for attempt in attempts.unfinished(self.journal.read(), self.name):
            watch = self._watches.get(attempt.id)
            if watch is not None and watch.error_seen:
                self.fail(watch)
            elif attempt.process_id is not None:
                self._doubt(attempt, why=f"the printer was lost while it printed: {fault}")
        for job in attempts.selected(self.journal.read(), self.name):
            self.journal.write(partial(attempts.take_back, job_id=job.id, printer=self.name))

    def _away_reasons(self) -> tuple[PrinterReason, ...]:
        view = self.board.view(self.name)
        seen = () if view is None else view.reasons
        mendable = (PrinterReason.COVER_OPEN, PrinterReason.MEDIA_JAM)
        return (PrinterReason.OFFLINE, *(reason for reason in seen if reason in mendable))

    def _doubt(self, attempt: Attempt, *, why: str) -> None:
        watch = self._watches.get(attempt.id)
        evidence = {} if watch is None else watch.told()

        def operation(tx: Any) -> None:
            job = jobs.require(tx, attempt.job)
            if job.phase is Phase.COMMITTED:
                attempts.doubt(tx, attempt, evidence=evidence, note=why)

        self.journal.write(operation)

    # One turn: at most one job

    def _turn(self, session: BookPrinter) -> None:
        self._serve()
        self.track_book(session)
        if self._show_stop():
            session.pump(POLL_S)
            self.track_book(session)
            session.check_same_printer_still()
            return
        if session.conditions & FAULTS:
            self._wait_for_mending(session)
            return
        if self._show_power():
            self._rest(session)
            return
        job = self._choose()
        if job is None:
            self._show_idle(session)
            self._rest(session)
            return
        try:
            self._attempt(session, job)
        except (TakenBack, NotNow):
            self._take_back(session, job.id)

    def _show_stop(self) -> bool:
        reader = self.journal.read()
        stop = attempts.reason_of_stop(reader, self.name)
        if stop is None:
            return False
        self.board.change(
            self.name,
            situation=Situation.READY,
            state=PrinterState.STOPPED,
            # The closer word, and the contract's.
            reasons=tuple(dict.fromkeys((PrinterReason(stop), PrinterReason.PRINTER_CHANGED))),
            job=None,
            detail=f"{attempts.explain_stop(reader, self.name)}; if it may print:"
            f" `print-agent printer accept {self.name} --reason ...`",
        )
        return True

    def _rest(self, session: BookPrinter) -> None:
        session.pump(POLL_S)
        self.track_book(session)
        session.check_same_printer_still()

    def _refused_by_power(self) -> str | None:
        return self._power(self.profile.page_seconds)

    def _show_power(self) -> bool:
        why = self._refused_by_power()
        if why is None:
            return False
        self.board.change(
            self.name,
            situation=Situation.READY,
            state=PrinterState.STOPPED,
            reasons=(PrinterReason.ON_BATTERY,),
            job=None,
            removal_wanted=False,
            detail=why,
        )
        return True

    def _show_idle(self, session: BookPrinter) -> None:
        book_in = session.slip is not None and not session.slip.book_out
        self.board.change(
            self.name,
            situation=Situation.READY,
            state=PrinterState.IDLE,
            reasons=(PrinterReason.BOOK_REMOVAL_WANTED,) if book_in else (),
            job=None,
            removal_wanted=book_in,
            detail="take the book out" if book_in else "",
        )

    def _wait_for_mending(self, session: BookPrinter) -> None:
        conditions = session.ask_conditions()
        if not conditions & FAULTS:
            return
        self.board.change(self.name, situation=Situation.READY)
        self.show_fault(conditions)
        if not conditions & Condition.COVER_OPEN:
            with suppress(NoAnswer):
                session.recover()
        session.pump(FAULT_POLL_S)

    def show_reported_fault(self, session: BookPrinter) -> None:
        """Shows an open cover or an error that the printer told by itself: it may answer nothing until it is mended."""
        if session.conditions & FAULTS:
            self.show_fault(session.conditions)

    def show_fault(self, conditions: Condition) -> None:
        """Shows what a person must mend before the printer may go on."""
        cover = bool(conditions & Condition.COVER_OPEN)
        self.board.change(
            self.name,
            state=PrinterState.STOPPED,
            reasons=(PrinterReason.COVER_OPEN if cover else PrinterReason.MEDIA_JAM,),
            detail="close the cover"
            if cover
            else "the printer reports an error: take out what is jammed",
        )

    def _choose(self) -> Job | None:
        reader = self.journal.read()
        if self._presented is not None:
            job = jobs.find(reader, self._presented.job)
            if (
                job is not None
                and job.phase in (Phase.SELECTED, Phase.WAITING)
                and self._may_take(job, self._presented.number)
            ):
                return self._select(job)
            self._forget_presented()
        if self.settings.book_check:
            return None
        for job in attempts.candidates(reader, now=self.clock.now()):
            return self._select(job)
        return None

    def _may_take(self, job: Job, number: str) -> bool:
        """Whether the job still has this book, which was presented here last, and no other printer has taken it."""
        return (
            job.book == number
            and job.printer in (None, self.name)
            and self.board.presented_at(number) == self.name
        )

    def _select(self, job: Job) -> Job | None:
        if job.phase is Phase.SELECTED:
            return job
        try:
            return self.journal.write(lambda tx: attempts.select(tx, job.id, printer=self.name))
        except NotNow:
            self._forget_presented()
            return None

    def present(self, number: str, *, actor: str) -> str:
        """In the worker's thread, no page in the printer: the job of this book goes next; gives its id.

        Raises:
            RequestRefused: 404 ``unknown-book``, 409 ``not-allowed``.
        """
        if attempts.reason_of_stop(self.journal.read(), self.name) is not None:
            raise RequestRefused(
                409,
                "not-allowed",
                f"printer {self.name} must be accepted first: `print-agent printer accept {self.name} --reason ...`",
            )
        why = self._refused_by_power()
        if why is not None:
            raise RequestRefused(409, "not-allowed", f"book {number} cannot be printed now: {why}")
        if self._session_now is not None:
            # What was told up to this answer was before the number was presented.
            self._session_now.ask_slip()
            self.track_book(self._session_now)
        if self._presented is not None and self._presented.number == number:
            job = jobs.require(self.journal.read(), self._presented.job)
            stands = job.phase is Phase.WAITING or job.phase in AT_PRINTER
            # The book that went in after it would use it up on its way out: it is presented anew then.
            used = self._presented.since is _BookSince.WENT_IN
            if stands and not used and self._may_take(job, number):
                return job.id
            self._forget_presented()

        def operation(tx: Any) -> Job:
            job = attempts.by_current_book(tx, number)
            if job is None:
                raise attempts.unknown_book(tx, number)
            if job.printer not in (None, self.name):
                raise RequestRefused(
                    409, "not-allowed", f"job {job.id} is at printer {job.printer}"
                )
            try:
                return attempts.select(tx, job.id, printer=self.name, presented_by=actor)
            except NotNow as error:
                raise RequestRefused(
                    409, "not-allowed", f"book {number} cannot be printed now: {error}"
                ) from error

        job = self.journal.write(operation)
        self._forget_presented()
        book_in = False
        if self._session_now is not None:
            self._session_now.take_slips()  # what was before the number was presented counts nothing for it
            book_in = not self._session_now.book_out
        self.board.present(number, printer=self.name)
        self._presented = _Presented(
            number, job.id, _BookSince.WAS_IN if book_in else _BookSince.OUT
        )
        self.board.change(self.name, presented=number)
        return job.id

    def _forget_presented(self) -> None:
        presented, self._presented = self._presented, None
        self.board.change(self.name, presented=None)
        if presented is None:
            return
        self.board.withdraw(presented.number, printer=self.name)
        job = jobs.find(self.journal.read(), presented.job)
        if job is not None and job.phase is Phase.SELECTED and job.printer == self.name:
            # It was not its turn yet: its book may be presented again.
            self.journal.write(lambda tx: attempts.take_back(tx, job.id, printer=self.name))

    # One attempt

    def _attempt(self, session: BookPrinter, job: Job) -> None:
        page = self._compose(job)
        if page is None:
            return
        loaded = Loading(self, session, self._watches, job).run(page)
        if loaded is None:
            return
        attempt = self.journal.write(
            lambda tx: attempts.commit(tx, loaded, inked_rows=page.inked_rows)
        )
        watch = self._watches[attempt.id] = Watch(attempt, self.profile)
        watch.follow(session, since=len(session.log))
        self.board.change(
            self.name,
            situation=Situation.PRINTING,
            state=PrinterState.PROCESSING,
            reasons=(),
            detail="printing",
        )
        self._forget_presented()
        self.refuse_requests()
        self._compose_ahead(attempt.job)
        Printing(self, session, self._watches, watch).run()
        self.track_book(session)

    def check_at_hand(self, session: BookPrinter, job_id: str) -> None:
        """Whether the job at hand may go on in this printer.

        Raises:
            TakenBack: It may not.
        """
        self.track_book(session)
        if self._stopping:
            raise TakenBack("the agent stops")
        why = self._refused_by_power()
        if why is not None:
            raise TakenBack(why)
        if session.conditions & FAULTS:
            raise TakenBack("the printer reports an open cover or an error")
        if not self._requests.empty():
            raise TakenBack("something else is asked of the printer")
        job = jobs.find(self.journal.read(), job_id)
        if (
            job is None
            or job.phase not in AT_PRINTER
            or job.printer != self.name
            or job.wish
            or job.held
        ):
            raise TakenBack("the job may not be printed any more")
        attempts.check_may_print(
            self.journal.read(),
            job,
            now=self.clock.now(),
            clock_trusted=self.journal.clock_trusted(),
        )
        if self._presented is None and (self.settings.book_check or self._must_be_presented(job)):
            raise TakenBack("the book that was presented is gone")

    def _must_be_presented(self, job: Job) -> bool:
        return job.number <= int(self.journal.read().station("presented_only_through", 0))

    def track_book(self, session: BookPrinter) -> bool:
        """A presented number is used up by taking out the book that went in after it; tells whether any book was out."""
        slips = session.take_slips()
        if session.slip is not None:
            self.board.change(self.name, book_in=not session.slip.book_out)
        for slip in slips:
            presented = self._presented
            if presented is None:
                continue
            if slip.book_in and presented.since is _BookSince.OUT:
                presented.since = _BookSince.WENT_IN
            elif slip.book_out:
                if presented.since is _BookSince.WENT_IN:
                    self._forget_presented()
                else:
                    presented.since = _BookSince.OUT
        return any(slip.book_out for slip in slips)

    def _compose(self, job: Job) -> ComposedPage | None:
        reader = self.journal.read()
        try:
            return self._composer.page(reader, job)
        except (DocumentGone, MessageRefused) as error:
            why = str(error)
            self._set_aside(job, why)
            return None
        except PrintAgentError:
            raise
        except Exception:
            # A bug, or a photo that breaks a library: the process ends, and the second time the job is set aside.
            self.journal.write(lambda tx: attempts.count_crash(tx, job.id))
            raise

    def _set_aside(self, job: Job, why: str) -> None:
        def operation(tx: Any) -> None:
            current = jobs.require(tx, job.id)
            if current.phase is Phase.SELECTED:  # else it has ended or is held meanwhile
                current = jobs.move(tx, current, Event.TAKE_BACK, printer=None)
                jobs.move(tx, current, Event.SET_ASIDE, note=why)

        self.journal.write(operation)

    def _compose_ahead(self, printing: str) -> None:
        if self._ahead is not None and not self.settings.book_check:
            self._ahead(lambda: self._compose_next(printing))

    def show_removal(self, job_id: str) -> None:
        """Asks for the book to be taken out."""
        self.board.change(
            self.name,
            reasons=(PrinterReason.BOOK_REMOVAL_WANTED,),
            job=job_id,
            removal_wanted=True,
            detail="take the book out",
        )

    def _compose_next(self, printing: str) -> None:
        reader = self.journal.read()
        for job in attempts.candidates(reader, now=self.clock.now()):
            if job.id != printing:
                try:
                    self._composer.compose_ahead(reader, job)
                except PrintAgentError:
                    return  # told when it is that job's turn

    # Outcomes, also for reconcile

    def complete(self, watch: Watch) -> None:
        """Journals that it was printed."""
        attempt = watch.attempt
        self.journal.write(
            lambda tx: attempts.complete(
                tx,
                attempt,
                read_back=self.settings.read_back,
                serial=self.identity.serial,
                counter=watch.counter,
                evidence=watch.told(),
            )
        )
        self._watches.pop(attempt.id, None)

    def fail(self, watch: Watch) -> None:
        """Journals an error while it printed, before anything else is sent."""

        def operation(tx: Any) -> None:
            attempt = attempts.note_error(tx, watch.attempt)
            if jobs.require(tx, attempt.job).phase in (Phase.COMMITTED, Phase.IN_DOUBT):
                attempts.fail(
                    tx,
                    attempt,
                    evidence=watch.told(),
                    note="the printer reported an error while it printed",
                )

        self.journal.write(operation)

    def _take_back(self, session: BookPrinter, job_id: str) -> None:
        """Clears the job's page and returns it to the queue, or ends it as wished; then serves what was asked."""
        job = jobs.require(self.journal.read(), job_id)
        self.show_reported_fault(session)
        # Whatever the journal says of the job by now: no page may stay under the next one.
        if session.page_inside or job.phase in PAGE_IN_PRINTER or job.ended:
            session.clear()
        self.journal.write(lambda tx: attempts.take_back(tx, job_id, printer=self.name))
        for number in [n for n, watch in self._watches.items() if watch.attempt.job == job_id]:
            del self._watches[number]
        self.board.change(self.name, job=None, removal_wanted=False)

    def _serve(self) -> None:
        """Does what was asked; no page is in the printer now."""
        while True:
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return
            try:
                request.done.set_result(request.act())
            except PrinterFault as fault:
                why = f"printer {self.name} was lost just now: {fault}; wait for it and try again"
                request.done.set_exception(RequestRefused(409, "not-allowed", why))
                raise
            except PrintAgentError as error:
                request.done.set_exception(error)

    def refuse_requests(self) -> None:
        """Nothing can be done for others now."""
        while True:
            try:
                self._requests.get_nowait().done.set_exception(self._refusal())
            except queue.Empty:
                return


__all__ = ["JournalWriter", "PageComposer", "PrinterWorker", "WorkerSettings"]
