"""Text in a box of dots: shrunk, then wrapped, then squeezed, and never a dot outside its box."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from agent.page.fonts import Style, font

SIZE_LEGIBLE_PX = 7  # the smallest em at which the typeface is still read
LINE_PITCH_EM = 1.1
ASCENT_EM = 1.1  # a capital with two accents, as in Vietnamese
ASCENT_PLAIN_EM = 0.77  # capitals and ascenders without accents
ASCENT_USUAL_EM = 0.9  # a capital with one accent
DESCENT_EM = 0.3
_SQUEEZED_INK_LEVEL = 96  # of 255: thin strokes are kept rather than lost


def draw_text(
    page: Image.Image,
    box: tuple[int, int, int, int],
    text: str,
    *,
    style: Style,
    size_px: int,
    ascent_em: float = ASCENT_USUAL_EM,
    lines_max: int = 1,
    aspect: float = 1.0,
) -> None:
    """Draws left-aligned text into a box of the page; smaller than wished where it must be.

    Args:
        page: a mode ``1`` image where 1 is ink.
        box: left, top, width and height in dots.
        text: any text; an empty one draws nothing.
        style: the typeface.
        size_px: the wished em in vertical dots.
        ascent_em: from the box's top to the first baseline; taller letters push it down.
        lines_max: how many lines the text may be broken into.
        aspect: horizontal dots per inch divided by vertical ones.
    """
    left, top, width, height = box
    if not text or width < 1 or height < 1:
        return
    room = max(1, round(width / aspect))
    size_px, lines = _fit(
        text, style, size_px=size_px, width=room, height=height, lines_max=lines_max
    )
    face = font(style, size_px)
    strip = Image.new("1", (max(room, *(_line_width(face, line) for line in lines), 1), height), 0)
    pen = ImageDraw.Draw(strip)
    pen.fontmode = "1"
    highest = -face.getbbox(lines[0], mode="1", anchor="ls")[1]
    first = max(round(size_px * ascent_em), round(highest))
    for number, line in enumerate(lines):
        # A J reaches back under the letter before it; at the line's start there is room for it.
        start = max(0, -round(face.getbbox(line, mode="1", anchor="ls")[0]))
        baseline = first + round(number * size_px * LINE_PITCH_EM)
        pen.text((start, baseline), line, fill=1, font=face, anchor="ls")
    if strip.width != width:
        strip = _squeezed(strip, width)
    page.paste(strip, (left, top))


def _fit(
    text: str, style: Style, *, size_px: int, width: int, height: int, lines_max: int
) -> tuple[int, list[str]]:
    """The size and the lines with which the text fits.

    One line is kept down to three quarters of the wished size before a second one is opened.
    """
    lines: list[str] = []
    for count in range(1, lines_max + 1):
        tall = height / (ASCENT_EM + (count - 1) * LINE_PITCH_EM + DESCENT_EM)
        start = max(1, size_px if count == 1 else min(size_px, int(tall)))
        floor = min(start, SIZE_LEGIBLE_PX)
        if count < lines_max:
            floor = max(floor, size_px * 3 // 4)
        # Widths grow with the size, nearly: no size much above the proportional one can fit.
        whole = _line_width(font(style, start), text)
        proportional = start * width * count / whole if whole > width * count else start
        for size in range(min(start, int(proportional * 1.1) + 1), floor - 1, -1):
            lines = _wrapped(text, font(style, size), width)
            if len(lines) <= count:
                return size, lines
    # Beyond legible: the last line takes all the rest, to be squeezed into the box.
    smallest = max(1, min(size_px, SIZE_LEGIBLE_PX))
    lines = _wrapped(text, font(style, smallest), width)
    return smallest, [*lines[: lines_max - 1], " ".join(lines[lines_max - 1 :])]


def _wrapped(text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Greedy lines, broken at spaces; a word longer than a line is broken where the line ends."""
    if _line_width(face, text) <= width:
        return [text]
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if _line_width(face, longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        line = word
        while len(line) > 1 and _line_width(face, line) > width:
            cut = len(line) - 1
            while cut > 1 and _line_width(face, line[:cut]) > width:
                cut -= 1
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line]


def _line_width(face: ImageFont.FreeTypeFont, line: str) -> int:
    """Dots from the first to the right of the last inked one."""
    left, _, right, _ = face.getbbox(line, mode="1", anchor="ls")
    return round(right - min(0, left))


def _squeezed(strip: Image.Image, width: int) -> Image.Image:
    """The strip scaled across to ``width``."""
    grey = strip.convert("L").resize((width, strip.height), Image.Resampling.BOX)
    return grey.point(lambda level: 255 * (level >= _SQUEEZED_INK_LEVEL), mode="1")
