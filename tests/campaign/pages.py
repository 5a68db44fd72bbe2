"""What a look at a real book tells the judge: whose page it bears, whole or in part."""

from __future__ import annotations

from collections import defaultdict

from agent.crypto.documents import open_document
from agent.crypto.keys import StationKeys
from agent.crypto.receipts import claims_unverified
from agent.drivers.virtual.book import Book
from agent.model import BookEntry
from agent.page.layout import compose

# A page of the usual form in few dots: a book costs little time, and yet no two people's pages are alike.
SIZE = {"dpi_x": 45, "dpi_y": 45, "width": 222, "height": 156}


class Pages:
    """The pages that the authority ordered, composed here and not by the station.

    Args:
        keys: Open the documents.
    """

    def __init__(self, keys: StationKeys) -> None:
        self._keys = keys
        self.ordered: dict[bytes, tuple[str, int]] = {}  # page -> (job, entry)
        self._owners: dict[tuple[int, bytes], set[str]] = defaultdict(set)

    def order(self, job: str, message: str) -> None:
        """An authorization was signed."""
        for index, entry in enumerate(claims_unverified(message)["books"]):
            document = open_document(BookEntry(entry["number"], entry["document"]), self._keys)
            page = compose(document, **SIZE, specimen=True).rows
            self.ordered[page] = (job, index)
            for row in _inked(page):
                self._owners[row].add(job)

    def whole(self, book: Book) -> list[tuple[str, int]]:
        """The whole pages on a book, as (job, entry); an empty list for any other ink."""
        page = self.ordered.get(bytes(book.rows))
        return [] if page is None or len(book.passes) != 1 else [page]

    def traces(self, book: Book) -> set[str]:
        """The jobs of which a row is on a book that no other job's page has."""
        owners = [self._owners.get(row, set()) for row in _inked(bytes(book.rows))]
        return {job for found in owners if len(found) == 1 for job in found}


def _inked(page: bytes) -> list[tuple[int, bytes]]:
    stride = (SIZE["width"] + 7) // 8
    rows = [(start, page[start : start + stride]) for start in range(0, len(page), stride)]
    return [(start, row) for start, row in rows if any(row)]
