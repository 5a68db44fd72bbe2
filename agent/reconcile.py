"""After a restart, a lost line or a missing reply: what was printed? (CONTRACT section 4.1, "Reconcile").

The order is fixed: take what the printer still holds, wait for a page that may be printing, make late
printing impossible, ask who answers, read the evidence, decide. Only then may the session be armed.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.drivers import escpos
from agent.drivers.book_printer import (
    AWAY_TIMEOUT_S,
    POLL_S,
    PRINTING_POLL_S,
    RESTART_GRACE_S,
    BookPrinter,
)
from agent.drivers.escpos import FAULTS, Condition
from agent.drivers.profile import Fence
from agent.errors import NoAnswer, PrinterFault
from agent.live import PrinterReason, PrinterState
from agent.model import PrinterIdentity, process_id_text
from agent.queue import attempts, jobs
from agent.queue.attempts import Attempt
from agent.queue.recovery import Decision, Printer, Stage
from agent.queue.states import PAGE_IN_PRINTER, Phase
from agent.watch import Watch, is_error

if TYPE_CHECKING:
    from agent.worker import PrinterWorker

MENDING_POLL_S = 1.0  # how often a printer that answers, but cannot be cleared, is tried again


class Reconciliation:
    """One reconciliation of one printer's unfinished attempts, in one session.

    Args:
        worker: Whose printer it is; journals the outcomes.
        session: The session.
        watches: What is known in this process of attempts, by their id; kept over sessions.
    """

    def __init__(
        self, worker: PrinterWorker, session: BookPrinter, watches: dict[int, Watch]
    ) -> None:
        self.worker = worker
        self.session = session
        self.profile = session.profile
        self.watches = watches

    # A new session

    def run(self) -> None:
        """Reconciles everything that this printer has open; the session may be armed afterwards."""
        unfinished = attempts.unfinished(self.worker.journal.read(), self.worker.name)
        self._take_unclaimed()
        self.session.keep_pending()
        self._journal_errors(unfinished)
        self._await_completion(unfinished)
        identity = self.worker.identity = self._clear_and_identify()
        # Now that it is known who said it, what was said counts, also if this session breaks off.
        for attempt in attempts.unfinished(self.worker.journal.read(), self.worker.name):
            self._watch(attempt, identity)
        self.worker.unclaimed = []
        reading = self.session.read_counter()
        counter = None if reading is None else reading.value
        self.worker.journal.write(
            lambda tx: attempts.seen_at_connect(
                tx, printer=self.worker.name, identity=identity, counter=counter
            )
        )
        self.worker.board.change(self.worker.name, identity=identity, counter=counter)
        book_out = self.session.ask_slip().book_out
        undecided = []
        for attempt in attempts.unfinished(self.worker.journal.read(), self.worker.name):
            watch = self._watch(attempt, identity)
            if attempt.stage == Stage.LOAD and watch.agent_lived and not book_out:
                watch.attempt = self.worker.journal.write(
                    partial(attempts.note_book_or_line, attempt=attempt)
                )
            if watch.printer is Printer.SAME:
                watch.count(reading)
            if not self._judge(watch):
                undecided.append(watch)
        self._await_late_evidence(undecided)

    def _take_unclaimed(self) -> None:
        """What was said in a session that broke before anyone knew by whom; it is this session's to claim."""
        self.session.log += [
            said
            for said in self.worker.unclaimed
            if isinstance(said.reply, escpos.ProcessIdReply) or is_error(said.reply)
        ]
        self.worker.unclaimed = self.session.log

    def _journal_errors(self, unfinished: list[Attempt]) -> None:
        """An error that the printer reported since a commit is journaled before anything else is sent."""
        if not any(is_error(said.reply) for said in self.session.log):
            return
        for attempt in unfinished:
            if (
                attempt.process_id is not None
                and attempt.stage == Stage.INTENT
                and not attempt.error
            ):
                watch = self._known(attempt)
                watch.error_seen = True
                self.worker.fail(watch)

    def _await_completion(self, unfinished: list[Attempt]) -> None:
        """A page may still be printing; clearing now would cut it."""
        waiting = [
            attempt
            for attempt in unfinished
            if attempt.stage in (Stage.INTENT, "resolved")
            and attempt.process_id is not None
            and not attempt.clear
            and not self._known(attempt).ended
        ]
        if not waiting:
            return
        self.worker.board.change(
            self.worker.name, detail="waiting for the page that it may still be printing"
        )
        texts = {process_id_text(attempt.process_id or 0) for attempt in waiting}
        deadline = max(self._known(attempt).printed_by for attempt in waiting)
        position = 0
        while True:
            for said in self.session.log[position:]:
                position += 1
                if is_error(said.reply):
                    self._journal_errors(waiting)
                    return
                if self._completes(said.reply, texts):
                    return
            left = deadline - self.worker.clock.monotonic()
            if left <= 0 or self._ended_waiting():
                return
            self.session.pump(min(left, PRINTING_POLL_S))

    def _ended_waiting(self) -> bool:
        """A printer that waits for a book would put the rest of the page on the next one: it is told to wait no more."""
        try:
            if not self.session.ask_slip(tries=1).waiting:
                return False
        except NoAnswer:
            return False  # it may be busy, and is asked again
        self.session.cancel_waiting()
        return True

    def _completes(self, reply: escpos.Reply, texts: set[str]) -> bool:
        if self.profile.fence is Fence.PAPER_SENSOR:
            return isinstance(reply, escpos.QueuedStatus)
        return isinstance(reply, escpos.ProcessIdReply) and reply.text in texts

    def _clear_and_identify(self) -> PrinterIdentity:
        """Clears, and asks who it is; a printer with an open cover or an error is waited for.

        Raises:
            PrinterFault: It does not answer, or the agent stops.
        """
        while True:
            try:
                self.session.clear()
                return self.session.identify()
            except NoAnswer:
                if not self._await_mending():
                    raise

    def _await_mending(self) -> bool:
        """Whether a fault that a person can see kept the printer from answering; then it is gone now."""
        seen = False
        while (conditions := self.session.ask_conditions(timeout_s=AWAY_TIMEOUT_S)) & FAULTS:
            seen = True
            self.worker.show_fault(conditions)
            if self.worker.stopping:
                raise PrinterFault("the agent stops; the printer was not proven clear")
            if not conditions & Condition.COVER_OPEN:
                with suppress(NoAnswer):
                    self.session.recover()
            self.session.pump(MENDING_POLL_S)
        return seen

    def _known(self, attempt: Attempt) -> Watch:
        """What is known of an attempt; one of another start of the agent was committed before now."""
        watch = self.watches.get(attempt.id)
        if watch is None:
            watch = self.watches[attempt.id] = Watch(
                attempt, self.profile, agent_lived=attempt.run == self.worker.settings.run
            )
            watch.own_session = False
            watch.printed_by = self.worker.clock.monotonic() + self.profile.page_seconds
        return watch

    def _watch(self, attempt: Attempt, identity: PrinterIdentity) -> Watch:
        watch = self._known(attempt)
        watch.attempt = attempt
        same = attempt.serial is not None and attempt.serial == identity.serial
        watch.printer = Printer.SAME if same else Printer.OTHER
        # Without serial numbers nobody can tell two printers apart; what answers here was cleared.
        watch.clear = same or (attempt.serial is None and identity.serial is None)
        if same:
            watch.follow(self.session, since=0)
        return watch

    # Judging

    def _judge(self, watch: Watch) -> bool:
        """Journals what the evidence decides; tells whether nothing more is to be waited for."""
        attempt = watch.attempt
        if attempt.stage == "resolved":
            if watch.clear:
                self._count(watch)
            return True
        match self._decide(watch):
            case Decision.COMPLETED:
                self.worker.complete(watch)
                return True
            case Decision.NO_INK:
                self._no_ink(watch)
                return True
            case Decision.FAILED:
                self.worker.fail(watch)
                self._stand(watch)
                return True
            case Decision.IN_DOUBT:
                self._doubt(watch, why="nothing proves whether the book was printed: look at it")
                return False

    def _decide(self, watch: Watch) -> Decision:
        """The decision; a reply that came after the counter was read has it read once more."""
        if watch.must_count_again and watch.printer in (Printer.SAME, Printer.SAME_SESSION):
            watch.count(self.session.read_counter())
        return watch.decide()

    def _no_ink(self, watch: Watch) -> None:
        attempt = watch.attempt
        job = jobs.require(self.worker.journal.read(), attempt.job)
        if job.phase in PAGE_IN_PRINTER or (job.ended and not watch.committed):
            self.worker.journal.write(
                lambda tx: attempts.take_back(tx, job.id, printer=self.worker.name)
            )
        elif job.phase in (Phase.COMMITTED, Phase.IN_DOUBT):
            self.worker.journal.write(
                lambda tx: attempts.no_ink(
                    tx,
                    attempt,
                    serial=self.worker.identity.serial,
                    counter=watch.counter,
                    evidence=watch.told(),
                )
            )
        else:
            # A person or the authority has said meanwhile what the book is.
            self._count(watch)
        self.watches.pop(attempt.id, None)

    def _doubt(self, watch: Watch, *, why: str) -> None:
        def operation(tx: Any) -> None:
            job = jobs.require(tx, watch.attempt.job)
            if job.phase in (Phase.COMMITTED, Phase.LOADING):
                attempts.doubt(tx, watch.attempt, evidence=watch.told(), note=why)

        self.worker.journal.write(operation)
        if watch.clear:
            self._count(watch)

    def _count(self, watch: Watch) -> None:
        """The printer was proven clear, and its counter is journaled, once: a person may decide now."""
        if watch.attempt.counted:
            return
        counter = watch.counter if watch.printer in (Printer.SAME, Printer.SAME_SESSION) else None
        watch.attempt = self.worker.journal.write(
            lambda tx: attempts.note_counted(
                tx, watch.attempt, serial=watch.attempt.serial, counter=counter
            )
        )

    def _stand(self, watch: Watch) -> None:
        """No more evidence will come; what is still unclear of another printer stays open."""
        if watch.clear:
            self._count(watch)
            self.worker.journal.write(lambda tx: attempts.let_stand(tx, watch.attempt))
        if watch.clear or watch.attempt.stage == "standing":
            self.watches.pop(watch.attempt.id, None)

    def _await_late_evidence(self, undecided: list[Watch]) -> None:
        """An unasked status may still end a doubt, until the sensors show no book."""
        pending = [
            watch for watch in undecided if watch.printer in (Printer.SAME, Printer.SAME_SESSION)
        ]
        for watch in undecided:
            if watch not in pending:
                self._stand(watch)
        while pending and not self.worker.stopping:
            out = self.session.ask_slip().book_out
            pending = [watch for watch in pending if not self._ended_late(watch)]
            if out and pending:
                # The status of a book that was just taken out may trail behind the asked one.
                self.session.pump(RESTART_GRACE_S)
                pending = [watch for watch in pending if not self._ended_late(watch)]
            if out:
                break
            if pending:
                self._ask_out(pending[0])
                self.session.pump(POLL_S)
        for watch in pending:
            if not self.worker.stopping:
                self._stand(watch)
        self.worker.board.change(self.worker.name, removal_wanted=False)

    def _ended_late(self, watch: Watch) -> bool:
        watch.absorb()
        phase = jobs.require(self.worker.journal.read(), watch.attempt.job).phase
        if phase is not Phase.IN_DOUBT:
            # A person has resolved it meanwhile.
            self._stand(watch)
            return True
        if self._decide(watch) is Decision.IN_DOUBT:
            return False
        return self._judge(watch)

    def _ask_out(self, watch: Watch) -> None:
        self.worker.board.change(
            self.worker.name,
            state=PrinterState.STOPPED,
            reasons=(PrinterReason.BOOK_REMOVAL_WANTED,),
            job=watch.attempt.job,
            removal_wanted=True,
            detail=f"take book {watch.attempt.book} out and look at it: job {watch.attempt.job} is in doubt",
        )

    # In an unbroken session

    def conclude(self, watch: Watch, *, why: str) -> None:
        """After a commit without a proven outcome: clear, ask who answers, read the counter, decide."""
        # From here on the printer answers other questions; none of the answers is the completion reply.
        watch.absorb()
        watch.own_session = False
        identity = self._clear_and_identify()
        same = watch.attempt.serial == identity.serial
        watch.printer = Printer.SAME_SESSION if same else Printer.OTHER
        watch.clear = same
        if same:
            watch.count(self.session.read_counter())
        self.worker.board.change(self.worker.name, counter=watch.counter)
        if self._decide(watch) is Decision.IN_DOUBT:
            self._doubt(watch, why=f"{why}: look at the book")
            self._await_late_evidence([watch])
        else:
            self._judge(watch)

    def judge_broken_load(self, watch: Watch) -> None:
        """A book was seen in during a load: waits for the proof that it got no ink, or ends in doubt.

        A job that is proven blank keeps its place: its page is loaded again.
        """
        out = False
        while (
            watch.decide() is Decision.IN_DOUBT
            and self.profile.counter
            and not self.worker.stopping
        ):
            out = self.session.ask_slip().book_out
            self.session.pump(RESTART_GRACE_S if out else POLL_S)
            watch.absorb()
            if out:
                break
        if watch.decide() is Decision.IN_DOUBT:
            if self.worker.stopping and self.profile.counter and not out:
                raise PrinterFault("the agent stops, and the book was not taken out yet")
            self._doubt(
                watch,
                why="a book was put in while the page was being loaded, and nothing proves that it is blank: look at it",
            )
            self._stand(watch)
