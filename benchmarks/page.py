"""A page's bytes against the raster of its inked rows, how long the line carries them, and how soon the next page is ready."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from agent.crypto.documents import open_document
from agent.crypto.jose import decode_base64url, parse_object
from agent.drivers.escpos import encode_page
from agent.drivers.profile import Profile, load_profile
from agent.drivers.virtual.make import printer_make
from agent.model import BookEntry, Raster, TravelDocument
from agent.page.layout import compose
from benchmarks.figure import Figure
from benchmarks.office import PEOPLE_COUNT, authorization, station_keys

PROFILES = ("page-slip", "column-slip")
LINE_BYTES_A_SECOND = 115_200 / 10  # eight bits, a start bit and a stop bit


def measure(*, people: int = PEOPLE_COUNT) -> Iterator[Figure]:
    """The figures of both profiles; the greatest share of any page counts."""
    documents = [_document(number) for number in range(1, people + 1)]
    for name in PROFILES:
        profile = load_profile(name)
        costs, rasters, sizes = [], [], []
        for document in documents:
            before = time.thread_time()
            raster = _raster(document, profile)
            page = encode_page(raster, profile)
            costs.append(time.thread_time() - before)
            rasters.append(raster)
            sizes.append(len(page))
        ink = [raster.inked_rows() * raster.stride for raster in rasters]
        share, size = max(zip((a / b for a, b in zip(sizes, ink, strict=True)), sizes, strict=True))
        detail = f"{size} bytes, {size / LINE_BYTES_A_SECOND:.2f} s at 115,200 baud"
        yield Figure(f"{name}: bytes of a page against its inked rows", share, 1.1, "x", detail)
        compose_s = median(costs)
        printing_s = min(printing_seconds(raster, name) for raster in rasters)
        yield Figure(
            f"{name}: composing the next page against the printing of this one",
            compose_s / printing_s,
            1.0,
            "x",
            f"{compose_s * 1_000:.1f} ms beside {printing_s:.1f} s of the virtual printer",
        )


def printing_seconds(raster: Raster, kind: str) -> float:
    """What the virtual printer's mechanics take for a page, to the ejected book; it does not feed below the last inked row."""
    make = printer_make(kind)
    inked = raster.inked_rows()
    last = len(raster.rows.rstrip(b"\0")) // raster.stride
    return inked * make.row_seconds + (last + 1 - inked) * make.feed_seconds + make.eject_seconds


def _document(number: int) -> TravelDocument:
    claims = parse_object(decode_base64url(authorization(number).split(b".")[1]))
    entry = claims["books"][0]
    return open_document(BookEntry(entry["number"], entry["document"]), station_keys())


def _raster(document: TravelDocument, profile: Profile) -> Raster:
    return compose(
        document,
        dpi_x=profile.dpi_x,
        dpi_y=profile.dpi_y,
        width=profile.width,
        height=profile.height,
    )
