"""Whose job a spare may print in a dead station's place: the rule, values in and decision out.

It knows three sources: what was issued to the dead station, what that station's receipts tell, which may end long before its
death, and what a person at the spare counted. A blank book proves that its job was not printed into it, whatever the dead
station did meanwhile; so a job goes to the spare only where each of its books is accounted for: blank or damaged in the
hand, or recorded as spoiled.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.model import Action, BookFate, JobState, Reason

_ENDED = (JobState.COMPLETED, JobState.CANCELED, JobState.ABORTED)


class Verdict(enum.StrEnum):
    """What a takeover does about a job."""

    GIVEN = "given"  # authorized anew for the spare
    ENDED = "ended"  # nothing is left to do
    WAITS = "waits"  # for a person


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, why, and the blank books of a job that is given."""

    verdict: Verdict
    why: str
    books: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What the authority knows of one job of the dead station.

    ``state`` and ``reasons`` are the last that the receipts tell, None where it was never accepted. ``given_to``
    is the station that it was authorized for anew. ``directed`` holds the last directive of each kind about it.
    ``spoiled``, ``inked`` and ``committed_at`` (NumericDate of the last intent) are the receipts' word on its books.
    """

    job: str
    books: tuple[str, ...]
    exp: int | None
    state: str | None = None
    reasons: tuple[str, ...] = ()
    told_at: int = 0
    given_to: str | None = None
    directed: Mapping[Action, Mapping[str, Any]] = field(default_factory=dict)
    spoiled: frozenset[str] = frozenset()
    inked: frozenset[str] = frozenset()
    committed_at: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """One ``inventory-taken`` of a station: who counted when, and the fate of each book."""

    station: str
    counted_at: int
    actor: str
    fates: Mapping[str, BookFate]


@dataclass(frozen=True, slots=True)
class Count:
    """All inventories together, as the spare's station holds the books.

    ``hand`` is the spare's last word on a book, with its time; ``disputes`` tells where two words differ.
    """

    hand: Mapping[str, tuple[BookFate, int]] = field(default_factory=dict)
    disputes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, inventories: Iterable[Inventory], *, spare: str) -> Count:
        """Puts inventories together; ``missing`` contradicts nothing, a book can be found."""
        hand: dict[str, tuple[BookFate, int]] = {}
        said: dict[str, dict[tuple[str, BookFate], str]] = {}
        for inventory in sorted(inventories, key=lambda one: one.counted_at):
            for book, fate in inventory.fates.items():
                if inventory.station == spare:
                    hand[book] = (fate, inventory.counted_at)
                if fate is not BookFate.MISSING:
                    words = f"{fate} by {inventory.actor} at {inventory.station}"
                    said.setdefault(book, {})[inventory.station, fate] = words
        disputes = {
            book: " and ".join(words.values()) for book, words in said.items() if len(words) > 1
        }
        return cls(hand, disputes)

    def found(self, books: Iterable[str], fate: BookFate) -> list[str]:
        """Those of the books that the spare last counted as this."""
        return [book for book in books if book in self.hand and self.hand[book][0] is fate]


def decide(record: JobRecord, count: Count, *, now: int) -> Decision:
    """The rule; the first that fits decides."""
    return _settled(record, count) or _held_back(record, now=now) or _by_the_books(record, count)


def _settled(record: JobRecord, count: Count) -> Decision | None:
    """Whether nothing is left to do."""
    if record.given_to is not None:
        return Decision(Verdict.GIVEN, f"authorized for {record.given_to} before")
    if Action.REVOKE in record.directed and record.state != JobState.COMPLETED:
        printed = count.found(record.books, BookFate.PRINTED)
        if printed:
            return wait(f"it was revoked, but book {printed[0]} is printed: destroy it")
        return Decision(Verdict.ENDED, "revoked")
    transfer = record.directed.get(Action.TRANSFER)
    given_up = record.state == JobState.CANCELED and Reason.TRANSFERRED in record.reasons
    if record.state not in _ENDED or (given_up and transfer is None):
        # What its retirement made it give up was never printed, and is what a takeover is about.
        return None
    if record.state == JobState.COMPLETED:
        blank = count.found(record.inked, BookFate.BLANK)
        if blank:
            return wait(
                f"the receipts say that book {blank[0]} was printed, but it is blank in the hand"
            )
    reasons = ", ".join(record.reasons)
    to = f" to {transfer['to']}" if given_up and transfer is not None else ""
    return Decision(Verdict.ENDED, f"{record.state}{': ' if reasons else ''}{reasons}{to}")


def _held_back(record: JobRecord, *, now: int) -> Decision | None:
    """Whether something else than a book stands against authorizing it anew."""
    transfer = record.directed.get(Action.TRANSFER)
    if transfer is not None:
        return wait(f"its transfer to {transfer['to']} was directed: see what became of it there")
    hold, release = record.directed.get(Action.HOLD), record.directed.get(Action.RELEASE)
    if hold is not None and (release is None or release["seq"] < hold["seq"]):
        return wait("the authority holds it: release it first")
    if Reason.JOB_HOLD in record.reasons and (release is None or release["iat"] < record.told_at):
        return wait("a technician held it: release it first")
    if record.exp is None or now > record.exp:
        return wait("its window has ended: authorize it anew")
    return None


def _by_the_books(record: JobRecord, count: Count) -> Decision:
    blank: list[str] = []
    for book in record.books:
        if book in count.disputes:
            return wait(f"book {book} was counted as {count.disputes[book]}: look at it")
        fate, counted_at = count.hand.get(book, (BookFate.MISSING, 0))
        if book in record.spoiled and fate in (BookFate.MISSING, BookFate.DAMAGED):
            continue
        if book in record.spoiled:
            return wait(
                f"the receipts say that book {book} is spoiled, but it was counted as {fate}: look at it"
            )
        match fate:
            case BookFate.MISSING:
                return wait(
                    f"book {book} is not in the hand: it may have been printed and handed out"
                )
            case BookFate.PRINTED:
                return wait(f"book {book} is printed, and no receipt says so: record it")
            case BookFate.BLANK if book in record.inked:
                return wait(
                    f"the receipts say that book {book} was printed, but it is blank in the hand"
                )
            case BookFate.BLANK if record.committed_at.get(book, 0) > counted_at:
                return wait(f"book {book} was committed to print after it was counted: look at it")
            case BookFate.BLANK:
                blank.append(book)
            case BookFate.DAMAGED:
                pass
    if not blank:
        return wait("all its books are damaged: authorize it anew")
    return Decision(Verdict.GIVEN, "blank in the hand", tuple(blank))


def wait(why: str) -> Decision:
    """A job that waits for a person, and why."""
    return Decision(Verdict.WAITS, why)
