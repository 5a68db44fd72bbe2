"""What moves: the book, the head over it, and the counter of what was inked."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from agent.drivers.virtual.book import Book, InkPass
from agent.drivers.virtual.make import CounterKept, PrinterMake

COUNTER_KEY = "inked_rows"


class BookPlace(enum.StrEnum):
    """Where the book is."""

    NONE = "none"
    IN = "in"  # under the head
    EJECTED = "ejected"  # put out, lies in the mouth until it is taken


class StepKind(enum.Enum):
    """What the mechanics do next."""

    ROW = enum.auto()
    FEED = enum.auto()
    PRINTED = enum.auto()  # the last row is done: completion replies fall due
    EJECT = enum.auto()


@dataclass(frozen=True, slots=True)
class Step:
    """One movement; ``amount`` is the dots of a row or the number of rows to feed."""

    kind: StepKind
    amount: int = 0


def rows_steps(rows: Iterable[int]) -> list[Step]:
    """The movements for rows of dots, white ones together."""
    steps: list[Step] = []
    white = 0
    for bits in rows:
        if not bits:
            white += 1
            continue
        if white:
            steps.append(Step(StepKind.FEED, white))
            white = 0
        steps.append(Step(StepKind.ROW, bits))
    if white:
        steps.append(Step(StepKind.FEED, white))
    return steps


class Mechanics:
    """The plan of movements, one after the other, each with its time.

    A plan without a book waits for one, and goes on with whatever book comes: so do the real ones.

    Args:
        make: what kind of printer it is.
        nonvolatile: where the counter is kept without power.
    """

    def __init__(self, make: PrinterMake, nonvolatile: dict[str, int]) -> None:
        self.make = make
        self.book: Book | None = None
        self.place = BookPlace.NONE
        self._nonvolatile = nonvolatile
        self.lose_memory(0.0)

    def lose_memory(self, now: float) -> None:
        """The power goes or comes: no plan, and the counter that was kept."""
        self._plan: deque[Step] = deque()
        self._in_page_mode = False
        self.due: float | None = None
        self._ready_at = now
        self._counted_ahead = False
        self._head_row = 0
        self._pass: InkPass | None = None
        kept = self.make.counter_kept is not CounterKept.LOST
        self.counter = self._nonvolatile.get(COUNTER_KEY, 0) if kept else 0
        self._counter_reset_at = self.counter

    @property
    def busy(self) -> bool:
        """There is a plan, at work or waiting."""
        return bool(self._plan)

    @property
    def wants_book(self) -> bool:
        """There is a plan, and no book under the head."""
        return bool(self._plan) and self.place is not BookPlace.IN

    @property
    def inking(self) -> bool:
        """There is more to do than to eject."""
        return any(step.kind is not StepKind.EJECT for step in self._plan)

    @property
    def counter_since_reset(self) -> int:
        """The counter that a host may reset."""
        return self.counter - self._counter_reset_at

    def reset_counter(self) -> None:
        """GS g 0."""
        self._counter_reset_at = self.counter

    def insert(self, book: Book) -> None:
        """A book under the head, at its first row."""
        self.book = book
        self.place = BookPlace.IN
        self._head_row = 0
        self._pass = None

    def remove(self) -> Book | None:
        """The book is gone, in the middle of a row too."""
        book, self.book = self.book, None
        self.place = BookPlace.NONE
        self.stop()
        return book

    def put_out(self) -> None:
        """The book lies in the mouth; the plan stays."""
        if self.place is BookPlace.IN:
            self.place = BookPlace.EJECTED
        self.stop()

    def add(self, steps: Iterable[Step], at: float, *, page_mode: bool) -> None:
        """Plans more; a page is a print of its own, what standard mode prints goes together."""
        if page_mode or (self._pass is not None and self._pass.page_mode):
            self._pass = None
        self._in_page_mode = page_mode
        self._plan.extend(steps)
        self.ready(at)

    def clear(self) -> None:
        """The plan is forgotten; the book stays where it is."""
        self._plan.clear()
        self._counted_ahead = False
        self.stop()

    def stop(self) -> None:
        """The movement in progress is abandoned; it starts anew if the plan goes on."""
        self.due = None

    def ready(self, at: float) -> None:
        """Nothing that rests may begin before this time."""
        if self.due is None:
            self._ready_at = max(self._ready_at, at)

    def start(self) -> None:
        """Begins the next movement, where there is a book for it."""
        if self.due is not None or not self._plan or self.book is None:
            return
        step = self._plan[0]
        if step.kind is StepKind.ROW and self._head_row >= self.book.height:
            # The book ends before the print does: it is let go, the rest waits for the next one.
            self.put_out()
        if self.place is not BookPlace.IN:
            return
        if step.kind is StepKind.ROW and self.make.counter_kept is CounterKept.DURABLE:
            self._count_row()
        self.due = self._ready_at + self._seconds(step)

    def finish(self) -> StepKind:
        """Ends the movement that is due."""
        step = self._plan.popleft()
        if self.due is not None:
            self._ready_at = self.due
        self.due = None
        match step.kind:
            case StepKind.ROW:
                self._ink_row(step.amount)
            case StepKind.FEED:
                self._head_row += step.amount
            case StepKind.PRINTED:
                pass
            case StepKind.EJECT:
                self.put_out()
        return step.kind

    def _seconds(self, step: Step) -> float:
        match step.kind:
            case StepKind.ROW:
                return self.make.row_seconds
            case StepKind.FEED:
                return self.make.feed_seconds * step.amount
            case StepKind.PRINTED:
                return 0.0
            case StepKind.EJECT:
                return self.make.eject_seconds

    def _ink_row(self, bits: int) -> None:
        book = self.book
        if book is None:
            return
        if self._pass is None:
            self._pass = InkPass(self._ready_at, page_mode=self._in_page_mode)
            book.passes.append(self._pass)
        self._pass.rows += 1
        book.ink_row(self._head_row, bits, width=self.make.width)
        self._head_row += 1
        if self.make.counter_kept is CounterKept.DURABLE:
            self._counted_ahead = False
        else:
            self._count_row()

    def _count_row(self) -> None:
        if self._counted_ahead:
            return
        self.counter += 1
        match self.make.counter_kept:
            case CounterKept.DURABLE:
                self._counted_ahead = True
                self._nonvolatile[COUNTER_KEY] = self.counter
            case CounterKept.UNKNOWN:
                if self.counter % self.make.counter_save_rows == 0:
                    self._nonvolatile[COUNTER_KEY] = self.counter
            case CounterKept.LOST:
                pass
