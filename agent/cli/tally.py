"""The count of a dead station's books as a dialogue: one line in, one answer out; no I/O.

A barcode scanner types a number and Enter, so a line is a book of the pile that is being scanned; a single letter is a
key. Whoever scans does not look at the screen: an answer that needs a look is an alarm.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from agent.model import BOOK_NUMBER, BookFate

PILES = {fate.value[0]: fate for fate in BookFate}
HELP = """\
Scan the books pile by pile. Keys, each with Enter:
  b blank   p printed   d damaged   m missing: the pile that comes now
  u take the last one back   c change the book just refused
  l what is left   e end and sign   q stop, and go on another time"""
_TAKEN_BACK = "-"
_LEFT_SHOWN_MAX = 60  # numbers; more would scroll away what matters


class Mood(enum.Enum):
    """How an answer sounds."""

    QUIET = "quiet"
    ALARM = "alarm"  # nothing was taken down: look at the screen


class Reply(NamedTuple):
    """What a line was answered; ``kept`` is a line that ``restore`` takes, None where nothing changed."""

    text: str
    mood: Mood = Mood.QUIET
    kept: str | None = None


class Tally:
    """The books so far.

    Args:
        listed: the authority's list, book to whether it is to be found; None where there is no list.
    """

    def __init__(self, listed: Mapping[str, bool] | None = None) -> None:
        self.listed = listed
        self.pile = BookFate.BLANK
        self.fates: dict[str, BookFate] = {}
        self._before: list[tuple[str, BookFate | None]] = []
        self._refused: str | None = None

    def restore(self, kept: str) -> None:
        """Takes a line that a ``Reply`` gave, in its order.

        Raises:
            ValueError: it is none.
        """
        number, _, fate = kept.partition(" ")
        if kept == _TAKEN_BACK and self._before:
            self._undo()
        elif BOOK_NUMBER.fullmatch(number):
            self._put(number, BookFate(fate))
        else:
            raise ValueError("no line of a count")

    def left(self) -> list[str]:
        """The books of the list that are to be found and were not scanned."""
        listed = self.listed or {}
        return sorted(book for book in listed if listed[book] and book not in self.fates)

    def books(self) -> dict[BookFate, list[str]]:
        """What is to be signed: what is left on the list is missing."""
        fates = self.fates | dict.fromkeys(self.left(), BookFate.MISSING)
        return {
            fate: sorted(book for book, said in fates.items() if said is fate) for fate in BookFate
        }

    def summary(self) -> str:
        """How many of each."""
        return ", ".join(f"{len(books)} {fate}" for fate, books in self.books().items())

    def answer(self, line: str) -> Reply:
        """Takes a line."""
        refused, self._refused = self._refused, None
        text = line.strip()
        if len(text) == 1 and (text.isalpha() or text == "?") and text not in (self.listed or ()):
            return self._pressed(text.lower(), refused)
        number = text.upper()
        if not BOOK_NUMBER.fullmatch(number):
            # Not repeated: a passport reader in the scanner's place would type a holder's name.
            return Reply(
                "that is no book number: 1 to 9 of A-Z and 0-9. ? shows the keys", Mood.ALARM
            )
        return self._scanned(number)

    def _pressed(self, key: str, refused: str | None) -> Reply:
        if key in PILES:
            self.pile = PILES[key]
            how = "type the numbers of" if self.pile is BookFate.MISSING else "scan"
            return Reply(f"now {how} the {self.pile} books")
        match key:
            case "c" if refused is not None:
                return self._take(refused)
            case "c":
                return Reply("there is nothing to change", Mood.ALARM)
            case "u" if self._before:
                return self._take_back()
            case "u":
                return Reply("there is nothing to take back", Mood.ALARM)
            case "l":
                return Reply(self.left_text())
            case _:
                return Reply(HELP)

    def left_text(self) -> str:
        """The books that are left, for people."""
        if self.listed is None:
            return "without the authority's list nobody knows what is left"
        left = self.left()
        if not left:
            return "every book of the list was found"
        more = f" and {len(left) - _LEFT_SHOWN_MAX} more" if len(left) > _LEFT_SHOWN_MAX else ""
        return f"{len(left)} left: {' '.join(left[:_LEFT_SHOWN_MAX])}{more}"

    def _scanned(self, number: str) -> Reply:
        said = self.fates.get(number)
        if self.listed is not None and number not in self.listed:
            return Reply(
                f"{number} is on no job of that station: NOT taken down, put it aside", Mood.ALARM
            )
        if said is self.pile:
            return Reply(f"{number} is down as {said} already")
        if said is not None:
            self._refused = number
            return Reply(
                f"{number} is down as {said} and stays so; look at it, and press c if it is {self.pile}",
                Mood.ALARM,
            )
        return self._take(number)

    def _take(self, number: str) -> Reply:
        self._put(number, self.pile)
        return Reply(
            f"{self._progress()}  {number}  {self.pile}{self._remark(number)}",
            kept=f"{number} {self.pile}",
        )

    def _take_back(self) -> Reply:
        number, before = self._undo()
        again = "taken back" if before is None else f"{before} again"
        return Reply(f"{self._progress()}  {number}  {again}", kept=_TAKEN_BACK)

    def _put(self, number: str, fate: BookFate) -> None:
        self._before.append((number, self.fates.get(number)))
        self.fates[number] = fate

    def _undo(self) -> tuple[str, BookFate | None]:
        number, before = self._before.pop()
        del self.fates[number]
        if before is not None:
            self.fates[number] = before
        return number, before

    def _progress(self) -> str:
        if self.listed is None:
            return f"{len(self.fates):4}"
        wanted = sum(self.listed.values())
        return f"{wanted - len(self.left()):4}/{wanted}"

    def _remark(self, number: str) -> str:
        ended = self.listed is not None and not self.listed[number]
        return "   (its job has ended, or another book counts: put it away)" if ended else ""
