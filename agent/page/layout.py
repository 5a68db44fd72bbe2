"""The TD3 data page of Doc 9303-4: a travel document in, one bit of ink for each dot out.

Everything is placed in millimetres; a raster smaller than the page shows its upper left part.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from PIL import Image, ImageDraw

from agent.model import Raster, TravelDocument
from agent.page import captions
from agent.page.fonts import Style, font
from agent.page.geometry import (
    MM_PER_INCH,
    MRZ_CELL_LEFT_MM,
    MRZ_LINE_CENTRES_MM,
    MRZ_LINE_HEIGHT_MM,
    MRZ_PITCH_MM,
    MRZ_ZONE_TOP_MM,
    PHOTO_BOX_MM,
    Grid,
)
from agent.page.photo import halftone
from agent.page.raster import from_image
from agent.page.specimen import draw_specimen
from agent.page.text import ASCENT_PLAIN_EM, SIZE_LEGIBLE_PX, draw_text

CAPTION_HEIGHT_MM = 2.7
CAPTION_SIZE_MM = 1.9
VALUE_SIZE_MM = 3.3
VALUE_HEIGHT_MM = 4.8
ASPECT_NEAR_ONE = 0.2  # text on pixels this near to square is crisper unscaled than true to width
_OCR_B_ADVANCE_EM = 0.723  # the typeface's own width of a character
_OCR_B_CAPITAL_EM = 0.70
_GLYPH_DRAWN_SIZE_PX = 240
_GLYPH_INK_LEVEL = 112  # a dot is inked from this share (of 255) of its area on


@dataclass(frozen=True, slots=True)
class _Field:
    """A caption and the value under it, in a box as wide as ``width_mm``."""

    left_mm: float
    top_mm: float
    width_mm: float
    caption: str
    value: str = field(repr=False)
    lines_max: int = 1


def compose(
    document: TravelDocument,
    *,
    dpi_x: int,
    dpi_y: int,
    width: int,
    height: int,
    offset_mm: tuple[float, float] = (0.0, 0.0),
    specimen: bool = False,
) -> Raster:
    """Composes the data page; the same document always gives the same dots.

    Args:
        document: the checked document.
        dpi_x: dots per inch across.
        dpi_y: dots per inch down.
        width: the raster's dots across.
        height: the raster's dots down.
        offset_mm: where this printer needs the page's corner: right and down of the raster's.
        specimen: lays the word SPECIMEN over the visual zone.

    Returns:
        The page; its outermost rows and columns are blank.

    Raises:
        ConfigurationInvalid: a font is not installed; says which package brings it.
    """
    grid = Grid(dpi_x=dpi_x, dpi_y=dpi_y, offset_mm=offset_mm)
    page = Image.new("1", (width, height), 0)
    _draw_photo(page, grid, document.photo)
    _draw_title(page, grid)
    for entry in _fields(document):
        _draw_field(page, grid, entry)
    if specimen:
        draw_specimen(page, grid)
    _draw_mrz(page, grid, document.mrz)
    # Impact heads and inkjets alike smear at the edge of what they reach: nothing stands there.
    ImageDraw.Draw(page).rectangle((0, 0, width - 1, height - 1), outline=0)
    return from_image(page, dpi_x=dpi_x, dpi_y=dpi_y)


def _fields(document: TravelDocument) -> Iterator[_Field]:
    """Zones I to IV, in Doc 9303-4's sequence; coordinates are the caption's upper left."""
    yield _Field(44, 3.6, 14, captions.TYPE, document.document_type)
    yield _Field(60, 3.6, 28, captions.STATE, document.issuing_state)
    yield _Field(90, 3.6, 31, captions.NUMBER, document.document_number)
    if document.secondary_identifier:
        yield _Field(44, 12.0, 77, captions.PRIMARY, document.primary_identifier, lines_max=2)
        yield _Field(44, 19.5, 77, captions.SECONDARY, document.secondary_identifier, lines_max=2)
    else:
        # Doc 9303-4: a name that cannot be divided stands whole in the primary identifier.
        yield _Field(44, 12.0, 77, captions.NAME, document.primary_identifier, lines_max=2)
    yield _Field(44, 27.0, 30, captions.NATIONALITY, document.nationality)
    yield _Field(76, 27.0, 45, captions.PERSONAL_NUMBER, document.personal_number)
    yield _Field(44, 34.5, 30, captions.BIRTH, captions.visual_date(document.date_of_birth))
    yield _Field(76, 34.5, 14, captions.SEX, captions.visual_sex(document.sex))
    yield _Field(44, 42.0, 77, captions.BIRTH_PLACE, document.place_of_birth, lines_max=2)
    yield _Field(44, 49.5, 36, captions.ISSUE, captions.visual_date(document.date_of_issue))
    yield _Field(82, 49.5, 39, captions.EXPIRY, captions.visual_date(document.date_of_expiry))
    yield _Field(44, 57.0, 77, captions.AUTHORITY, document.issuing_authority, lines_max=2)
    yield _Field(5, 60.8, 37, captions.SIGNATURE, "")


def _text_aspect(grid: Grid) -> float:
    return 1.0 if abs(grid.aspect - 1) < ASPECT_NEAR_ONE else grid.aspect


def _draw_field(page: Image.Image, grid: Grid, entry: _Field) -> None:
    box = grid.box(entry.left_mm, entry.top_mm, entry.width_mm, CAPTION_HEIGHT_MM)
    size_px = grid.height(CAPTION_SIZE_MM)
    if size_px < SIZE_LEGIBLE_PX:
        size_px = min(SIZE_LEGIBLE_PX, grid.height(CAPTION_HEIGHT_MM))
    page.paste(
        _fixed_text(entry.caption, Style.TEXT, box[2], box[3], size_px, _text_aspect(grid)), box[:2]
    )
    draw_text(
        page,
        grid.box(entry.left_mm, entry.top_mm + CAPTION_HEIGHT_MM, entry.width_mm, VALUE_HEIGHT_MM),
        # Composed letters are drawn by the type designer, combining marks by chance.
        unicodedata.normalize("NFC", entry.value),
        style=Style.TEXT,
        size_px=grid.height(VALUE_SIZE_MM),
        lines_max=entry.lines_max,
        aspect=_text_aspect(grid),
    )


def _draw_title(page: Image.Image, grid: Grid) -> None:
    for top_mm, height_mm, size_mm, text, style in (
        (3.6, 4.9, 4.6, captions.TITLE, Style.TEXT_BOLD),
        (8.6, 3.2, 3.0, captions.TITLE_ENGLISH, Style.TEXT),
    ):
        box = grid.box(5, top_mm, 37, height_mm)
        strip = _fixed_text(text, style, box[2], box[3], grid.height(size_mm), _text_aspect(grid))
        page.paste(strip, box[:2])


@lru_cache(maxsize=128)
def _fixed_text(
    text: str, style: Style, width: int, height: int, size_px: int, aspect: float
) -> Image.Image:
    """Text that is the same on every page, drawn once; never a holder's."""
    strip = Image.new("1", (max(1, width), max(1, height)), 0)
    draw_text(
        strip,
        (0, 0, width, height),
        text,
        style=style,
        size_px=size_px,
        ascent_em=ASCENT_PLAIN_EM,
        aspect=aspect,
    )
    return strip


def _draw_photo(page: Image.Image, grid: Grid, photo: bytes) -> None:
    left, top, width, height = grid.box(*PHOTO_BOX_MM)
    if width < 1 or height < 1:
        return
    dots = halftone(photo, width=width, height=height, aspect=grid.aspect)
    page.paste(dots, (left, top))


def _draw_mrz(page: Image.Image, grid: Grid, lines: tuple[str, str]) -> None:
    """Two lines of OCR-B, each character in its own cell; nothing else from the zone's top on."""
    page.paste(0, (0, max(0, grid.y(MRZ_ZONE_TOP_MM)), page.width, page.height))
    for line, centre_mm in zip(lines, MRZ_LINE_CENTRES_MM, strict=True):
        top = grid.y(centre_mm - MRZ_LINE_HEIGHT_MM / 2)
        for index, character in enumerate(line):
            # Cells are placed from the page's edge, so that rounding never adds up along a line.
            left = grid.x(MRZ_CELL_LEFT_MM + index * MRZ_PITCH_MM)
            page.paste(_glyph(character, grid.dpi_x, grid.dpi_y), (left, top))


@lru_cache(maxsize=37 * 4)
def _glyph(character: str, dpi_x: int, dpi_y: int) -> Image.Image:
    """One OCR-B character of size 1 in its cell, sampled by area to suit dots of any shape."""
    face = font(Style.OCR_B, _GLYPH_DRAWN_SIZE_PX)
    drawn_px_per_mm = _GLYPH_DRAWN_SIZE_PX * _OCR_B_ADVANCE_EM / MRZ_PITCH_MM
    cell_width, cell_height = (
        round(MRZ_PITCH_MM * drawn_px_per_mm),
        round(MRZ_LINE_HEIGHT_MM * drawn_px_per_mm),
    )
    size = (
        max(1, round(MRZ_PITCH_MM * dpi_x / MM_PER_INCH)),
        max(1, round(MRZ_LINE_HEIGHT_MM * dpi_y / MM_PER_INCH)),
    )
    drawn = Image.new("L", (cell_width, cell_height), 0)
    baseline = cell_height / 2 + _OCR_B_CAPITAL_EM / 2 * _GLYPH_DRAWN_SIZE_PX
    # Letters stand on the edge of a row of dots, so that round ones get no tail on coarse grids.
    baseline = round(baseline * size[1] / cell_height) * cell_height / size[1]
    ImageDraw.Draw(drawn).text((0, round(baseline)), character, fill=255, font=face, anchor="ls")
    sampled = drawn.resize(size, Image.Resampling.BOX)
    return sampled.point(lambda level: 255 * (level >= _GLYPH_INK_LEVEL), mode="1")
