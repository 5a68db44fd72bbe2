"""A book of the virtual printer to look at. The mark SPECIMEN is on the picture, not in the ink."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from agent.drivers.virtual.book import Book

if TYPE_CHECKING:
    from PIL import Image

PAPER = (250, 247, 240)
MARK = (214, 120, 120)
INK = (20, 20, 40)
MARK_TEXT = "SPECIMEN"
MARK_SHARE = 0.8  # of the page's width
MARK_ANGLE_DEGREES = 20


def picture(book: Book) -> Image.Image:
    """Paper, the mark, and the ink over it, so that the mark hides no dot."""
    # Imported here: a printer that nobody looks at needs no imaging library.
    from PIL import Image, ImageDraw, ImageFont

    size = (book.width, book.height)
    page = Image.new("RGB", size, PAPER)
    font = ImageFont.load_default(size=100)
    left, top, right, bottom = ImageDraw.Draw(page).textbbox((0, 0), MARK_TEXT, font=font)
    word = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(word).text((1 - left, 1 - top), MARK_TEXT, fill=255, font=font)
    scale = book.width * MARK_SHARE / word.width
    word = word.resize((max(int(word.width * scale), 1), max(int(word.height * scale), 1)))
    word = word.rotate(MARK_ANGLE_DEGREES, expand=True)
    place = ((book.width - word.width) // 2, (book.height - word.height) // 2)
    page.paste(MARK, (*place, place[0] + word.width, place[1] + word.height), word)
    page.paste(INK, (0, 0, *size), Image.frombytes("1", size, bytes(book.rows)))
    return page


def picture_png(book: Book) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    picture(book).save(file, "PNG")
    return file.getvalue()
