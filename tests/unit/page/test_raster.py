"""Pictures of pages for people."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agent.model import Raster
from agent.page.raster import contact_sheet, from_image, to_image, to_png


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


@given(st.integers(1, 40), st.integers(1, 10), st.data())
def test_no_dot_is_lost_between_raster_and_image(width, height, data):
    dots = data.draw(st.lists(st.booleans(), min_size=width * height, max_size=width * height))
    image = Image.new("1", (width, height))
    image.putdata(dots)
    raster = from_image(image, dpi_x=180, dpi_y=180)
    assert [bool(dot) for dot in to_image(raster).tobytes()] == [bool(b) for b in image.tobytes()]
    for y in range(height):
        for x in range(width):
            assert bool(raster.row(y)[x // 8] & 0x80 >> x % 8) == dots[y * width + x]


def test_ink_is_black_and_the_size_is_true():
    page = Raster(16, 2, 180, 180, b"\xff\x00\x00\x00")
    image = opened(to_png(page))
    assert (image.mode, image.size) == ("1", (16, 2))
    assert [image.getpixel((x, 0)) for x in (0, 8)] == [0, 255]
    assert image.info["dpi"] == pytest.approx((180, 180), abs=0.05)


def test_pixels_that_are_not_square_are_made_square_for_viewing():
    image = opened(to_png(Raster(80, 72, 80, 72, bytes(10 * 72))))
    assert image.size == (80, 80)
    assert image.info["dpi"] == pytest.approx((80, 80), abs=0.05)


@pytest.mark.parametrize(
    ("count", "columns", "size"),
    [
        (0, 4, (467, 12)),
        (1, 4, (467, 467)),
        (5, 2, (922, 1377)),
        (3, 8, (1377, 467)),
    ],
)
def test_every_page_is_on_the_contact_sheet(count, columns, size):
    black = Raster(100, 100, 180, 180, b"\xff" * 13 * 100)
    sheet = opened(contact_sheet([black] * count, columns)).convert("L")
    if count:
        assert sheet.size == size
    assert sheet.histogram()[0] == count * 443 * 443
