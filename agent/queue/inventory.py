"""A person's count of a dead station's books, signed into the chain of the station that takes over (docs/drill.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from agent.errors import RequestRefused
from agent.model import BOOK_NUMBER, BookFate, base64url
from agent.queue.journal import Transaction

BOOKS_MAX = 4_000  # in one inventory; its receipt stays below 64 KiB

Books = Mapping[BookFate, tuple[str, ...]]


def read_books(given: object) -> Books:
    """Book numbers by fate, sorted, so that one count has one form.

    Raises:
        RequestRefused: 400 ``malformed``; 409 ``conflict`` where a book has two fates.
    """
    if not isinstance(given, Mapping) or not set(given) <= set(BookFate):
        raise _malformed(f"books is no object with arrays for {', '.join(BookFate)}")
    found: dict[str, BookFate] = {}
    for name, numbers in given.items():
        if not isinstance(numbers, list):
            raise _malformed(f"books.{name} is no array")
        for number in numbers:
            if not isinstance(number, str) or not BOOK_NUMBER.fullmatch(number):
                raise _malformed(f"books.{name} holds what is not 1 to 9 of A-Z and 0-9")
            fate = found.setdefault(number, BookFate(name))
            if fate != name:
                raise RequestRefused(
                    409, "conflict", f"book {number} is {fate} and {name}: look at it once more"
                )
    if not 1 <= len(found) <= BOOKS_MAX:
        raise _malformed(f"books names {len(found)} books; allowed are 1 to {BOOKS_MAX}")
    return {
        fate: tuple(sorted(number for number, said in found.items() if said is fate))
        for fate in BookFate
    }


def take(tx: Transaction, *, of: str, books: Books, actor: str) -> int:
    """Signs the count as the receipt ``inventory-taken``; gives its ``seq``, again for the same count.

    Args:
        tx: The transaction.
        of: The dead station's id.
        books: What ``read_books`` gave.
        actor: Who counted.

    Raises:
        RequestRefused: 409 ``not-allowed``, a station does not take itself over, and a retired one nothing.
    """
    if of == tx.station("id"):
        raise RequestRefused(
            409,
            "not-allowed",
            f"this is {of} itself; the count is made at the station that takes over",
        )
    if tx.station("retired"):
        raise RequestRefused(
            409, "not-allowed", "this station is retired and prints nothing; count at the spare"
        )
    evidence: dict[str, Any] = {
        "of": of,
        "books": {fate.value: list(books[fate]) for fate in books},
    }
    digest = base64url(hashlib.sha256(json.dumps(evidence, sort_keys=True).encode()).digest())
    key = f"inventory of {of}"
    last = json.loads(tx.station(key, "{}"))
    if last.get("sha256") == digest:
        return int(last["seq"])
    seq = tx.next_receipt_seq
    tx.put("station", key, value=json.dumps({"sha256": digest, "seq": seq}))
    return tx.receipt("inventory-taken", actor=actor, evidence=evidence)


def _malformed(detail: str) -> RequestRefused:
    return RequestRefused(400, "malformed", detail)
