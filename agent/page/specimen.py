"""The word SPECIMEN across the visual zone, for every page that is not meant as a document."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from agent.model import Raster
from agent.page.fonts import Style, font
from agent.page.geometry import MRZ_ZONE_TOP_MM, PAGE_WIDTH_MM, PHOTO_BOX_MM, Grid
from agent.page.raster import from_image, to_image

WORD = "SPECIMEN"
SLOPE_DEGREES = 24
MARGIN_MM = 2.0
_DRAWN_SIZE_PX = 200
_WIDEN = ImageFilter.BoxBlur(1)  # every dot's eight neighbours become grey, and any grey is taken


def mark_specimen(raster: Raster, *, offset_mm: tuple[float, float] = (0.0, 0.0)) -> Raster:
    """The same page with the mark over its visual zone; the machine-readable zone is untouched."""
    grid = Grid(dpi_x=raster.dpi_x, dpi_y=raster.dpi_y, offset_mm=offset_mm)
    page = to_image(raster)
    draw_specimen(page, grid)
    return from_image(page, dpi_x=raster.dpi_x, dpi_y=raster.dpi_y)


def draw_specimen(page: Image.Image, grid: Grid) -> None:
    """Adds the word's outline: broken around text, which stays readable, whole over the photo."""
    zone = grid.box(
        MARGIN_MM, MARGIN_MM, PAGE_WIDTH_MM - 2 * MARGIN_MM, MRZ_ZONE_TOP_MM - 2 * MARGIN_MM
    )
    if zone[2] < 1 or zone[3] < 1:
        return
    _draw_around_text(page, zone)
    _draw_over_photo(page, grid, zone)


def _draw_around_text(page: Image.Image, zone: tuple[int, int, int, int]) -> None:
    left, top, width, height = zone
    under = page.crop((left, top, left + width, top + height))
    outline = _outline(width, height)
    free = ImageChops.logical_and(outline, ImageChops.invert(_widened(under)))
    page.paste(ImageChops.logical_or(under, free), (left, top))


def _draw_over_photo(page: Image.Image, grid: Grid, zone: tuple[int, int, int, int]) -> None:
    left, top, width, height = grid.box(*PHOTO_BOX_MM)
    frame = (left - zone[0], top - zone[1], left - zone[0] + width, top - zone[1] + height)
    outline = _outline(zone[2], zone[3]).crop(frame)
    under = page.crop((left, top, left + width, top + height))
    kept = ImageChops.logical_and(under, ImageChops.invert(_widened(outline)))
    page.paste(ImageChops.logical_or(kept, outline), (left, top))


def _widened(image: Image.Image) -> Image.Image:
    """A mode ``1`` image with a border of one dot around each of its dots."""
    return _any_ink(image.convert("L").filter(_WIDEN))


def _any_ink(grey: Image.Image) -> Image.Image:
    return grey.point(lambda level: 255 * (level > 0), mode="1")


@lru_cache(maxsize=4)
def _outline(width: int, height: int) -> Image.Image:
    """The sloping word as a line of one dot, as large as its box."""
    face = font(Style.TEXT_BOLD, _DRAWN_SIZE_PX)
    left, top, right, bottom = (round(edge) for edge in face.getbbox(WORD, anchor="ls"))
    word = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(word).text((-left, -top), WORD, fill=255, font=face, anchor="ls")
    sloping = word.rotate(SLOPE_DEGREES, resample=Image.Resampling.BICUBIC, expand=True)
    solid = sloping.crop(sloping.getbbox()).resize((width, height), Image.Resampling.LANCZOS)
    solid = solid.point(lambda level: 255 * (level >= 128))
    inner = solid.filter(ImageFilter.MinFilter(3))
    return _any_ink(ImageChops.difference(solid, inner))
