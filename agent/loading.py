"""Steps 1 and 2 of an attempt: the page goes into the printer, then the book (CONTRACT section 4.1)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.composer import ComposedPage
from agent.drivers.book_printer import ASK_TRIES, POLL_S, BookPrinter, CounterReading
from agent.drivers.escpos import FAULTS
from agent.errors import BookInTheWay
from agent.live import PrinterReason, PrinterState, Situation
from agent.queue import attempts, jobs
from agent.queue.attempts import Attempt
from agent.queue.jobs import Job
from agent.queue.recovery import Printer
from agent.queue.states import PAGE_IN_PRINTER
from agent.reconcile import Reconciliation
from agent.watch import Watch

if TYPE_CHECKING:
    from agent.worker import PrinterWorker


class Loading:
    """The loading of one job's page, up to the book that is to have it.

    Args:
        worker: Whose printer it is; knows whether the job may go on.
        session: The session.
        watches: What is known in this process of attempts, by their id.
        job: The job at hand.
    """

    def __init__(
        self, worker: PrinterWorker, session: BookPrinter, watches: dict[int, Watch], job: Job
    ) -> None:
        self.worker = worker
        self.session = session
        self.watches = watches
        self.job = job

    def run(self, page: ComposedPage) -> Attempt | None:
        """Returns the attempt once its page is loaded and the book is in; nothing where the job left the printer in doubt.

        Raises:
            TakenBack: The job may not go on; its page is still to be cleared.
        """
        loaded = self._load(page)
        if loaded is not None:
            self._await_book(loaded)
        return loaded

    def _load(self, page: ComposedPage) -> Attempt | None:
        """Step 1."""
        journal = self.worker.journal
        while True:
            reading = self._read_counter_without_book()
            attempt = self._begin(counter=None if reading is None else reading.value)
            watch = self.watches[attempt.id] = Watch(attempt, self.session.profile)
            watch.follow(self.session, since=len(self.session.log))
            try:
                if self.session.load(page.data, between=self._check):
                    return journal.write(partial(attempts.prove_load, attempt=attempt))
            except BookInTheWay:
                watch.attempt = journal.write(partial(attempts.note_book_or_line, attempt=attempt))
            if not self._clear_broken(watch):
                return None

    def _check(self) -> None:
        self.worker.check_at_hand(self.session, self.job.id)

    def _read_counter_without_book(self) -> CounterReading | None:
        """The counter that the load is held against; read again where a book went in meanwhile."""
        while True:
            self._ask_book_out()
            reading = self.session.read_counter()
            if self.session.book_out:
                return reading

    def _ask_book_out(self) -> None:
        """A book that is in already is asked out before the page may be loaded."""
        worker = self.worker
        while not self.session.check_same_printer_still().book_out:
            worker.board.change(
                worker.name, situation=Situation.READY, state=PrinterState.PROCESSING
            )
            worker.show_removal(self.job.id)
            self.session.pump(POLL_S)
            self._check()
        worker.track_book(self.session)
        self._check()

    def _begin(self, *, counter: int | None) -> Attempt:
        worker = self.worker
        worker.board.change(
            worker.name,
            situation=Situation.READY,
            state=PrinterState.PROCESSING,
            reasons=(),
            job=self.job.id,
            counter=counter,
            removal_wanted=False,
            detail="loading the page",
        )
        return worker.journal.write(
            partial(
                attempts.begin_load,
                job_id=self.job.id,
                printer=worker.name,
                run=worker.settings.run,
                boot=worker.settings.boot,
                identity=worker.identity,
                counter=counter,
            )
        )

    def _clear_broken(self, watch: Watch) -> bool:
        """Proves that a page that was not loaded whole left no ink, or doubts; tells whether to load again."""
        self.worker.track_book(self.session)
        self.session.clear()
        watch.clear = True
        watch.printer = Printer.SAME_SESSION
        watch.count(self.session.read_counter())
        if not self.session.book_out:
            self.worker.show_removal(watch.attempt.job)
        Reconciliation(self.worker, self.session, self.watches).judge_broken_load(watch)
        self.worker.track_book(self.session)
        phase = jobs.require(self.worker.journal.read(), watch.attempt.job).phase
        return phase in PAGE_IN_PRINTER

    def _await_book(self, attempt: Attempt) -> None:
        """Step 2: the book goes in, told by an unasked status, and DLE EOT 5 shows it."""
        self.worker.board.change(
            self.worker.name,
            state=PrinterState.PROCESSING,
            reasons=(PrinterReason.MEDIA_NEEDED,),
            detail=f"put in book {attempt.book}",
        )
        while True:
            self._check()
            # One that was silent, once the book is in, may have been switched off and on: it is loaded again then.
            # While the book is out, its going in will tell.
            tries = ASK_TRIES if self.session.book_out else 1
            slip = self.session.check_same_printer_still(tries=tries)
            self._check()
            if slip.book_in and not slip.waiting and not self.session.conditions & FAULTS:
                return
            self.session.pump(POLL_S)
