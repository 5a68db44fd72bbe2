"""The portrait in one bit: decoded, scaled, and halftoned for a printer that knows only dots."""

from __future__ import annotations

import io

from PIL import Image, ImageFilter, ImageOps

# Dots print larger than the grid (dot gain), so mid-tones are lightened before they become dots.
DOT_GAIN_GAMMA = 0.72
TONE_CUTOFF_PERCENT = 0.5  # the darkest and lightest pixels that may become pure black and white
PAPER_LEVEL = 250  # what is this light stays free of the stray dots that diffusion would put there
_DOT_GAIN_TABLE = [
    255 if level >= PAPER_LEVEL else round(255 * (level / 255) ** DOT_GAIN_GAMMA)
    for level in range(256)
]
_SHARPEN = ImageFilter.UnsharpMask(radius=1.2, percent=110, threshold=2)


def halftone(photo: bytes, *, width: int, height: int, aspect: float) -> Image.Image:
    """Draws a photo into a box of dots: whole, centred, never stretched, and as stored.

    Error diffusion (Floyd and Steinberg) keeps more of a face at 180 dots per inch than a screen
    does, and it is deterministic. An EXIF orientation is not obeyed: the authority signed the
    picture as its pixels lie.

    Args:
        photo: the JPEG or PNG file, already checked.
        width: the box in dots.
        height: the box in dots.
        aspect: horizontal dots per inch divided by vertical ones.

    Returns:
        A mode ``1`` image of the box where 1 is ink.
    """
    ink = Image.new("1", (width, height), 0)
    with Image.open(io.BytesIO(photo)) as source:
        scale = min(width / (source.width * aspect), height / source.height)
        size = (
            min(width, max(1, round(source.width * aspect * scale))),
            min(height, max(1, round(source.height * scale))),
        )
        if source.format == "JPEG":
            # The decoder's own reduction to grey and to no less than twice the final size.
            source.draft("L", (size[0] * 2, size[1] * 2))
        grey = _grey(source)
    grey = grey.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    grey = ImageOps.autocontrast(grey, cutoff=TONE_CUTOFF_PERCENT)
    grey = grey.filter(_SHARPEN).point(_DOT_GAIN_TABLE)
    dots = ImageOps.invert(grey).convert("1", dither=Image.Dither.FLOYDSTEINBERG)
    ink.paste(dots, ((width - size[0]) // 2, (height - size[1]) // 2))
    return ink


def _grey(source: Image.Image) -> Image.Image:
    """Any picture as mode ``L`` on white paper."""
    if source.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion would clip instead of scale.
        return source.convert("I").point(lambda level: level / 257).convert("L")
    if source.has_transparency_data:
        layered = source.convert("RGBA")
        paper = Image.new("RGBA", layered.size, "white")
        paper.alpha_composite(layered)
        return paper.convert("L")
    if source.mode in {"L", "1", "RGB"}:
        return source.convert("L")
    return source.convert("RGB").convert("L")
