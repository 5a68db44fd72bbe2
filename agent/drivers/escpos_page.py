"""A page to bytes: inked dots only, anchored by their lower left, free of real-time sequences.

A printer executes 10 04, 10 05 and 10 14 wherever they stand, also inside an image (PRINTERS 1.3).
Dots that hold one of them are sent in other cuts: the image begins up to seven dots further left,
which shifts all its bits, or it is split between the two bytes. No dot changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from agent.drivers import escpos_commands as commands
from agent.drivers.profile import ImageCommand, Profile
from agent.model import Raster

if TYPE_CHECKING:
    from escpos.image import EscposImage

REALTIME_SEQUENCE = re.compile(rb"\x10[\x04\x05\x14]")  # CONTRACT 8 rule 5

_SHIFTS = 8  # dots by which an image may begin further left, with 0
# White columns that cost more than the three commands which another column image needs.
_COLUMN_GAP = 4 + 4 + commands.COLUMN_HEADER_BYTES
_COLUMN_RUN = re.compile(rf"1(?:0{{0,{_COLUMN_GAP}}}1)*")


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle of dots; right and bottom are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class _Image:
    """The bytes of an image, and how many rows of it come before the first real-time sequence."""

    data: bytes
    clean_rows: int | None


class _Dots:
    """The page's dots: where the ink is, and any rectangle as image bytes."""

    def __init__(self, raster: Raster) -> None:
        from PIL import Image

        self.width, self.height = raster.width, raster.height
        # The library's pictures are black on white.
        self._paper = Image.new("1", (raster.width, raster.height), 1)
        self._paper.paste(0, (0, 0), Image.frombytes("1", self._paper.size, raster.rows))
        padding = raster.stride * 8 - raster.width
        self._rows = [
            int.from_bytes(raster.row(index), "big") >> padding for index in range(raster.height)
        ]

    def inked(self, index: int) -> bool:
        """Whether a row has a dot."""
        return self._rows[index] != 0

    def columns(self, top: int, bottom: int) -> int:
        """Some rows laid over each other: the rightmost column in the lowest bit."""
        dots = 0
        for row in self._rows[top:bottom]:
            dots |= row
        return dots

    def box(self, top: int, bottom: int) -> _Box:
        """The smallest rectangle around the ink of some rows."""
        dots = self.columns(top, bottom)
        left = self.width - dots.bit_length()
        right = self.width - (dots & -dots).bit_length() + 1
        return _Box(left, top, right, bottom)

    def picture(self, box: _Box, *, left: int = 0, below: int = 0) -> EscposImage:
        """A rectangle's dots with white columns on its left and white rows below."""
        from escpos.image import EscposImage
        from PIL import Image

        cut = self._paper.crop((box.left, box.top, box.right, min(box.bottom, self.height)))
        size = (box.right - box.left + left, box.bottom - box.top + below)
        if cut.size != size:
            wide = Image.new("1", size, 1)
            wide.paste(cut, (left, 0))
            cut = wide
        return EscposImage(cut)


def encode_page(raster: Raster, profile: Profile) -> bytes:
    """The whole load of a page: page mode, its area, and the images from top to bottom.

    The print position of an image is its lower left corner: the column of its first dot and the row
    just below its last one. The fence that proves the load is not part of it.

    Args:
        raster: a page of the profile's size and dots per inch.
        profile: the printer.

    Raises:
        ValueError: the raster is not a page of this profile.
    """
    found = (raster.width, raster.height, raster.dpi_x, raster.dpi_y)
    wanted = (profile.width, profile.height, profile.dpi_x, profile.dpi_y)
    if found != wanted:
        raise ValueError(
            f"page of width, height, dpi_x, dpi_y {found}; {profile.name} has {wanted}"
        )
    dots = _Dots(raster)
    page = b"".join(
        (
            profile.station_select,
            commands.PAGE_MODE,
            commands.motion_units(profile.dpi_x, profile.dpi_y),
            commands.print_area(_harmless(profile.width), _harmless(profile.height)),
            commands.PRINT_DIRECTION,
            *_images(dots, profile.image),
        )
    )
    assert not REALTIME_SEQUENCE.search(page)
    return page


def _harmless(size: int) -> int:
    """The same size, or one dot more where its two bytes were a real-time sequence."""
    return size + 1 if REALTIME_SEQUENCE.match(size.to_bytes(2, "little")) else size


def _position(left: int, bottom: int) -> bytes:
    return commands.horizontal_position(left) + commands.vertical_position(bottom)


def _inked_bands(dots: _Dots) -> Iterator[tuple[int, int]]:
    """The runs of inked rows: top, and the first white row below."""
    top = None
    for index in range(dots.height):
        if dots.inked(index):
            top = index if top is None else top
        elif top is not None:
            yield top, index
            top = None
    if top is not None:
        yield top, dots.height


def _images(dots: _Dots, command: ImageCommand) -> Iterator[bytes]:
    match command:
        case ImageCommand.RASTER:
            return _raster_images(dots)
        case ImageCommand.COLUMN:
            return _column_images(dots)


def _raster_images(dots: _Dots) -> Iterator[bytes]:
    for top, bottom in _inked_bands(dots):
        band = dots.box(top, bottom)
        # Room for one more byte a row and one more row, which a real-time sequence may cost.
        rows_max = commands.IMAGE_BYTES_MAX // ((band.right - band.left) // 8 + 2)
        step = min(rows_max, commands.IMAGE_ROWS_MAX) - 1
        for first in range(top, bottom, step):
            yield from _raster_box(dots, dots.box(first, min(first + step, bottom)))


def _raster_box(dots: _Dots, box: _Box) -> Iterator[bytes]:
    """One rectangle as one GS v 0, or as several where no shift frees it of real-time sequences.

    It ends: each part is smaller, and the smallest, one row of eight dots, is free of them when it
    begins four dots further left, as its first byte is below 10h then.
    """
    # The last byte of a row reaches over the page's edge only where the ink is as wide as the page.
    width_bytes = (box.right - box.left + 7) // 8
    start = max(0, min(box.left, dots.width - width_bytes * 8))
    clean_rows = 0
    for left in range(start, max(-1, start - _SHIFTS), -1):
        image = _raster_image(dots, box, left)
        if image.clean_rows is None:
            yield image.data
            return
        clean_rows = max(clean_rows, image.clean_rows)
    for part in _split(dots, box, clean_rows):
        yield from _raster_box(dots, part)


def _raster_image(dots: _Dots, box: _Box, left: int) -> _Image:
    bottom = _harmless(box.bottom)
    picture = dots.picture(box, left=box.left - left, below=bottom - box.bottom)
    position = _position(left, bottom)
    data = position + commands.raster_image(
        picture.width_bytes, picture.height, picture.to_raster_format()
    )
    match = REALTIME_SEQUENCE.search(data)
    if match is None:
        return _Image(data, None)
    before = match.start() - len(position) - commands.RASTER_HEADER_BYTES
    return _Image(data, max(0, before) // picture.width_bytes)


def _split(dots: _Dots, box: _Box, clean_rows: int) -> tuple[_Box, _Box]:
    """Two smaller rectangles: the clean rows and the others, or one row between two bytes."""
    rows = box.bottom - box.top
    if rows > 1:
        middle = box.top + max(1, min(clean_rows, rows - 1))
        return replace(box, bottom=middle), replace(box, top=middle)
    match = REALTIME_SEQUENCE.search(dots.picture(box).to_raster_format())
    middle = box.left + 8 * (match.start() + 1 if match else 1)
    return replace(box, right=middle), replace(box, left=middle)


def _column_images(dots: _Dots) -> Iterator[bytes]:
    covered = 0  # rows that have been sent
    for row in range(dots.height):
        if row < covered or not dots.inked(row):
            continue
        covered = _column_bottom(row, dots.height)
        for left, right in _column_runs(dots, covered - commands.COLUMN_ROWS, covered):
            band = _Box(left, covered - commands.COLUMN_ROWS, right, covered)
            yield from _column_box(dots, band)


def _column_bottom(row: int, height: int) -> int:
    """Where the eight rows end that begin with this one, or hold it at the page's end."""
    bottom = min(row + commands.COLUMN_ROWS, height)
    if _harmless(bottom) == bottom:
        return bottom
    return bottom - 1 if bottom - 1 > row else bottom + 1


def _column_runs(dots: _Dots, top: int, bottom: int) -> Iterator[tuple[int, int]]:
    """The inked columns of some rows in runs; a short gap costs less than another image."""
    columns = f"{dots.columns(top, bottom):0{dots.width}b}"
    for run in _COLUMN_RUN.finditer(columns):
        for left in range(run.start(), run.end(), commands.COLUMN_COUNT_MAX - 1):
            yield left, min(left + commands.COLUMN_COUNT_MAX - 1, run.end())


def _column_box(dots: _Dots, box: _Box) -> Iterator[bytes]:
    """Eight rows as ESC *, split between the two bytes of each real-time sequence."""
    (columns,) = dots.picture(box).to_column_format(high_density_vertical=False)
    starts = [match.start() + 1 for match in REALTIME_SEQUENCE.finditer(columns)]
    for first, last in pairwise([0, *starts, len(columns)]):
        left, part = box.left + first, columns[first:last]
        if _harmless(left) != left:
            left, part = left - 1, b"\0" + part  # a white column on its left moves the position
        yield _position(left, box.bottom) + commands.column_image(part)
