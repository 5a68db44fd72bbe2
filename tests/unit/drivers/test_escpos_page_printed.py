from __future__ import annotations

import random

import pytest

from agent.drivers.escpos import FORM_FEED, encode_page
from agent.drivers.profile import load_profile
from agent.drivers.virtual.book import Book
from agent.drivers.virtual.make import printer_make
from agent.drivers.virtual.model import VirtualPrinter
from agent.model import Raster

HAZARDS = bytes.fromhex("1004 1005 1014 00FF")


@pytest.mark.parametrize("name", ["page-slip", "column-slip"])
@pytest.mark.parametrize("seed", range(3))
def test_the_virtual_printer_inks_exactly_the_page(name: str, seed: int) -> None:
    profile = load_profile(name)
    source = random.Random(seed)
    stride = (profile.width + 7) // 8
    mask = (0xFF << (stride * 8 - profile.width)) & 0xFF
    rows = bytearray()
    for _ in range(profile.height):
        white = source.random() < 0.3
        row = bytes(stride) if white else bytes(source.choices(HAZARDS, k=stride))
        rows += row[:-1] + bytes((row[-1] & mask,))
    raster = Raster(profile.width, profile.height, profile.dpi_x, profile.dpi_y, bytes(rows))
    printer = VirtualPrinter(printer_make(name))
    now, waiting = 0.0, encode_page(raster, profile)
    book = Book("C1234567", profile.width, profile.height)

    def settle() -> None:
        nonlocal now
        while (change := printer.next_change_at()) is not None:
            now = change
            printer.advance(now)

    while waiting:
        taken = printer.receive(waiting, now)
        waiting = waiting[taken:]
        settle()
    printer.insert_book(book, now)
    settle()
    assert not book.inked()
    printer.receive(FORM_FEED, now)
    settle()
    assert bytes(book.rows) == raster.rows
    assert len(book.passes) == 1
