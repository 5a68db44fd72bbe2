"""The printer's own characters: what stray bytes of a page become on a printer in standard mode."""

from __future__ import annotations

import functools

GLYPH_WIDTH = 8
GLYPH_HEIGHT = 12
PRINTABLE_FIRST = 0x20
PRINTABLE_LAST = 0x7E
_UNKNOWN = (0x7E,) * (GLYPH_HEIGHT - 1) + (0,)


@functools.lru_cache(maxsize=512)
def glyph(character: int, scale: int) -> tuple[int, ...]:
    """The rows of one character, ``GLYPH_WIDTH * scale`` bits each, leftmost dot first."""
    rows = _rows(character)
    wide = []
    for row in rows:
        digits = "".join(digit * scale for digit in f"{row:0{GLYPH_WIDTH}b}")
        wide.extend([int(digits, 2)] * scale)
    return tuple(wide)


def _rows(character: int) -> tuple[int, ...]:
    if not PRINTABLE_FIRST <= character <= PRINTABLE_LAST:
        return _UNKNOWN
    # Imported here: most runs of the model never print a character.
    from PIL import Image, ImageDraw, ImageFont

    cell = Image.new("1", (GLYPH_WIDTH, GLYPH_HEIGHT))
    font = ImageFont.load_default_imagefont()
    ImageDraw.Draw(cell).text((1, 0), chr(character), fill=1, font=font)
    return tuple(cell.tobytes())
