"""A numbered blank book and the ink on its data page."""

from __future__ import annotations

from dataclasses import dataclass

from agent import model


@dataclass(slots=True)
class InkPass:
    """One print on a book: when its first row was inked, and how many rows it inked."""

    started_at: float
    page_mode: bool
    rows: int = 0


class Book:
    """The data page of one physical book, and the history of what was inked on it.

    Args:
        number: the pre-printed number.
        width: dots across.
        height: dots down.
    """

    def __init__(self, number: str, width: int, height: int) -> None:
        self.number = number
        self.width = width
        self.height = height
        self.stride = (width + 7) // 8
        self.rows = bytearray(self.stride * height)
        self.passes: list[InkPass] = []

    def __repr__(self) -> str:
        return f"Book({self.number!r}, inked_rows={self.inked_rows()}, passes={len(self.passes)})"

    def inked(self) -> bool:
        """Whether there is any ink; true also after a pass whose dots all fell beside the book."""
        return bool(self.passes) or any(self.rows)

    def inked_rows(self) -> int:
        """How many rows carry at least one dot."""
        return self.raster(dpi_x=0, dpi_y=0).inked_rows()

    def raster(self, *, dpi_x: int, dpi_y: int) -> model.Raster:
        """What lies on the page, as the product's own raster."""
        return model.Raster(self.width, self.height, dpi_x, dpi_y, bytes(self.rows))

    def ink_row(self, index: int, bits: int, *, width: int) -> None:
        """Adds dots to one row; dots beyond the book's edge are lost, as on the platen.

        Args:
            index: the row, 0 at the top.
            bits: the dots, the most significant of ``width`` bits is the leftmost.
            width: how many dots ``bits`` spans.
        """
        bits = bits << (self.width - width) if width <= self.width else bits >> (width - self.width)
        padded = bits << (self.stride * 8 - self.width)
        start = index * self.stride
        before = int.from_bytes(self.rows[start : start + self.stride], "big")
        self.rows[start : start + self.stride] = (before | padded).to_bytes(self.stride, "big")
