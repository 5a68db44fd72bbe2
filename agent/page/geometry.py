"""The TD3 data page in millimetres, and the grid of dots that it falls on.

Sources: Doc 9303-4 section 2 (page, zones) and section 4.2.1 (machine-readable zone).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MM_PER_INCH = 25.4

PAGE_WIDTH_MM = 125.0
PAGE_HEIGHT_MM = 88.0
MRZ_ZONE_HEIGHT_MM = 23.2
MRZ_ZONE_TOP_MM = PAGE_HEIGHT_MM - MRZ_ZONE_HEIGHT_MM
# Zone V at the left; left, top, width, height. Doc 9303-3 section 3.9: at most 45 x 35 mm.
PHOTO_BOX_MM = (5.0, 13.2, 35.0, 45.0)
MRZ_PITCH_MM = 2.54  # 10 characters an inch
# The first character's ink begins 6.0 mm from the page's edge, about 0.5 mm inside its cell.
MRZ_CELL_LEFT_MM = 6.0 - 0.5
MRZ_LINE_CENTRES_MM = (PAGE_HEIGHT_MM - 15.75, PAGE_HEIGHT_MM - 9.40)
MRZ_LINE_HEIGHT_MM = 4.3


def _nearest(dots: float) -> int:
    """Halves go up: `round` takes them to the even side, so that an offset of one dot would move some ink by none or two."""
    return math.floor(round(dots, 6) + 0.5)


@dataclass(frozen=True, slots=True)
class Grid:
    """Millimetres of the page to dots of the raster.

    ``offset_mm`` is where the page's corner lies in the raster, to the right and down.
    """

    dpi_x: int
    dpi_y: int
    offset_mm: tuple[float, float] = (0.0, 0.0)

    def x(self, mm: float) -> int:
        """The column at a distance from the page's left edge."""
        return _nearest((mm + self.offset_mm[0]) * self.dpi_x / MM_PER_INCH)

    def y(self, mm: float) -> int:
        """The row at a distance from the page's top edge."""
        return _nearest((mm + self.offset_mm[1]) * self.dpi_y / MM_PER_INCH)

    def box(
        self, left_mm: float, top_mm: float, width_mm: float, height_mm: float
    ) -> tuple[int, int, int, int]:
        """Left, top, width and height in dots; neighbours in millimetres are neighbours in dots."""
        left, top = self.x(left_mm), self.y(top_mm)
        return left, top, self.x(left_mm + width_mm) - left, self.y(top_mm + height_mm) - top

    def height(self, mm: float) -> int:
        """A height in dots, wherever it stands; at least one."""
        return max(1, round(mm * self.dpi_y / MM_PER_INCH))

    @property
    def aspect(self) -> float:
        """Horizontal dots per inch divided by vertical ones."""
        return self.dpi_x / self.dpi_y
