"""The evidence of one attempt, gathered from what its printer said, in the order in which it came."""

from __future__ import annotations

from typing import Any

from agent.drivers import escpos
from agent.drivers.book_printer import BookPrinter, CounterReading, Said
from agent.drivers.profile import Fence, Profile
from agent.model import process_id_text
from agent.queue.attempts import Attempt
from agent.queue.recovery import (
    CounterMoved,
    Decision,
    Evidence,
    Printer,
    Stage,
    counter_movement,
    decide,
)


class Watch:
    """What is known of one attempt in this process; a reply taken here outlives a lost line.

    Args:
        attempt: The attempt as journaled.
        profile: Its printer's kind.
        agent_lived: Whether this process began it.
    """

    def __init__(self, attempt: Attempt, profile: Profile, *, agent_lived: bool = True) -> None:
        self.attempt = attempt
        self.profile = profile
        self.agent_lived = agent_lived
        self.reply_seen = False
        self.error_seen = bool(attempt.error)
        self.unasked_after_reply = False
        self.another_book = False
        self._book_left = False
        self._heard_all = agent_lived  # in one session from the commit on
        self.counter_after_reply = False
        self.unasked_after_counter = False
        self.counter_moved = CounterMoved.NOT_READ
        self.counter: int | None = None
        self.printer = Printer.ABSENT
        self.clear = False
        # A reply without a process ID counts only in the attempt's own unbroken session.
        self.own_session = True
        # From this moment on (monotonic seconds) its page cannot be printing any more.
        self.printed_by = 0.0
        self._session: BookPrinter | None = None
        self._position = 0

    @property
    def committed(self) -> bool:
        return self.attempt.process_id is not None

    def follow(self, session: BookPrinter, *, since: int) -> None:
        """From this place in the session's log on, what is said counts for this attempt; once for each session."""
        if self._session is not session:
            self._session, self._position = session, since

    def session_ended(self) -> None:
        """Takes what was said up to the end; without process IDs and serial numbers nothing outlives the session."""
        self.absorb()
        self._session = None
        self.own_session = self._heard_all = False
        if self.profile.fence is Fence.PAPER_SENSOR or self.attempt.serial is None:
            self.reply_seen = self.unasked_after_reply = False

    def absorb(self, *, until: int | None = None) -> None:
        """Takes what was said since the last look."""
        if self._session is None:
            return
        end = len(self._session.log) if until is None else until
        for said in self._session.log[self._position : end]:
            self._take(said)
        self._position = max(self._position, end)

    def count(self, reading: CounterReading | None) -> None:
        """Takes a counter reading in its place among the other replies."""
        if reading is None:
            self.absorb()
            return
        self.absorb(until=reading.position)
        self.counter = reading.value
        self.counter_after_reply = self.reply_seen
        self.unasked_after_counter = False
        self.counter_moved = counter_movement(
            before=self.attempt.counter,
            after=reading.value,
            inked_rows=self.attempt.inked_rows or 0,
        )
        self.absorb()

    def _take(self, said: Said) -> None:
        reply = said.reply
        match reply:
            case escpos.ProcessIdReply():
                if self.committed and reply.text == process_id_text(self.attempt.process_id or 0):
                    self.reply_seen = True
            case escpos.QueuedStatus():
                # ESC v: the only queued question between the commit and its reply is the commit's own.
                if self.committed and self.own_session and self.profile.fence is Fence.PAPER_SENSOR:
                    self.reply_seen = True
            case escpos.AutomaticStatus():
                self._track_book(escpos.automatic_slip(reply, self.profile))
                if said.unasked:
                    self.unasked_after_reply |= self.reply_seen
                    self.unasked_after_counter |= self.counter_moved is not CounterMoved.NOT_READ
            case _:
                pass
        if self.committed and is_error(reply):
            self.error_seen = True

    def _track_book(self, slip: escpos.SlipSensors) -> None:
        """Before the completion reply, a book that comes in after one has left gets the rest of the page.

        An agent that died since, or a session that broke, may have been told of the leaving: the commit's own book was
        in, and that was told, before the commit.
        """
        if self.committed and not self.reply_seen:
            self.another_book |= self._book_left and not slip.book_out
            self.another_book |= not self._heard_all and slip.book_in
            self._book_left |= slip.book_out

    @property
    def ended(self) -> bool:
        """Whether the printer has said that the page is done, or that it failed."""
        return self.reply_seen or self.error_seen

    @property
    def must_count_again(self) -> bool:
        """Whether the completion reply came after the counter was read: that reading says nothing of it."""
        counted = self.counter_moved is not CounterMoved.NOT_READ
        return counted and self.reply_seen and not self.counter_after_reply

    @property
    def contradicted(self) -> bool:
        """Whether what was seen cannot be a page printed on one book."""
        return self.another_book or self.counter_moved in (
            CounterMoved.NOT_AT_ALL,
            CounterMoved.OTHERWISE,
        )

    def decide(self) -> Decision:
        """The decision on what is known now."""
        return decide(self.evidence())

    def evidence(self) -> Evidence:
        """What is known now, in the words of the recovery table."""
        return Evidence(
            stage=Stage.INTENT if self.committed else Stage(self.attempt.stage),
            printer=self.printer,
            error_seen=self.error_seen,
            reply_seen=self.reply_seen,
            unasked_after_reply=self.unasked_after_reply,
            another_book=self.another_book,
            counter_kept=self.profile.counter_kept,
            counter_moved=self.counter_moved,
            counter_after_reply=self.counter_after_reply,
            unasked_after_counter=self.unasked_after_counter,
            buffers_clear=self.clear,
            agent_lived=self.agent_lived,
            book_or_line_noted=bool(self.attempt.noted),
        )

    def told(self) -> dict[str, Any]:
        """The evidence as it stands in receipts."""
        found: dict[str, Any] = {
            "process_id_seen": self.reply_seen,
            "unasked_status_after": self.unasked_after_reply or self.unasked_after_counter,
            "buffers_clear": self.clear,
        }
        if self.error_seen:
            found["error_seen"] = True
        if self.another_book:
            found["another_book_seen"] = True
        if self.counter is not None:
            found["counter"] = self.counter
            found["counter_moved"] = self.counter_moved.value
        return found


def is_error(reply: escpos.Reply) -> bool:
    """Whether a reply reports an error in the sense of CONTRACT 4.1."""
    if isinstance(reply, escpos.OfflineReply):
        return True
    if isinstance(reply, escpos.AutomaticStatus):
        return bool(escpos.automatic_conditions(reply) & escpos.FAULTS)
    return False
