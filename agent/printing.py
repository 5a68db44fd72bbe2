"""Steps 4 and 5 of an attempt: the commit, and its outcome in the unbroken session (CONTRACT section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.drivers.book_printer import ASK_TRIES, PRINTING_POLL_S, BookPrinter
from agent.drivers.escpos import FAULTS, SlipSensors
from agent.errors import NoAnswer, PrinterFault, WriteStalled
from agent.queue.recovery import Decision, Printer
from agent.reconcile import Reconciliation
from agent.watch import Watch

if TYPE_CHECKING:
    from agent.worker import PrinterWorker


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
        why = self._commit() or self._await_outcome()
        if why is not None:
            Reconciliation(self.worker, self.session, self.watches).conclude(self.watch, why=why)

    def _commit(self) -> str | None:
        """Step 4; tells why the page cannot be expected to print."""
        self.session.pump(0)
        if self.session.slip is None or not self.session.slip.book_in:
            # It would wait, and ink whatever book is put in next.
            return "the book left the printer before the commit was sent"
        if self.session.conditions & FAULTS:
            return "the printer reported an open cover or an error before the commit was sent"
        process_id = self.watch.attempt.process_id
        assert process_id is not None
        try:
            self.session.commit(process_id)
        except WriteStalled as stalled:
            return str(stalled)
        return None

    def _await_outcome(self) -> str | None:
        """Step 5; tells why the completion reply and its proof do not come, or None once the outcome is durable."""
        watch = self.watch
        while True:
            self.worker.refuse_requests()
            watch.absorb()
            if watch.error_seen:
                self.worker.fail(watch)
                return "the printer reported an error while it printed"
            if watch.reply_seen and not self._counted:
                self._count()
                continue
            if watch.decide() is Decision.COMPLETED:
                self.worker.complete(watch)
                return None
            why = self._await_proof() if watch.reply_seen else self._await_reply()
            if why is not None:
                return why

    def _count(self) -> None:
        reading = self.session.read_counter()
        if reading is not None:
            self.worker.board.change(self.worker.name, counter=reading.value)
        self.watch.count(reading)
        self._counted = True

    def _await_reply(self) -> str | None:
        left = self.watch.printed_by - self.worker.clock.monotonic()
        if left <= 0:
            return f"no completion reply within {self.session.profile.page_seconds:g} s"
        if self.session.pump(min(left, PRINTING_POLL_S)):
            return None
        slip = self._ask_slip()
        if slip is None or not slip.waiting:
            return None
        self.session.cancel_waiting()
        return "the printer waited for a book after the commit"

    def _await_proof(self) -> str | None:
        """Waits for the book to be taken out: an unasked status tells it, where the printer kept its memory."""
        watch = self.watch
        if watch.contradicted:
            return "the printer says that it printed, and its counter says that it did not"
        if self.worker.stopping and self.worker.clock.monotonic() > watch.printed_by:
            raise PrinterFault("the agent stops, and the printed book was not taken out yet")
        self.worker.show_removal(watch.attempt.job)
        if self.session.pump(PRINTING_POLL_S):
            return None
        slip = self._ask_slip()
        if slip is None or not slip.book_out or self.session.pump(PRINTING_POLL_S):
            return None
        return "the printer says that it printed, without a proof that it kept its memory"

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
