"""Reads a machine-readable zone back from dots: the eye of the tests, with nothing of the layout's.

It knows Doc 9303 (where to look, which pitch, which characters) and the OCR-B typeface, draws its
own templates, finds the grid by itself, and says so when what it sees is no clear character.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from agent.model import Raster

OCR_B = Path("/usr/share/fonts/opentype/ocr-b/OCRB.otf")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789<"
COLUMNS = 44
PITCH_MM = 2.54
ZONE_MM = 23.2
CELL_HEIGHT_MM = 3.4
BASELINE_SHARE = 0.86  # of a cell's height, from its top
LIKENESS_MIN = 0.62  # correlation below which a cell holds no character
LEAD_MIN = 0.03  # how much likelier than the next one a character must be
_OVERSAMPLING = 16


class Unreadable(Exception):
    """A cell, or the whole zone, is not what OCR-B looks like."""


def read_mrz(raster: Raster) -> tuple[str, str]:
    """Both lines as they stand on the page.

    Raises:
        Unreadable: there are not two lines, or a character is not clear.
    """
    dots = np.unpackbits(
        np.frombuffer(raster.rows, np.uint8).reshape(raster.height, raster.stride), axis=1
    )[:, : raster.width].astype(np.float32)
    top = max(0, raster.height - math.floor(ZONE_MM * raster.dpi_y / 25.4))
    bands = [(start + top, end + top) for start, end in _bands(dots[top:].any(axis=1))]
    if len(bands) != 2:
        raise Unreadable(f"{len(bands)} lines instead of 2")
    first, second = (_read_line(dots, band, raster.dpi_x, raster.dpi_y) for band in bands)
    return first, second


def _bands(inked: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inked.astype(np.int8), [0]))))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


@functools.cache
def _templates(dpi_x: int, dpi_y: int) -> tuple[np.ndarray, int, int]:
    """One normalized row for each character of the alphabet; a cell's width and height in dots."""
    width, height = round(PITCH_MM * dpi_x / 25.4), round(CELL_HEIGHT_MM * dpi_y / 25.4)
    em = 500
    face = ImageFont.truetype(str(OCR_B), em)
    advance = face.getlength("<")
    drawn_height = round(advance * CELL_HEIGHT_MM / PITCH_MM)
    rows = []
    for character in ALPHABET:
        drawn = Image.new("L", (round(advance), drawn_height), 0)
        pen = ImageDraw.Draw(drawn)
        pen.text(
            (0, round(drawn_height * BASELINE_SHARE)), character, fill=255, font=face, anchor="ls"
        )
        fine = drawn.resize(
            (width * _OVERSAMPLING, height * _OVERSAMPLING), Image.Resampling.BILINEAR
        )
        blocks = np.asarray(fine, np.float32).reshape(height, _OVERSAMPLING, width, _OVERSAMPLING)
        rows.append(_normalized(blocks.mean(axis=(1, 3)).reshape(1, -1))[0])
    return np.stack(rows), width, height


def _normalized(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def _read_line(dots: np.ndarray, band: tuple[int, int], dpi_x: int, dpi_y: int) -> str:
    templates, width, height = _templates(dpi_x, dpi_y)
    pitch = PITCH_MM * dpi_x / 25.4
    baseline_top = band[1] - round(BASELINE_SHARE * height)
    best: np.ndarray | None = None
    # Each cell may lie a dot beside its place, so every other start of the line is enough.
    for top in range(baseline_top - 2, baseline_top + 3):
        for left in range(round(4.0 * dpi_x / 25.4), round(7.0 * dpi_x / 25.4), 2):
            places = [
                scores
                for shift in (-1, 0, 1)
                if (scores := _scores(dots, templates, left + shift, top, width, height, pitch))
                is not None
            ]
            if not places:
                continue
            scores = np.max(places, axis=0)
            if best is None or scores.max(axis=1).sum() > best.max(axis=1).sum():
                best = scores
    if best is None:
        raise Unreadable("the line is outside the page")
    ranked = np.sort(best, axis=1)
    for column in range(COLUMNS):
        likeness, lead = ranked[column, -1], ranked[column, -1] - ranked[column, -2]
        if likeness < LIKENESS_MIN or lead < LEAD_MIN:
            raise Unreadable(f"column {column + 1}: likeness {likeness:.2f}, lead {lead:.2f}")
    return "".join(ALPHABET[index] for index in best.argmax(axis=1))


def _scores(
    dots: np.ndarray,
    templates: np.ndarray,
    left: int,
    top: int,
    width: int,
    height: int,
    pitch: float,
) -> np.ndarray | None:
    """How like each cell is to each character, for one place of the grid."""
    starts = [left + round(column * pitch) for column in range(COLUMNS)]
    if top < 0 or top + height > dots.shape[0] or starts[-1] + width > dots.shape[1]:
        return None
    line = dots[top : top + height]
    cells = np.stack([line[:, start : start + width].reshape(-1) for start in starts])
    return _normalized(cells) @ templates.T
