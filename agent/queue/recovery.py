"""What the evidence says of one attempt: values in, one decision out (CONTRACT section 4.1).

The rows stand in the contract's order and the first that fits decides. The function is total, and
monotone: less evidence never gives a bolder decision, it only ends in doubt.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.model import CounterKept


class Stage(enum.StrEnum):
    """Where the attempt stopped."""

    LOAD = "load"
    CUT_OFF = "cut-off"  # the PC went down in the load, before any agent could start again
    LOADED = "loaded"
    INTENT = "intent"


class Printer(enum.StrEnum):
    """Who answers now, against the printer of the intent."""

    SAME_SESSION = "same-session"
    SAME = "same"
    OTHER = "other"
    ABSENT = "absent"


class CounterMoved(enum.StrEnum):
    """The latest reading, against the one in the journal's note of this attempt."""

    NOT_READ = "not-read"
    NOT_AT_ALL = "not-at-all"
    BY_THE_INKED_ROWS = "by-the-inked-rows"
    FELL_BACK = "fell-back"
    OTHERWISE = "otherwise"


class Decision(enum.StrEnum):
    """What becomes of the job."""

    COMPLETED = "completed"
    NO_INK = "no-ink"
    FAILED = "failed"
    IN_DOUBT = "in-doubt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known of one attempt; every default is the absence of evidence.

    Attributes:
        error_seen: The printer reported an error since the commit, even one that has gone.
        reply_seen: The completion reply came, with exactly this attempt's process ID.
        unasked_after_reply: An automatic status that no request explains came after that reply.
        another_book: One was seen to leave and one to come in before that reply: the page is on two books.
        counter_after_reply: The counter's latest reading came after the completion reply.
        unasked_after_counter: One came after the reply to the counter's latest reading.
        buffers_clear: The printer's buffers were proven clear.
        mrz_matches: The machine-readable zone was read back from the book and is this document's.
        agent_lived: A load only: the agent that began it still runs.
        book_or_line_noted: A load only: a book was seen in or the line was lost before the fence reply.
    """

    stage: Stage
    printer: Printer = Printer.ABSENT
    error_seen: bool = False
    reply_seen: bool = False
    unasked_after_reply: bool = False
    another_book: bool = False
    counter_kept: CounterKept = CounterKept.UNKNOWN
    counter_moved: CounterMoved = CounterMoved.NOT_READ
    counter_after_reply: bool = False
    unasked_after_counter: bool = False
    buffers_clear: bool = False
    mrz_matches: bool = False
    agent_lived: bool = False
    book_or_line_noted: bool = True


def decide(evidence: Evidence) -> Decision:
    """The decision for an attempt that has no outcome yet."""
    match evidence.stage:
        case Stage.LOADED:
            # The page lay complete in page memory before any book; without the commit nothing prints it.
            return Decision.NO_INK
        case Stage.LOAD | Stage.CUT_OFF:
            return Decision.NO_INK if _load_left_no_ink(evidence) else Decision.IN_DOUBT
        case Stage.INTENT:
            return _decide_intent(evidence)


def _decide_intent(evidence: Evidence) -> Decision:
    # 1. An error was reported since the commit.
    if evidence.error_seen:
        return Decision.FAILED
    # 2. The completion reply, with proof that the printer kept its memory until then.
    if evidence.reply_seen and _memory_kept(evidence) and not _contradicted(evidence):
        return Decision.COMPLETED
    # 3. The machine-readable zone, printed last, was read back from the book.
    if evidence.mrz_matches:
        return Decision.COMPLETED
    # 4. and 5. A counter proves that there is no ink.
    if _counter_proves_no_ink(evidence):
        return Decision.NO_INK
    # 6. Anything else: a person looks at the book.
    return Decision.IN_DOUBT


def _same_printer(evidence: Evidence) -> bool:
    return evidence.printer in (Printer.SAME, Printer.SAME_SESSION)


def _memory_kept(evidence: Evidence) -> bool:
    """A status that nobody asked for proves it, or a counter that would be gone moved exactly right."""
    if evidence.unasked_after_reply:
        return True
    return (
        _same_printer(evidence)
        and evidence.counter_kept is CounterKept.LOST
        and evidence.counter_after_reply
        and evidence.counter_moved is CounterMoved.BY_THE_INKED_ROWS
    )


def _contradicted(evidence: Evidence) -> bool:
    """What a page on one book cannot explain; a counter that is lost at power-off may fall back."""
    if evidence.another_book:
        return True
    if not _same_printer(evidence):
        return False
    match evidence.counter_moved:
        case CounterMoved.NOT_READ | CounterMoved.BY_THE_INKED_ROWS:
            return False
        case CounterMoved.FELL_BACK:
            return evidence.counter_kept is CounterKept.DURABLE
        case CounterMoved.NOT_AT_ALL | CounterMoved.OTHERWISE:
            return True


def _counter_proves_no_ink(evidence: Evidence) -> bool:
    if not (_same_printer(evidence) and evidence.buffers_clear):
        return False
    if evidence.counter_moved is not CounterMoved.NOT_AT_ALL:
        return False
    # 4. Saved before its row is inked: it cannot stand still under ink.
    # 5. Of any kind: the status after the reading proves that the printer kept its memory since the intent.
    return evidence.counter_kept is CounterKept.DURABLE or evidence.unasked_after_counter


def _load_left_no_ink(evidence: Evidence) -> bool:
    # The page was going into page memory and no book was in: nothing could be inked while somebody watched,
    # and when the PC itself went down, no byte went on without a watcher.
    watched = evidence.agent_lived or evidence.stage is Stage.CUT_OFF
    if watched and not evidence.book_or_line_noted:
        return True
    return _counter_proves_no_ink(evidence)


def counter_movement(*, before: int | None, after: int | None, inked_rows: int) -> CounterMoved:
    """Puts a reading into words; counters in rows."""
    if before is None or after is None:
        return CounterMoved.NOT_READ
    if after == before:
        return CounterMoved.NOT_AT_ALL
    if after == before + inked_rows:
        return CounterMoved.BY_THE_INKED_ROWS
    if after < before:
        return CounterMoved.FELL_BACK
    return CounterMoved.OTHERWISE
