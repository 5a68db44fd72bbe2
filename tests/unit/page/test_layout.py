"""The page: what a border officer and a machine must be able to read on it."""

from __future__ import annotations

import contextlib
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from mrz_reader import ALPHABET, COLUMNS, Unreadable, read_mrz
from page_samples import COLUMN_PAGE, PAGE, SAMPLE, SMALL_PAGE, sample, vector_zones

from agent.model import Raster, TravelDocument
from agent.page import layout
from agent.page.fonts import Style, font
from agent.page.layout import compose
from agent.page.text import _fit

VISUAL_ZONE_ROWS = round((88 - 23.2) * 180 / 25.4)
FIELDS_THAT_GROW = (
    "primary_identifier",
    "secondary_identifier",
    "place_of_birth",
    "issuing_authority",
    "personal_number",
    "document_number",
    "issuing_state",
    "nationality",
    "document_type",
)
LONG = "\u1ec6W\u0158\u0122" * 16  # wide letters, two accents above, one below


def dots(raster: Raster) -> np.ndarray:
    rows = np.frombuffer(raster.rows, np.uint8).reshape(raster.height, raster.stride)
    return np.unpackbits(rows, axis=1)[:, : raster.width].astype(bool)


def page(document: TravelDocument = SAMPLE, **options: object) -> np.ndarray:
    return dots(compose(document, **PAGE | options))


def random_zone(rng: random.Random) -> tuple[str, str]:
    first, second = ("".join(rng.choices(ALPHABET, k=COLUMNS)) for _ in range(2))
    return first, second


def test_the_mrz_of_every_vector_is_read_back_from_the_dots():
    for zone in vector_zones():
        assert read_mrz(compose(sample(mrz=zone), **PAGE)) == zone


@pytest.mark.parametrize("seed", range(20))
def test_any_mrz_is_read_back_from_the_dots(seed):
    rng = random.Random(seed)
    zone = random_zone(rng)
    offset_mm = (rng.uniform(-0.9, 0.9), rng.uniform(-1.5, 1.5))
    page = compose(sample(mrz=zone), **PAGE, offset_mm=offset_mm, specimen=seed % 2 == 0)
    assert read_mrz(page) == zone


@pytest.mark.parametrize("dpi", [(80, 72), (203, 203), (360, 180)])
def test_the_mrz_is_read_back_at_other_resolutions(dpi):
    zone = random_zone(random.Random(dpi[0]))
    size = {"width": round(125 * dpi[0] / 25.4), "height": round(88 * dpi[1] / 25.4)}
    assert read_mrz(compose(sample(mrz=zone), dpi_x=dpi[0], dpi_y=dpi[1], **size)) == zone


def damaged(raster: Raster, harm) -> Raster:
    ink = dots(raster).copy()
    harm(ink)
    return Raster(
        raster.width,
        raster.height,
        raster.dpi_x,
        raster.dpi_y,
        np.packbits(ink, axis=1).tobytes(),
    )


def a_lost_character(ink):
    ink[-130:-80, 39 + 18 * 7 : 39 + 18 * 8] = False


def a_line_shifted_by_half_a_cell(ink):
    ink[-80:-40, 400:] = np.roll(ink[-80:-40, 400:], 9, axis=1)


def a_smear_over_a_character(ink):
    ink[-80:-40, 39 + 18 * 20 : 39 + 18 * 21] = True


def a_lost_line(ink):
    ink[-85:] = False


def an_upside_down_zone(ink):
    ink[-164:] = ink[-164:][::-1]


@pytest.mark.parametrize(
    "harm",
    [
        a_lost_character,
        a_line_shifted_by_half_a_cell,
        a_smear_over_a_character,
        a_lost_line,
        an_upside_down_zone,
    ],
)
def test_a_corrupted_page_is_not_read_as_good(harm):
    raster = damaged(compose(SAMPLE, **PAGE), harm)
    with contextlib.suppress(Unreadable):
        assert read_mrz(raster) != SAMPLE.mrz


def test_the_mrz_stands_where_doc_9303_wants_it():
    ink = page()[VISUAL_ZONE_ROWS:]
    rows = np.flatnonzero(ink.any(axis=1)) + VISUAL_ZONE_ROWS
    breaks = np.flatnonzero(np.diff(rows) > 1)
    assert len(breaks) == 1
    for first, last, centre_mm in (
        (rows[0], rows[breaks[0]], 88 - 15.75),
        (rows[breaks[0] + 1], rows[-1], 88 - 9.40),
    ):
        assert abs((first + last + 1) / 2 * 25.4 / 180 - centre_mm) < 0.3
    left = np.flatnonzero(ink.any(axis=0))[0] * 25.4 / 180
    assert 5.0 <= left <= 7.0


def test_forty_four_characters_take_exactly_ten_an_inch():
    bars = dots(compose(sample(mrz=("I" * 44, "I" * 44)), **PAGE))[VISUAL_ZONE_ROWS:]
    columns = bars.any(axis=0)
    starts = np.flatnonzero(columns[1:] & ~columns[:-1])
    assert len(starts) == COLUMNS
    assert set(np.diff(starts)) == {18}


@pytest.mark.parametrize("specimen", [False, True])
@pytest.mark.parametrize("offset_mm", [(0.0, 0.0), (-30.0, -30.0), (30.0, 30.0), (-6.0, 12.0)])
@pytest.mark.parametrize("size", [PAGE, COLUMN_PAGE, SMALL_PAGE])
def test_the_outermost_rows_and_columns_stay_blank(size, offset_mm, specimen):
    ink = dots(compose(SAMPLE, **size, offset_mm=offset_mm, specimen=specimen))
    for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
        assert not edge.any()


def test_the_calibration_moves_every_dot_alike():
    moved = page(offset_mm=(25.4 / 180 * 4, 25.4 / 180 * 3))
    assert (moved[4:-1, 5:-1] == page()[1:-4, 1:-5]).all()


def test_the_same_document_gives_the_same_dots():
    layout._glyph.cache_clear()
    layout._fixed_text.cache_clear()
    first = compose(SAMPLE, **PAGE)
    assert compose(SAMPLE, **PAGE) == first


@pytest.mark.parametrize("size", [PAGE, COLUMN_PAGE])
@pytest.mark.parametrize("name", FIELDS_THAT_GROW)
def test_the_longest_value_stays_in_its_field(name, size):
    """Whatever the value, only dots of its own box change: nothing overflows or overlaps."""
    ink = dots(compose(sample(**{name: LONG}), **size))
    reference = dots(compose(sample(**{name: "."}), **size))
    rows, columns = np.nonzero(ink != reference)
    assert len(rows) > 20
    (entry,) = [entry for entry in layout._fields(sample(**{name: LONG})) if entry.value == LONG]
    grid = layout.Grid(dpi_x=size["dpi_x"], dpi_y=size["dpi_y"])
    left, top, width, height = grid.box(
        entry.left_mm,
        entry.top_mm + layout.CAPTION_HEIGHT_MM,
        entry.width_mm,
        layout.VALUE_HEIGHT_MM,
    )
    assert left <= columns.min()
    assert columns.max() < left + width
    assert top <= rows.min()
    assert rows.max() < top + height


@pytest.mark.parametrize("secondary", ["", "NINGRUM"])
def test_the_fields_do_not_overlap(secondary):
    taken = np.zeros((PAGE["height"], PAGE["width"]), int)
    grid = layout.Grid(dpi_x=180, dpi_y=180)
    boxes = [layout.PHOTO_BOX_MM]
    for entry in layout._fields(sample(secondary_identifier=secondary)):
        height_mm = layout.CAPTION_HEIGHT_MM + (layout.VALUE_HEIGHT_MM if entry.value else 0)
        boxes.append((entry.left_mm, entry.top_mm, entry.width_mm, height_mm))
    for box in boxes:
        left, top, width, height = grid.box(*box)
        taken[top : top + height, left : left + width] += 1
        assert left + width < PAGE["width"]
        assert top + height <= VISUAL_ZONE_ROWS
    assert taken.max() == 1


def test_every_field_of_the_document_changes_the_page():
    base = page()
    for name, value in {
        "document_type": "PD",
        "issuing_state": "UTO",
        "nationality": "D",
        "primary_identifier": "CONTOHWATJ",
        "secondary_identifier": "NINGRUM FIKTIFO",
        "document_number": "C1234568",
        "date_of_birth": "1991-03-15",
        "date_of_issue": "2026-01-03",
        "date_of_expiry": "2036-02-02",
        "sex": "X",
        "place_of_birth": "SAMBAT",
        "issuing_authority": "KANTOR CONTOH SAMBAT",
        "personal_number": "",
    }.items():
        assert (
            page(sample(**{name: value}))[:VISUAL_ZONE_ROWS] != base[:VISUAL_ZONE_ROWS]
        ).any(), name


@pytest.mark.parametrize("style", [Style.TEXT, Style.TEXT_BOLD])
def test_no_latin_letter_is_an_empty_box(style):
    face = font(style, 40)
    missing = bytes(face.getmask("\uffff", mode="1"))
    latin = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x250), *range(0x1E00, 0x1EFB)]
    latin += [0x2018, 0x2019, 0x201C, 0x201D, 0x2013, 0x2014, 0x1E9E]
    assert [hex(c) for c in latin if bytes(face.getmask(chr(c), mode="1")) == missing] == []


def test_combining_marks_and_composed_letters_look_alike():
    composed = page(sample(primary_identifier="\u0158\u00c9\u1ec6"))
    combining = page(sample(primary_identifier="R\u030cE\u0301E\u0323\u0302"))
    assert (composed == combining).all()


def test_letters_that_reach_far_are_whole():
    """Neither the field's upper edge nor its left one may cut a letter: no dot of it is missing."""
    for text in ("\u1ebe", "\u1e68", "\u01fa", "\u1eb2", "\u1eaa\u0122", "JJ", "\u1eb2 " * 32):
        grid = layout.Grid(180, 180)
        size_px, lines = _fit(
            text,
            Style.TEXT,
            size_px=grid.height(layout.VALUE_SIZE_MM),
            width=grid.x(77),
            height=grid.height(layout.VALUE_HEIGHT_MM),
            lines_max=2,
        )
        face = font(Style.TEXT, size_px)
        expected = sum(dot > 0 for line in lines for dot in bytes(face.getmask(line, mode="1")))
        with_letter = page(sample(primary_identifier=text)).sum()
        assert with_letter - page(sample(primary_identifier="\u00a0")).sum() == expected


@pytest.mark.parametrize("size", [PAGE, COLUMN_PAGE])
def test_specimen_leaves_the_mrz_and_every_letter_as_they_are(size):
    plain = dots(compose(SAMPLE, **size))
    marked = dots(compose(SAMPLE, **size, specimen=True))
    zone_top = layout.Grid(size["dpi_x"], size["dpi_y"]).y(88 - 23.2)
    assert (plain[zone_top:] == marked[zone_top:]).all()
    right_of_photo = round(41 * size["dpi_x"] / 25.4)
    letters, after = plain[:zone_top, right_of_photo:], marked[:zone_top, right_of_photo:]
    assert after[letters].all()
    added = after & ~letters
    assert added.sum() > 300
    # A halo of paper: no added dot touches a letter, so no 3 becomes an 8.
    grown = np.zeros_like(letters)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            grown |= np.roll(np.roll(letters, down, axis=0), right, axis=1)
    assert not (added & grown).any()


def test_specimen_crosses_the_photo_too():
    left, top, width, height = layout.Grid(180, 180).box(*layout.PHOTO_BOX_MM)
    window = (slice(top, top + height), slice(left, left + width))
    changed = (page()[window] != page(specimen=True)[window]).mean()
    assert 0.01 < changed < 0.15


@given(
    width=st.integers(1, 80),
    height=st.integers(1, 60),
    dpi_x=st.integers(1, 40),
    dpi_y=st.integers(1, 40),
    offset_mm=st.tuples(st.floats(-200, 200), st.floats(-200, 200)),
    specimen=st.booleans(),
    name=st.text(min_size=1, max_size=64),
)
def test_no_size_and_no_name_crashes_the_page(
    width, height, dpi_x, dpi_y, offset_mm, specimen, name
):
    raster = compose(
        sample(primary_identifier=name, place_of_birth=name[::-1]),
        dpi_x=dpi_x,
        dpi_y=dpi_y,
        width=width,
        height=height,
        offset_mm=offset_mm,
        specimen=specimen,
    )
    assert len(raster.rows) == height * ((width + 7) // 8)


def test_small_pages_of_different_documents_differ_and_have_ink():
    one = compose(SAMPLE, **SMALL_PAGE)
    other = compose(
        sample(photo=(Path(SAMPLE_PHOTOS) / "portrait-2.jpg").read_bytes()), **SMALL_PAGE
    )
    assert one != other
    assert one.inked_rows() > 10


SAMPLE_PHOTOS = Path(__file__).parents[2] / "vectors" / "photos"


def test_no_holder_data_stays_behind_in_a_cache():
    compose(SAMPLE, **PAGE)
    before = layout._fixed_text.cache_info().currsize
    for name in ("ONE", "TWO", "THREE"):
        compose(sample(primary_identifier=name, place_of_birth=name, personal_number=name), **PAGE)
    assert layout._fixed_text.cache_info().currsize == before
