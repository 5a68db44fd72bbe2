"""The judge: knows the ink on the books, what senders were told and what the station signed; nothing of the agent.

The rules are the promises of CONTRACT section 1. A verdict is a sentence; no sentence, no fault.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from agent.crypto.receipts import first_prev, hash_of
from agent.drivers.virtual.book import Book
from agent.model import process_id_text

PRINT_S_MAX = 2.0  # a small page takes less
ENDED = frozenset({"completed", "canceled", "aborted"})
# Without a receipt of its own, a job may show itself as being printed.
LIVE = frozenset({"pending", "processing"})


def pages_on(book: Book) -> list[tuple[str, int]]:
    """The whole pages on a book, as (job, entry); an empty list for any other ink."""
    from tests.simulation.life import pattern

    first = bytes(book.rows[:5])
    job, entry = int.from_bytes(first[1:3], "big"), first[0] & 0x3F
    if len(book.passes) == 1 and bytes(book.rows) == pattern(job, entry).rows:
        return [(f"J{job}", entry)]
    return []


def jobs_on(book: Book) -> set[str]:
    """The jobs of which at least one row is on a book."""
    from tests.simulation.life import pattern

    found = set()
    for start in range(0, len(book.rows), 5):
        row = bytes(book.rows[start : start + 5])
        job, entry = int.from_bytes(row[1:3], "big"), row[0] & 0x3F
        if any(row) and job and pattern(job, entry).rows[start : start + 5] == row:
            found.add(f"J{job}")
    return found


@dataclass(slots=True)
class _Case:
    """One job as the receipts tell it."""

    books: list[str]
    told: bool = False
    accepted: bool = False
    state: str | None = None
    book: str | None = None
    spoiled: list[str] = field(default_factory=list)
    by_person: bool = False  # a person said what its book is
    restored: bool = (
        False  # since then, an earlier journal was put in place of the one that knew it
    )
    to_present: bool = False  # accepted before a `resume`, and no book of it presented since


def _is_persons_claim(claims: Mapping[str, Any]) -> bool:
    """Whether a person said that a book is blank."""
    return claims["event"] == "job-requeued" and claims.get("actor") != "agent"


class Judge:
    """Collects what happened and says what is wrong with it.

    Args:
        station: The station's id, where its chain begins.
        whole: How the whole pages on a book are read.
        traces: How the jobs are read of which a book bears anything.
    """

    def __init__(
        self,
        station: str,
        *,
        whole: Callable[[Book], list[tuple[str, int]]] = pages_on,
        traces: Callable[[Book], set[str]] = jobs_on,
    ) -> None:
        self._whole = whole
        self._traces = traces
        self.verdicts: list[str] = []
        self.head_seq = 0
        self.head_hash = first_prev(station)
        self.events: Counter[str] = Counter()
        self._cases: dict[str, _Case] = {}
        self._claimed_blank: Counter[str] = Counter()
        self._seen: dict[int, str] = {}
        self._intents: Counter[str] = Counter()
        self._open_since: dict[str, list[tuple[float, float | None]]] = {}
        self._process_id = ""
        self._process_ids: set[str] = set()
        self._known: set[str] = set()  # the receipts that the authority has
        self._rolled_back = False
        self.forked = False  # the authority has not got the receipt that explains it

    def complain(self, sentence: str) -> None:
        """A fault."""
        if sentence not in self.verdicts:
            self.verdicts.append(sentence)

    def page(self, job: str, book: str) -> tuple[str, int]:
        """What belongs on a job's book, as ``pages_on`` tells it."""
        return job, self._cases[job].books.index(book)

    @property
    def open_jobs(self) -> int:
        """How many jobs have not ended, as far as the authority knows."""
        return sum(case.state not in ENDED for case in self._cases.values())

    def ended(self, job: str) -> str | None:
        """How a job ended, as far as the authority knows; None where it does not."""
        state = self._cases[job].state
        return state if state in ENDED else None

    # What senders were told

    def issued(self, job: str, books: list[str]) -> None:
        """The authority signed an authorization."""
        self._cases[job] = _Case(books)

    def told(self, job: str) -> None:
        """A sender saw 200 or 201: from now on the job exists (P1)."""
        self._cases[job].told = True

    def rolled_back(self) -> None:
        """An earlier journal was put in the place of this one: what nobody had fetched of its chain is lost."""
        for seq, receipt in self._seen.items():
            claims = _claims(receipt)
            if seq > self.head_seq and claims["event"] == "print-committed":
                self._intents[claims["book"]] += 1
        self._seen.clear()
        self.forked = True
        self._process_id = ""
        for case in self._cases.values():
            case.restored = True

    # What the station signed

    def signed(
        self,
        seq: int,
        receipt: str,
        books: Mapping[str, Book],
        now: float,
        *,
        torn_unseen: AbstractSet[str] = frozenset(),
    ) -> dict[str, Any]:
        """A receipt became durable at this moment, while the books looked like this; gives what it says.

        ``torn_unseen`` are books that a person took out of a running print while the line lost what tells it.
        """
        claims = _claims(receipt)
        self._once(seq, receipt)
        number, event, actor = claims.get("book"), claims["event"], claims.get("actor")
        book = None if number is None else books.get(number)
        blank = (
            event == "job-requeued" and actor == "agent" and not self._claimed_blank[str(number)]
        )
        if blank and book is not None and book.inked():
            self.complain(f"P4: {claims['job']} was requeued as blank, but book {number} has ink")
        if event == "print-completed" and actor == "agent":
            lied_about = self._claimed_blank[str(number)] > 0 or number in torn_unseen
            if not lied_about and (
                book is None or self._whole(book) != [self.page(claims["job"], str(number))]
            ):
                self.complain(
                    f"P4: {claims['job']} was told completed, but book {number} does not bear its page"
                )
        if _is_persons_claim(claims) and book is not None and book.inked():
            self._claimed_blank[str(number)] += 1
        if event == "print-committed":
            self._open_since.setdefault(str(number), []).append((now, None))
        elif event in ("job-requeued", "book-spoiled") and self._open_since.get(str(number)):
            begun, ended = self._open_since[str(number)].pop()
            self._open_since[str(number)].append((begun, now if ended is None else ended))
        return claims

    def received(self, seq: int, receipt: str) -> None:
        """The authority got a receipt, in order: the chain must go on where it ended (P6)."""
        claims = _claims(receipt)
        untold = seq not in self._seen
        self._once(seq, receipt)
        follows = claims["seq"] == self.head_seq + 1 and claims["prev"] == self.head_hash
        if not follows and not self.forked:
            self.complain(f"P6: receipt {seq} does not follow receipt {self.head_seq}")
        if claims["event"] == "journal-resumed":
            self.forked = False
        self.head_seq, self.head_hash = claims["seq"], hash_of(receipt)
        self.events[claims["event"]] += 1
        self._known.add(receipt)
        if untold and _is_persons_claim(claims):
            # Durable, although its process died before it could say so.
            self._claimed_blank[str(claims.get("book"))] += 1
        self._follow(claims)

    def received_of_fork(self, receipt: str) -> None:
        """One of the receipts between the restored journal's end and its ``resume``: fetched before that is read on."""
        if receipt not in self._known:
            self._known.add(receipt)
            self._follow(_claims(receipt))

    @staticmethod
    def forked_after(receipt: str) -> int | None:
        """Behind which receipt a fork may lie that this one explains."""
        claims = _claims(receipt)
        if claims["event"] != "journal-resumed":
            return None
        return int(claims["evidence"]["forked_after"] or 0)

    def _once(self, seq: int, receipt: str) -> None:
        if self._seen.setdefault(seq, receipt) != receipt:
            self.complain(f"P6: receipt {seq} was signed twice, with two contents")

    def _follow(self, claims: Mapping[str, Any]) -> None:
        event = claims["event"]
        if event in ("journal-rolled-back", "journal-resumed"):
            self._rolled_back = event == "journal-rolled-back"
            for case in self._cases.values():
                case.to_present |= self._rolled_back
        if "job" in claims:
            self._follow_job(self._cases[claims["job"]], claims)

    def _follow_job(self, case: _Case, claims: Mapping[str, Any]) -> None:
        event = claims["event"]
        if event in ("book-presented", "job-accepted"):
            case.to_present = event == "job-accepted" and self._rolled_back
        case.accepted |= event == "job-accepted"
        case.state = claims.get("state", case.state)
        case.book = claims.get("book", case.book)
        if str(claims.get("actor", "")).startswith("technician:"):
            case.by_person |= event in ("print-completed", "print-verified", "job-requeued")
        if event == "book-spoiled" and case.book not in case.spoiled:
            case.spoiled.append(str(case.book))
        if event == "print-committed":
            self._commit(case, claims)

    def _commit(self, case: _Case, claims: Mapping[str, Any]) -> None:
        self._intents[str(claims["book"])] += 1
        if self._rolled_back or case.to_present:
            self.complain(
                f"P2: {claims['job']} of a restored journal was printed before `resume`, or into a book that nobody presented"
            )
        text = claims["evidence"]["process_id"]
        if text <= self._process_id or text in self._process_ids:
            self.complain(f"process ID {text!r} came after {self._process_id!r}")
        self._process_id = text
        self._process_ids.add(text)
        expected = case.books[len(case.spoiled)] if len(case.spoiled) < len(case.books) else None
        if claims["book"] != expected:
            self.complain(
                f"P2: {claims['job']} goes to book {claims['book']}, but {expected} is its turn"
            )

    # The end

    def close(
        self,
        books: Mapping[str, Book],
        shown: Mapping[str, str],
        torn_onto: set[str],
        disturbed_at: Sequence[float],
    ) -> None:
        """All is at rest.

        Args:
            books: Every book, by its number.
            shown: The jobs' states as the station shows them.
            torn_onto: The books over which a person tore one print.
            disturbed_at: When something happened to the printer that can end a print.
        """
        for number, book in books.items():
            self._judge_book(number, book, torn=number in torn_onto)
            self._judge_half_page(number, book, disturbed_at)
        for job, case in self._cases.items():
            self._judge_case(job, case, books, shown)

    def _judge_book(self, number: str, book: Book, *, torn: bool) -> None:
        allowed = 1 + self._claimed_blank[number] + (1 if torn else 0)
        if len(book.passes) > allowed:
            self.complain(f"P2: book {number} got ink {len(book.passes)} times")
        pages = sum(ink.page_mode for ink in book.passes)
        if pages > self._intents[number] and not torn:
            self.complain(f"P6: book {number} was printed, and no receipt tells the intent")
        for ink in book.passes:
            asked = self._open_since.get(number, [])
            if (
                ink.page_mode
                and not torn
                and not any(
                    begun <= ink.started_at and (ended is None or ink.started_at <= ended)
                    for begun, ended in asked
                )
            ):
                self.complain(f"P2: book {number} was inked when nothing of it was open any more")
        for job in self._traces(book):
            case = self._cases.get(job)
            if case is None or not (case.told or case.accepted):
                self.complain(f"P3: book {number} bears job {job}, which was never accepted")
            elif number not in case.books and not torn:
                self.complain(f"P3: book {number} bears job {job}, which names other books")

    def _judge_half_page(self, number: str, book: Book, disturbed_at: Sequence[float]) -> None:
        """Half a page on a book needs a cause, and the agent may be none."""
        if len(book.passes) != 1 or not book.passes[0].page_mode or self._whole(book):
            return
        begun = book.passes[0].started_at
        if not any(begun - PRINT_S_MAX < moment < begun + PRINT_S_MAX for moment in disturbed_at):
            self.complain(
                f"P4: the print on book {number} was ended halfway, and nothing but the agent can have done it"
            )

    def _judge_case(
        self, job: str, case: _Case, books: Mapping[str, Book], shown: Mapping[str, str]
    ) -> None:
        if case.told and not case.accepted and not case.restored:
            self.complain(f"P1: {job} was answered as accepted, and no receipt says so")
        if case.accepted and job not in shown:
            if case.restored:
                return
            self.complain(f"P1: {job} was accepted and is gone")
            return
        if not case.accepted:
            return
        state = shown[job]
        if state not in ENDED:
            self.complain(f"P1: {job} never came to rest: it is {state}")
        elif case.state != state:
            self.complain(f"P6: {job} is {state}, its receipts say {case.state}")
        self._judge_ink(job, case, books, state)

    def _judge_ink(self, job: str, case: _Case, books: Mapping[str, Book], state: str) -> None:
        inked = [
            number
            for number in case.books
            if number in books and job in self._traces(books[number])
        ]
        lies = sum(self._claimed_blank[number] for number in case.books)
        counting = [number for number in inked if number not in case.spoiled]
        if len(counting) > 1 and not lies:
            self.complain(f"P2: {job} is on the books {counting}, none of them spoiled")
        if case.restored:
            return  # its end may be known to nobody but those who looked at its books
        if state in ("canceled", "aborted") and counting and not case.by_person and not lies:
            self.complain(f"P2: {job} is {state}, and book {counting[0]} bears it")
        if state == "completed" and not case.by_person and not counting:
            self.complain(f"P1: {job} is completed, and no book bears it")


def _claims(receipt: str) -> dict[str, Any]:
    payload = receipt.split(".")[1]
    found: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return found


__all__ = ["Judge", "jobs_on", "pages_on", "process_id_text"]
