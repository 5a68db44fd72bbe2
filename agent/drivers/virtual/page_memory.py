"""The page memory of page mode: dots are collected, nothing moves."""

from __future__ import annotations


class PageMemory:
    """One page in memory, with its print area and position.

    Rows are integers of ``width`` bits, the most significant bit leftmost.
    """

    def __init__(self, width: int, height: int, *, line_height: int) -> None:
        self.width = width
        self.height = height
        self.rows = [0] * height
        self.line_height = line_height
        self.set_area(0, 0, width, height)

    def set_area(self, left: int, top: int, width: int, height: int) -> None:
        """ESC W in dots; what lies beyond the page is cut off."""
        self.left = min(left, self.width)
        self.top = min(top, self.height)
        self.right = min(left + width, self.width)
        self.bottom = min(top + height, self.height)
        self.x = 0
        self.y = self.line_height

    def draw_row(self, row: int, bits: int, *, width: int) -> None:
        """Adds ``width`` dots at the position's column; ``row`` is counted in the print area."""
        page_row = self.top + row
        if not self.top <= page_row < self.bottom:
            return
        left = self.left + self.x
        shift = self.width - left - width
        shifted = bits << shift if shift >= 0 else bits >> -shift
        self.rows[page_row] |= shifted & self._area_mask()

    def clear_area(self) -> None:
        """CAN: deletes what is in the print area."""
        keep = ~self._area_mask()
        for row in range(self.top, self.bottom):
            self.rows[row] &= keep

    def _area_mask(self) -> int:
        return (1 << (self.width - self.left)) - (1 << (self.width - self.right))
