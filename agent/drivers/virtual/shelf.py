"""A virtual printer's books, and what it keeps without power, as files that outlive the process.

books/NUMBER.json   dots and passes of one book
books/NUMBER.png    the same to look at, marked SPECIMEN
printer.json        counter, and which book lies where
"""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

from agent.drivers.virtual.book import Book, InkPass
from agent.drivers.virtual.picture import picture_png
from agent.errors import RequestRefused

NUMBER_FORM = re.compile(r"[A-Z0-9]{1,9}")  # CONTRACT section 3.1


def write_whole(path: Path, data: bytes) -> None:
    """Replaces a file in one step, so that a kill leaves the old one or the new one."""
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(data)
    os.replace(draft, path)


class Shelf:
    """Books by number, loaded when first asked for."""

    def __init__(self, directory: Path, *, width: int, height: int) -> None:
        self._directory = directory / "books"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._printer_file = directory / "printer.json"
        self._size = (width, height)
        self._books: dict[str, Book] = {}
        self._saved: dict[str, bytes] = {}

    def numbers(self) -> list[str]:
        """All books that ever were."""
        return sorted({path.stem for path in self._directory.glob("*.json")} | set(self._books))

    def book(self, number: str) -> Book:
        """The book of this number; a blank one where there is none yet.

        Raises:
            RequestRefused: no book can have this number.
        """
        if not NUMBER_FORM.fullmatch(number):
            raise RequestRefused(
                400, "malformed", f"{number!r} is no book number: 1 to 9 of A-Z and 0-9"
            )
        if number not in self._books:
            path = self._directory / f"{number}.json"
            if path.exists():
                self._books[number] = _from_json(json.loads(path.read_bytes()))
            else:
                self._books[number] = Book(number, *self._size)
        return self._books[number]

    def save(self, book: Book, *, with_picture: bool) -> None:
        """Writes the book where it changed."""
        data = json.dumps(_to_json(book)).encode("ascii")
        if self._saved.get(book.number) != data:
            write_whole(self._directory / f"{book.number}.json", data)
            self._saved[book.number] = data
        picture = self._directory / f"{book.number}.png"
        if with_picture and self._saved.get(picture.name) != data:
            write_whole(picture, picture_png(book))
            self._saved[picture.name] = data

    def load_printer(self) -> dict[str, Any]:
        """What ``save_printer`` wrote last; empty at first."""
        if not self._printer_file.exists():
            return {}
        loaded: dict[str, Any] = json.loads(self._printer_file.read_bytes())
        return loaded

    def save_printer(self, state: dict[str, Any]) -> None:
        """Writes the counter and the place of the book where they changed."""
        data = json.dumps(state).encode("ascii")
        if self._saved.get("printer.json") != data:
            write_whole(self._printer_file, data)
            self._saved["printer.json"] = data


def _to_json(book: Book) -> dict[str, Any]:
    return {
        "number": book.number,
        "width": book.width,
        "height": book.height,
        "passes": [[one.started_at, one.page_mode, one.rows] for one in book.passes],
        "rows": base64.b64encode(zlib.compress(bytes(book.rows), 1)).decode("ascii"),
    }


def _from_json(fields: dict[str, Any]) -> Book:
    book = Book(fields["number"], fields["width"], fields["height"])
    book.passes = [InkPass(at, page_mode=page, rows=rows) for at, page, rows in fields["passes"]]
    book.rows = bytearray(zlib.decompress(base64.b64decode(fields["rows"])))
    return book
