"""Which doubts were needless, and which completions too bold: CONTRACT 4.1's evidence once more, from what truly went over the line.

The agent's word counts for nothing here but where it takes its decisions: an attempt begins with its load,
has an intent once the receipt tells it, and a doubt of it stands when the agent waits for no more evidence.
Then the rules of 4.1 are held against the replies that the process got, the printer's true counter and its
true memory. A doubt was needless where they allow an answer, and the ink says that it is the right one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.drivers import escpos
from tests.simulation.desk import Desk, ObservedPrinter
from tests.simulation.judge import Judge, pages_on
from tests.simulation.plan import Mishap, Office

DOUBT_STANDS = "doubt-stands"
PAGE_CLEARED = "page-cleared"
LOAD = "load"
_NO_BOOK = 0x60  # in the third byte of an automatic status: no paper at either sensor
_ASK_COUNTER = b"\x1dg2"
_OUTCOMES = frozenset(
    {"print-completed", "print-verified", "print-failed", "book-spoiled", "job-requeued"}
)


@dataclass(slots=True)
class _Attempt:
    """One attempt without an outcome, as it truly is."""

    job: str
    printer: ObservedPrinter
    began_at: float  # of the load, then of the intent
    counter: int  # the printer's, before the load
    boot: str
    restarted_with: str | None = None  # the boot of the first agent after the one that loaded
    disturbed: bool = False  # a book was in, or the line was lost, during the load
    book: str = ""
    process_id: str | None = None
    rows: int = 0
    struck_by: Mishap | None = None
    doubted: bool = False
    # What this process was told; nothing of it outlives the process.
    own_session: bool = True
    reply: bool = False
    unasked_after_reply: bool = False
    left: bool = False
    another_book: bool = (
        False  # one left and one came in before the reply: P4 outranks the rows of 4.1
    )
    read: bool = False
    read_after_reply: int | None = None
    told_after_reply: bool = (
        False  # unasked, though the printer may have lost its power since it said so
    )
    unasked_after_reading: bool = False


class Doubts:
    """Listens to the line and to the journal's events.

    Args:
        office: Printer and counter.
        desk: The printer that stands there, and the books.
        judge: Gets a complaint about each needless doubt.
    """

    def __init__(self, office: Office, desk: Desk, judge: Judge) -> None:
        self.struck: Counter[Mishap] = Counter()
        self.begun: Counter[Mishap | None] = Counter()
        self._office = office
        self._has_process_ids = office.profile == "page-slip"
        self._desk = desk
        self._judge = judge
        self._attempts: dict[str, _Attempt] = {}
        self._parser = escpos.ReplyParser(xonxoff=False)
        self._boot = ""
        # What was heard in a session before the printer said who it is; an exact process ID outlives the session.
        self._unclaimed: list[tuple[escpos.Reply, bool]] = []
        self._identified = self._named = False
        self._counter_asked = (
            False  # in this session: a late answer to an earlier one's question is no reading
        )
        desk.on_heard, desk.on_sent = self._heard, self._sent
        desk.on_open, desk.on_load_disturbed = self._session_begins, self._load_disturbed

    def struck_by(self, mishap: Mishap) -> None:
        """A mishap strikes now."""
        for attempt in self._attempts.values():
            if attempt.process_id and not attempt.doubted and attempt.struck_by is None:
                attempt.struck_by = mishap
                self.struck[mishap] += 1

    def life_begins(self, boot: str) -> None:
        """Another process knows only what is journaled."""
        self._boot = boot
        self._unclaimed.clear()
        for attempt in self._attempts.values():
            attempt.restarted_with = attempt.restarted_with or boot
            self._forget(attempt)
            attempt.reply = attempt.unasked_after_reply = attempt.told_after_reply = False
            attempt.left = attempt.another_book = False

    def rolled_back(self) -> None:
        """Of what was under way, the restored journal knows less than the printer."""
        self._attempts.clear()

    # The line

    def _session_begins(self) -> None:
        self._parser = escpos.ReplyParser(xonxoff=False)
        self._identified, self._named = not self._has_process_ids, False
        self._counter_asked = False
        self._unclaimed = [
            (reply, unasked)
            for reply, unasked in self._unclaimed
            if isinstance(reply, escpos.ProcessIdReply)
        ]
        for attempt in self._attempts.values():
            self._forget(attempt)

    def _forget(self, attempt: _Attempt) -> None:
        """A reading counts anew in each session; without process IDs, so does the completion reply."""
        attempt.own_session = attempt.read = attempt.unasked_after_reading = False
        attempt.read_after_reply = None
        if not self._has_process_ids:
            attempt.reply = attempt.unasked_after_reply = attempt.told_after_reply = False

    def _load_disturbed(self) -> None:
        for attempt in self._attempts.values():
            attempt.disturbed = True

    def _sent(self, data: bytes) -> None:
        self._counter_asked |= data.startswith(_ASK_COUNTER)
        if data[:1] not in (b"\x10", b"\x0c"):
            for attempt in self._attempts.values():
                # From here on an answer may be another question's.
                attempt.own_session &= attempt.process_id is None

    def _heard(self, data: bytes) -> None:
        printer = self._desk.printer
        for reply in self._parser.feed(data):
            unasked = isinstance(reply, escpos.AutomaticStatus) and not printer.explains_status()
            self._unclaimed.append((reply, unasked))
            if isinstance(reply, escpos.TextReply):
                self._named |= reply.text == printer.make.serial
            elif isinstance(reply, escpos.QueuedStatus):
                # The fence behind the serial number: until then the answer may be another question's.
                self._identified |= self._named
        if self._identified:
            self._claim(printer)

    def _claim(self, printer: ObservedPrinter) -> None:
        for reply, unasked in self._unclaimed:
            for attempt in self._attempts.values():
                if attempt.printer is printer:
                    self._learn(attempt, reply, unasked=unasked)
        self._unclaimed.clear()

    def _learn(self, attempt: _Attempt, reply: escpos.Reply, *, unasked: bool) -> None:
        if isinstance(reply, escpos.AutomaticStatus) and not attempt.process_id:
            # It may tell of a book that was in and out again before the load began: the agent notes it of the load.
            attempt.disturbed = True
        if isinstance(reply, escpos.AutomaticStatus) and attempt.process_id and not attempt.reply:
            sensors = reply.status[2] & _NO_BOOK
            attempt.another_book |= attempt.left and not sensors
            attempt.left |= sensors == _NO_BOOK
        match reply:
            case escpos.ProcessIdReply():
                attempt.reply |= reply.text == attempt.process_id
            case escpos.QueuedStatus() if not self._has_process_ids:
                attempt.reply |= attempt.process_id is not None and attempt.own_session
            case escpos.TextReply() if reply.text.isdigit() and self._counter_asked:
                attempt.read = True
                attempt.read_after_reply = int(reply.text) if attempt.reply else None
            case escpos.AutomaticStatus() if unasked:
                self._memory_was_kept(attempt)
            case _:
                pass

    @staticmethod
    def _memory_was_kept(attempt: _Attempt) -> None:
        armed_at = attempt.printer.armed_at
        if armed_at is None or armed_at < attempt.began_at:
            attempt.told_after_reply |= attempt.reply
        if armed_at is not None and armed_at < attempt.began_at:
            attempt.unasked_after_reply |= attempt.reply
            attempt.unasked_after_reading |= attempt.read

    # The journal

    def journaled(self, kind: str, job: str | None, now: float) -> None:
        """An event without a receipt."""
        if kind == LOAD and job is not None:
            printer, line = self._desk.printer, self._desk.transport
            disturbed = printer.book is not None or line is None or line.lost
            self._attempts[job] = _Attempt(
                job, printer, now, printer.counter, self._boot, disturbed=disturbed
            )
        elif kind == PAGE_CLEARED:
            self._attempts.pop(job or "", None)
        elif kind == DOUBT_STANDS:
            attempt = self._attempts.pop(job or "", None)
            if attempt is not None and attempt.doubted:
                self._weigh(attempt)

    def signed(self, claims: Mapping[str, Any], now: float) -> None:
        """A receipt became durable."""
        attempt = self._attempts.get(claims.get("job", ""))
        if attempt is None:
            return
        match claims["event"]:
            case "print-committed":
                attempt.began_at, attempt.book = now, claims["book"]
                attempt.process_id = claims["evidence"]["process_id"]
                attempt.rows = claims["evidence"]["inked_rows"]
                attempt.own_session = True
                attempt.read = attempt.unasked_after_reading = False
                attempt.read_after_reply = None
            case "print-in-doubt":
                attempt.doubted = True
                attempt.book = claims["book"]
                self.begun[attempt.struck_by] += 1
            case event if event in _OUTCOMES:
                if event == "print-completed" and claims["actor"] == "agent":
                    self._check_completed(attempt)
                del self._attempts[attempt.job]

    # The rules

    def _weigh(self, attempt: _Attempt) -> None:
        book = self._desk.book(attempt.book)
        answer = self._allowed(attempt)
        if self._desk.torn == attempt.book or attempt.book in self._desk.torn_onto:
            # A page that a person tore over two books is none that a reply may complete.
            right = False
        elif answer == "completed":
            right = pages_on(book) == [self._judge.page(attempt.job, attempt.book)]
        else:
            right = answer == "no ink" and not book.inked()
        if right:
            self._judge.complain(
                f"P4: the doubt of {attempt.job} was needless: the evidence says {answer} of book {attempt.book}"
            )

    def _check_completed(self, attempt: _Attempt) -> None:
        """Row 2 of 4.1, whatever the ink says: the reply, and what was told after it."""
        counted = (
            self._office.counter_kept == "lost"
            and attempt.read_after_reply == attempt.counter + attempt.rows
        )
        if not attempt.reply or not (attempt.told_after_reply or counted):
            self._judge.complain(
                f"P4: {attempt.job} was told completed on evidence that 4.1 does not take"
            )

    def _allowed(self, attempt: _Attempt) -> str | None:
        """The certain answer that CONTRACT 4.1 allows, if any; its rows in their order."""
        kept = self._office.counter_kept
        here = self._desk.printer is attempt.printer and self._desk.reachable
        if here and attempt.printer.book is not None:
            # Its leaving would have told: the doubt was not to stand before.
            self._memory_was_kept(attempt)
        counter = attempt.printer.counter if here and self._has_process_ids else None
        exact = counter == attempt.counter + attempt.rows
        fell_back = counter is not None and counter < attempt.counter and kept != "durable"
        if attempt.another_book:
            return None
        memory_kept = attempt.unasked_after_reply or (exact and kept == "lost")
        if attempt.reply and memory_kept and (counter is None or exact or fell_back):
            return "completed"
        if counter == attempt.counter and (kept == "durable" or attempt.unasked_after_reading):
            return "no ink"
        watched = attempt.restarted_with is None or attempt.restarted_with != attempt.boot
        if attempt.process_id is None and watched and not attempt.disturbed:
            return "no ink"
        return None
