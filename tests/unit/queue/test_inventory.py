"""A count of a dead station's books: one form, one receipt, and no book with two fates."""

from __future__ import annotations

import json

import pytest
from station_fixture import FixedClock

from agent.crypto.keys import StationKeys
from agent.crypto.receipts import ReceiptSigner
from agent.errors import RequestRefused
from agent.model import BookFate
from agent.queue import inventory
from agent.queue.journal import Journal
from agent.queue.start import take_signer

ADI = "technician:adi"


@pytest.fixture
def journal(tmp_path):
    keys = StationKeys.generate()
    journal = Journal.open(
        tmp_path / "journal.db",
        signer=ReceiptSigner(keys.signing),
        station_id="spare-02",
        authority_id="imigrasi-jakarta",
        clock=FixedClock(1_900_000_000),
    )
    take_signer(journal, ReceiptSigner(keys.signing), public_jwks=keys.public_jwks())
    yield journal
    journal.close()


def sign(journal, of="dead-01", actor=ADI, **books):
    read = inventory.read_books(books)
    return journal.write(lambda tx: inventory.take(tx, of=of, books=read, actor=actor))


def receipts(journal):
    rows = journal.read().rows("SELECT payload FROM events WHERE kind = 'inventory-taken'")
    return [json.loads(row["payload"]) for row in rows]


def test_the_receipt_says_who_counted_what(journal):
    sign(journal, blank=["C2", "C1"], missing=["C9"])
    (receipt,) = receipts(journal)
    assert receipt["actor"] == ADI
    assert receipt["evidence"] == {
        "of": "dead-01",
        "books": {"blank": ["C1", "C2"], "printed": [], "damaged": [], "missing": ["C9"]},
    }


def test_the_same_count_again_is_the_same_receipt(journal):
    first = sign(journal, blank=["C1", "C2"])
    assert sign(journal, blank=["C2", "C1", "C2"]) == first
    assert len(receipts(journal)) == 1
    corrected = sign(journal, blank=["C1"], damaged=["C2"])
    assert corrected == first + 1
    assert sign(journal, of="dead-09", blank=["C1"]) == corrected + 1
    assert sign(journal, blank=["C1"], damaged=["C2"]) == corrected


def test_a_station_does_not_take_itself_over(journal):
    with pytest.raises(RequestRefused, match="this is spare-02 itself") as refused:
        sign(journal, of="spare-02", blank=["C1"])
    assert refused.value.status == 409
    assert receipts(journal) == []


def test_a_retired_station_takes_nothing_over(journal):
    def retire(tx):
        tx.put("station", "retired", value=1)
        tx.note("retired")

    journal.write(retire)
    with pytest.raises(RequestRefused, match="is retired"):
        sign(journal, blank=["C1"])


def test_a_book_has_one_fate():
    with pytest.raises(RequestRefused, match="book C1 is blank and printed") as refused:
        inventory.read_books({"blank": ["C1"], "printed": ["C1"]})
    assert (refused.value.status, refused.value.name) == (409, "conflict")


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        {},
        {"blank": []},
        {"stolen": ["C1"]},
        {"blank": "C1"},
        {"blank": ["c1"]},
        {"blank": ["C1\n"]},
        {"blank": [1]},
        {"blank": ["0123456789"]},
        {"blank": [f"C{number}" for number in range(inventory.BOOKS_MAX + 1)]},
    ],
    ids=lambda given: str(given)[:40],
)
def test_what_is_no_count_is_refused_without_repeating_it(given):
    with pytest.raises(RequestRefused) as refused:
        inventory.read_books(given)
    assert refused.value.status == 400
    assert "0123456789" not in str(refused.value)


def test_the_largest_count_is_taken():
    numbers = [f"C{number:08}" for number in range(inventory.BOOKS_MAX)]
    assert inventory.read_books({"missing": numbers})[BookFate.MISSING] == tuple(numbers)
