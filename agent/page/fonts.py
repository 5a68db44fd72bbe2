"""The two typefaces of the page, found among the system's packages and kept open.

Nothing of a holder is cached here: only font objects, by style and size.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from agent.errors import ConfigurationInvalid

FONT_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
)
FONTS_OPEN_MAX = 64  # sizes in use for a handful of printers; an open face costs some 10 KB


class Style(enum.Enum):
    """A typeface: where its Debian package puts it (below a font folder), and that package."""

    OCR_B = ("opentype/ocr-b/OCRB.otf", "fonts-ocr-b")
    TEXT = ("truetype/dejavu/DejaVuSans.ttf", "fonts-dejavu-core")
    TEXT_BOLD = ("truetype/dejavu/DejaVuSans-Bold.ttf", "fonts-dejavu-core")

    @property
    def place(self) -> str:
        """The file below a font folder."""
        return self.value[0]

    @property
    def package(self) -> str:
        """The Debian package that brings it."""
        return self.value[1]


def find_font(style: Style, folders: tuple[Path, ...] = FONT_FOLDERS) -> Path:
    """Finds a typeface's file: at its package's place, else anywhere in the folders.

    Raises:
        ConfigurationInvalid: it is not installed; the text names the package.
    """
    for folder in folders:
        if (folder / style.place).is_file():
            return folder / style.place
    name = Path(style.place).name
    for folder in folders:
        for found in sorted(folder.rglob(name)):
            return found
    searched = ", ".join(str(folder) for folder in folders)
    raise ConfigurationInvalid(
        f"font {name} was not found in {searched}: install it with `apt install {style.package}`"
    )


@lru_cache(maxsize=len(Style))
def _font_path(style: Style) -> str:
    return str(find_font(style))


@lru_cache(maxsize=FONTS_OPEN_MAX)
def font(style: Style, size_px: int) -> ImageFont.FreeTypeFont:
    """The open font of a style with an em of ``size_px`` dots.

    The basic layout engine, so that a page does not depend on which shaping library is there.
    """
    return ImageFont.truetype(
        _font_path(style), max(1, size_px), layout_engine=ImageFont.Layout.BASIC
    )


def check_fonts() -> None:
    """Opens every typeface once, for the self-test at start.

    Raises:
        ConfigurationInvalid: one is missing or cannot be read.
    """
    for style in Style:
        try:
            font(style, 12)
        except OSError as error:
            raise ConfigurationInvalid(
                f"font {_font_path(style)} cannot be read ({error}): "
                f"install it again with `apt install --reinstall {style.package}`"
            ) from error
