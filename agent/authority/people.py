"""Invented people with drawn portraits, for demos and training: nobody's names, nobody's faces."""

from __future__ import annotations

import base64
import datetime
import io
import random
from typing import Any

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from agent.page.mrz import compose_mrz

PORTRAIT_WIDTH = 360  # pixels, 35 x 45 mm of Doc 9303-3 at some 260 dots an inch
PORTRAIT_HEIGHT = 464
JPEG_QUALITY = 84  # some 25 KB with the noise of a camera
STATE = "UTO"  # Utopia, Doc 9303's own state of nowhere
BIRTH_YEARS = (1950, 2015)
VALID_YEARS = 10
DATE_OF_ISSUE = datetime.date(2026, 2, 3)

# Made of the Indonesian words for example, fictitious, invented, imagined, imitation and trial.
_PRIMARY = [
    "CONTOHARDJA",
    "FIKTIFIANTO",
    "REKAANDANA",
    "KHAYALUDDIN",
    "TIRUANINGRAT",
    "UJICOBAWAN",
    "SPESIMENDI",
    "ANDAIKATAMA",
    "UMPAMASARI",
    "KARANGANDI",
    "BAYANGKARI",
    "MISALWATI",
    "PERAGAWAN",
    "CONTOHSARI",
    "REKAYASTRI",
    "KHAYALINGSIH",
]
_SECONDARY = [
    "BAGUS",
    "DEWI",
    "RAKA",
    "TIWI",
    "PUTRA",
    "NINGRUM",
    "LESTARI",
    "ADI",
    "SARI",
    "WAYAN",
    "MADE",
    "KETUT",
    "NYOMAN",
    "AYU",
    "INTAN",
    "DIMAS",
    "FIKTIFA",
    "UJIWATI",
    "TIRUANTO",
    "REKAANDI",
]
_PLACES = ("KAMPUNG REKAAN", "DESA CONTOH", "KOTA FIKTIF", "PULAU KHAYAL", "BUKIT UMPAMA")
_SKINS = ((232, 190, 160), (205, 155, 120), (160, 110, 80), (240, 205, 180), (125, 85, 62))
_HAIRS = ((28, 22, 20), (64, 42, 28), (110, 104, 100), (18, 18, 26))


def random_document(
    number: str,
    rng: random.Random,
    *,
    today: datetime.date = DATE_OF_ISSUE,
    specimen: bool = True,
) -> dict[str, Any]:
    """A travel document of CONTRACT section 3.2 for somebody who does not exist.

    Args:
        number: the book's number.
        rng: where people and portraits come from; one seed, one person.
        today: the date of issue.
        specimen: lays the word SPECIMEN over the portrait and names it as the authority.
    """
    born = datetime.date(rng.randint(*BIRTH_YEARS), rng.randint(1, 12), rng.randint(1, 28))
    given = rng.sample(_SECONDARY, rng.randint(0, 2))  # one name alone is common in Indonesia
    fields = {
        "document_type": "P",
        "issuing_state": STATE,
        "nationality": STATE,
        "primary_identifier": rng.choice(_PRIMARY),
        "secondary_identifier": " ".join(given),
        "document_number": number,
        "date_of_birth": born.isoformat(),
        "date_of_expiry": _years_later(today, VALID_YEARS).isoformat(),
        "sex": rng.choice("FMX"),
        "personal_number": "",
    }
    lines = compose_mrz(**fields)
    photo = portrait(rng, specimen=specimen)
    return fields | {
        "date_of_issue": today.isoformat(),
        "place_of_birth": rng.choice(_PLACES),
        "issuing_authority": "SPECIMEN" if specimen else "KANTOR CONTOH",
        "mrz": list(lines),
        "photo": {"media_type": "image/jpeg", "data": base64.b64encode(photo).decode("ascii")},
    }


def _years_later(day: datetime.date, years: int) -> datetime.date:
    return day.replace(year=day.year + years, day=min(day.day, 28))


def portrait(rng: random.Random, *, specimen: bool = True) -> bytes:
    """A drawn head and shoulders as JPEG, of the size that a camera's would have."""
    image = _background(rng)
    _draw_person(ImageDraw.Draw(image), rng)
    image = _with_noise(image.filter(ImageFilter.GaussianBlur(1.2)), rng)
    if specimen:
        _draw_word(image)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _background(rng: random.Random) -> Image.Image:
    light = rng.randint(190, 235)
    column = Image.linear_gradient("L").resize((PORTRAIT_WIDTH, PORTRAIT_HEIGHT))
    shade = column.point([light - value * 40 // 255 for value in range(256)])
    return Image.merge("RGB", (shade, shade, shade))


def _draw_person(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    middle = PORTRAIT_WIDTH // 2 + rng.randint(-6, 6)
    skin, hair = rng.choice(_SKINS), rng.choice(_HAIRS)
    shadow = tuple(value - 28 for value in skin)
    cloth = tuple(rng.randint(40, 140) for _ in range(3))
    wide = 78 + rng.randint(-8, 8)

    def oval(left: int, top: int, right: int, bottom: int, fill: tuple[int, ...]) -> None:
        draw.ellipse([middle + left, top, middle + right, bottom], fill=fill)

    oval(-wide - 16, 82, wide + 16, rng.choice((240, 330)), hair)
    oval(-168, 345, 168, 640, cloth)
    draw.rectangle([middle - 34, 290, middle + 34, 380], fill=shadow)
    oval(-wide, 110, wide, 330, skin)
    oval(-wide - 6, 84, wide + 6, 168, hair)
    for side in (-1, 1):
        eye = side * 33
        oval(eye - 15, 206, eye + 15, 222, (245, 245, 240))
        oval(eye - 7, 206, eye + 7, 222, (38, 30, 25))
        draw.arc([middle + eye - 21, 186, middle + eye + 21, 214], 200, 340, fill=hair, width=5)
    draw.line([(middle, 218), (middle - 8, 256), (middle + 6, 260)], fill=shadow, width=4)
    draw.arc([middle - 28, 266, middle + 28, 296], 20, 160, fill=(150, 74, 72), width=6)


def _with_noise(image: Image.Image, rng: random.Random) -> Image.Image:
    size = (PORTRAIT_WIDTH // 2, PORTRAIT_HEIGHT // 2)
    grain = Image.frombytes("L", size, rng.randbytes(size[0] * size[1])).resize(image.size)
    grain = grain.point([value // 14 for value in range(256)])
    return ImageChops.add(image, Image.merge("RGB", (grain, grain, grain)))


def _draw_word(image: Image.Image) -> None:
    draw = ImageDraw.Draw(image)
    style = ImageFont.load_default(size=62)
    place = (PORTRAIT_WIDTH // 2, PORTRAIT_HEIGHT - 46)
    draw.text(
        place,
        "SPECIMEN",
        font=style,
        anchor="mm",
        fill=(245, 245, 245),
        stroke_width=4,
        stroke_fill=(20, 20, 20),
    )
