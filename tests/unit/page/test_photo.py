"""Portraits of every kind that the contract admits, in dots."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.page.photo import halftone

PHOTOS = Path(__file__).parents[2] / "vectors" / "photos"
BOX = {"width": 240, "height": 320, "aspect": 1.0}


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def ink(photo: bytes, **box: object) -> np.ndarray:
    return np.asarray(halftone(photo, **BOX | box))


def ramp(mode: str = "L") -> Image.Image:
    """Dark at the left, light at the right, 3 to 4."""
    levels = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (400, 1))
    return Image.fromarray(levels).convert(mode)


@pytest.mark.parametrize(
    "photo",
    [
        encoded(ramp()),
        encoded(ramp("RGB")),
        encoded(ramp("RGBA")),
        encoded(ramp("LA")),
        encoded(ramp("P")),
        encoded(Image.fromarray(np.asarray(ramp()).astype(np.uint16) * 257)),
        encoded(ramp(), "JPEG", quality=95),
        encoded(ramp("RGB"), "JPEG", quality=95),
        encoded(ramp("CMYK"), "JPEG", quality=95),
    ],
    ids=["L", "RGB", "RGBA", "LA", "P", "I;16", "jpeg-L", "jpeg-RGB", "jpeg-CMYK"],
)
def test_dark_is_ink_and_light_is_paper_in_every_kind_of_picture(photo):
    dots = ink(photo)
    shares = [dots[:, start : start + 60].mean() for start in range(0, 240, 60)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.6
    assert shares[3] < 0.1


def test_what_is_transparent_is_paper():
    picture = ramp("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 300, 200))
    assert not ink(encoded(picture))[:150].any()


@pytest.mark.parametrize(
    ("size", "filled"),
    [
        ((300, 400), (240, 320)),
        ((64, 64), (240, 240)),
        ((4096, 64), (240, 4)),
        ((64, 4096), (5, 320)),
    ],
)
def test_a_photo_is_whole_centred_and_never_stretched(size, filled):
    dots = ink(encoded(Image.new("L", size, 0)))
    rows, columns = np.flatnonzero(dots.any(axis=1)), np.flatnonzero(dots.any(axis=0))
    assert (len(columns), len(rows)) == filled
    assert abs(columns[0] - (239 - columns[-1])) <= 1
    assert abs(rows[0] - (319 - rows[-1])) <= 1


def test_pixels_that_are_not_square_keep_the_face_in_shape():
    dots = ink(encoded(Image.new("L", (100, 100), 0)), width=400, height=200, aspect=2.0)
    assert dots.any(axis=0).sum() == 2 * dots.any(axis=1).sum()


def test_the_largest_photo_works():
    assert ink((PHOTOS / "flat-4096.png").read_bytes()).shape == (320, 240)


def test_an_exif_orientation_is_not_obeyed():
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = encoded(ramp("RGB"), "JPEG", exif=exif)
    assert (ink(turned) == ink(encoded(ramp("RGB"), "JPEG"))).all()


def test_the_dots_are_the_same_every_time():
    photo = (PHOTOS / "portrait-3.jpg").read_bytes()
    assert (ink(photo) == ink(photo)).all()


def test_a_photo_of_one_colour_does_not_fail():
    for level in (0, 128, 255):
        share = ink(encoded(Image.new("RGB", (64, 64), (level,) * 3))).mean()
        assert 0 <= share <= 1
