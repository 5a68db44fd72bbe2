"""Pages of dots as values and as pictures: between model.Raster, Pillow and PNG. Memory only."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageOps

from agent.model import Raster

THUMBNAIL_WIDTH_PX = 443  # half a page at 180 dots per inch
CONTACT_SHEET_GAP_PX = 12
_SHEET_GREY = 190


def from_image(image: Image.Image, *, dpi_x: int, dpi_y: int) -> Raster:
    """A mode ``1`` image where 1 is ink, as a Raster."""
    return Raster(
        width=image.width, height=image.height, dpi_x=dpi_x, dpi_y=dpi_y, rows=image.tobytes()
    )


def to_image(raster: Raster) -> Image.Image:
    """A Raster as a mode ``1`` image where 1 is ink."""
    return Image.frombytes("1", (raster.width, raster.height), raster.rows)


def _picture(raster: Raster) -> tuple[Image.Image, int]:
    """What a person sees, black on white with square pixels, and its dots per inch."""
    paper = ImageOps.invert(to_image(raster))
    if raster.dpi_x == raster.dpi_y:
        return paper, raster.dpi_x
    dpi = max(raster.dpi_x, raster.dpi_y)
    size = (
        max(1, round(raster.width * dpi / raster.dpi_x)),
        max(1, round(raster.height * dpi / raster.dpi_y)),
    )
    return paper.convert("L").resize(size, Image.Resampling.BOX), dpi


def _png(image: Image.Image, *, dpi: int | None) -> bytes:
    file = io.BytesIO()
    if dpi is None:
        image.save(file, "PNG")
    else:
        image.save(file, "PNG", dpi=(dpi, dpi))
    return file.getvalue()


def to_png(raster: Raster) -> bytes:
    """The page as PNG in its true size; pixels that are not square are resampled for viewing."""
    picture, dpi = _picture(raster)
    return _png(picture, dpi=dpi)


def contact_sheet(rasters: Sequence[Raster], columns: int) -> bytes:
    """Many pages on one sheet as PNG, row by row, each scaled to the same width.

    Args:
        rasters: the pages in reading order; none gives an empty sheet.
        columns: pages side by side, at least 1.
    """
    thumbnails = []
    for raster in rasters:
        picture = _picture(raster)[0].convert("L")
        height = max(1, round(picture.height * THUMBNAIL_WIDTH_PX / picture.width))
        thumbnails.append(picture.resize((THUMBNAIL_WIDTH_PX, height), Image.Resampling.BOX))
    columns = max(1, min(columns, len(thumbnails) or 1))
    cell_height = max((thumbnail.height for thumbnail in thumbnails), default=1)
    pitch_x, pitch_y = THUMBNAIL_WIDTH_PX + CONTACT_SHEET_GAP_PX, cell_height + CONTACT_SHEET_GAP_PX
    sheet = Image.new(
        "L",
        (
            columns * pitch_x + CONTACT_SHEET_GAP_PX,
            math.ceil(len(thumbnails) / columns) * pitch_y + CONTACT_SHEET_GAP_PX,
        ),
        _SHEET_GREY,
    )
    for index, thumbnail in enumerate(thumbnails):
        row, column = divmod(index, columns)
        sheet.paste(
            thumbnail,
            (
                CONTACT_SHEET_GAP_PX + column * pitch_x,
                CONTACT_SHEET_GAP_PX + row * pitch_y,
            ),
        )
    return _png(sheet, dpi=None)
