"""Steps 4 and 5 of an attempt: the commit, and its outcome in the unbroken session (CONTRACT section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.drivers.book_printer import ASK_TRIES, PRINTING_POLL_S, BookPrinter
from agent.drivers.escpos import FAULTS, SlipSensors
from agent.errors import NoAnswer, PrintAgentError, PrinterFault, WriteStalled
from agent.queue.recovery import Decision, Printer
from agent.reconcile import Reconciliation
from agent.watch import Watch

if TYPE_CHECKING:
    from agent.worker import PrinterWorker


class _Unproven(PrintAgentError):
    """Why the completion reply or its proof will not come: the evidence must decide."""


class Printing:
    """The printing of one attempt whose intent is durable.

    Args:
        worker: Whose printer it is; journals the outcome.
        session: The session in which the page was loaded.
        watches: What is known in this process of attempts, by their id.
        watch: What is known of this one.
    """

    def __init__(
        self,
        worker: PrinterWorker,
        session: BookPrinter,
        watches: dict[int, Watch],
        watch: Watch,
    ) -> None:
        self.worker = worker
        self.session = session
        self.watches = watches
        self.watch = watch
        self._counted = False
        self._unanswered = 0

    def run(self) -> None:
        """Commits, and returns once the outcome is durable."""
        self.watch.printed_by = self.worker.clock.monotonic() + self.session.profile.page_seconds
        self.watch.printer = Printer.SAME_SESSION
        try:
            self._commit()
            self._await_outcome()
        except _Unproven as unproven:
            self.watch.absorb()
            if self.watch.error_seen:
                self.worker.fail(self.watch)
            self.worker.show_reported_fault(self.session)
            reconciliation = Reconciliation(self.worker, self.session, self.watches)
            reconciliation.conclude(self.watch, why=str(unproven))

    def _commit(self) -> None:
        """Step 4; it is asked once more where the book is: writing the intent took the disk its time."""
        asked = self.session.check_same_printer_still()
        left = self.worker.track_book(self.session)
        if left or not asked.book_in or self.session.slip is None or not self.session.slip.book_in:
            # Another one may be in now. Without any it would wait, and ink whatever book is put in next.
            raise _Unproven("the book left the printer before the commit was sent")
        if self.session.conditions & FAULTS:
            raise _Unproven("the printer reported an error before the commit was sent")
        process_id = self.watch.attempt.process_id
        assert process_id is not None
        try:
            self.session.commit(process_id, between=self._refuse_error)
        except WriteStalled as stalled:
            raise _Unproven(str(stalled)) from stalled

    def _refuse_error(self) -> None:
        self.watch.absorb()
        if self.watch.error_seen:
            raise _Unproven("the printer reported an error while it printed")

    def _await_outcome(self) -> None:
        """Step 5."""
        watch = self.watch
        while True:
            self.worker.refuse_requests()
            self._refuse_error()
            if watch.reply_seen and not self._counted:
                self._count()
            elif watch.decide() is Decision.COMPLETED:
                self.worker.complete(watch)
                return
            elif watch.reply_seen:
                self._await_proof()
            else:
                self._await_reply()

    def _count(self) -> None:
        reading = self.session.read_counter()
        if reading is not None:
            self.worker.board.change(self.worker.name, counter=reading.value)
        self.watch.count(reading)
        self._counted = True

    def _await_reply(self) -> None:
        left = self.watch.printed_by - self.worker.clock.monotonic()
        if left <= 0:
            raise _Unproven(f"no completion reply within {self.session.profile.page_seconds:g} s")
        told = self.session.pump(min(left, PRINTING_POLL_S))
        if told and not self.session.book_out:
            return
        # A printer without a book may wait for one: it is asked at once, before anybody puts another one in.
        slip = self._ask_slip()
        if slip is not None and slip.waiting:
            self.session.cancel_waiting()
            raise _Unproven("the printer waited for a book after the commit")

    def _await_proof(self) -> None:
        """Waits for the book to be taken out: an unasked status tells it, where the printer kept its memory."""
        watch = self.watch
        if watch.contradicted:
            raise _Unproven("the printer says that it printed, and what else was seen says not")
        if self.worker.stopping and self.worker.clock.monotonic() > watch.printed_by:
            raise PrinterFault("the agent stops, and the printed book was not taken out yet")
        self.worker.track_book(self.session)
        if self.session.book_out:
            self.worker.board.change(
                self.worker.name, reasons=(), removal_wanted=False, detail="printing"
            )
        else:
            self.worker.show_removal(watch.attempt.job)
        if self.session.pump(PRINTING_POLL_S):
            return
        slip = self._ask_slip()
        if slip is not None and slip.book_out and not self.session.pump(PRINTING_POLL_S):
            raise _Unproven(
                "the printer says that it printed, and nothing proves that it kept its memory"
            )

    def _ask_slip(self) -> SlipSensors | None:
        """Where the book is; None where the answer got lost: what else was said meanwhile comes first."""
        try:
            slip = self.session.ask_slip(tries=1)
        except NoAnswer:
            self._unanswered += 1
            if self._unanswered == ASK_TRIES:
                raise
            return None
        self._unanswered = 0
        return slip
