from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.drivers.escpos import IMAGE_BYTES_MAX, command_bytes_max, encode_page
from agent.drivers.profile import Profile, load_profile
from agent.model import Raster

HAZARDS = (b"\x10\x04", b"\x10\x05", b"\x10\x14")


class PageReader:
    """A printer's page memory, written from the command descriptions and not from the encoder."""

    def __init__(self, width: int, height: int) -> None:
        self.dots = [[0] * width for _ in range(height)]
        self.width, self.height = width, height
        self.commands: list[tuple[str, int]] = []  # name and length, in order
        self.bottoms: list[int] = []
        self.x = self.y = 0

    def _ink(self, x: int, y: int) -> None:
        if 0 <= x < self.width and 0 <= y < self.height:
            self.dots[y][x] = 1

    def read(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            name, length = self._command(data, at)
            self.commands.append((name, length))
            at += length
        assert at == len(data)

    def _command(self, data: bytes, at: int) -> tuple[str, int]:
        two = data[at : at + 2]
        if two == b"\x1bL":
            return "ESC L", 2
        if two == b"\x1dP":
            return "GS P", 4
        if two == b"\x1bW":
            x, y, width, height = struct.unpack_from("<4H", data, at + 2)
            assert (x, y) == (0, 0)
            assert width >= self.width
            assert height >= self.height
            return "ESC W", 10
        if two == b"\x1bT":
            assert data[at + 2] == 0
            return "ESC T", 3
        if two == b"\x1b$":
            (self.x,) = struct.unpack_from("<H", data, at + 2)
            return "ESC $", 4
        if two == b"\x1d$":
            (self.y,) = struct.unpack_from("<H", data, at + 2)
            return "GS $", 4
        if two == b"\x1dv":
            return self._raster(data, at)
        if two == b"\x1b*":
            return self._columns(data, at)
        raise AssertionError(f"unknown command at byte {at}: {two.hex()}")

    def _raster(self, data: bytes, at: int) -> tuple[str, int]:
        assert data[at + 2 : at + 4] == b"0\0"
        width_bytes, rows = struct.unpack_from("<2H", data, at + 4)
        assert width_bytes
        assert rows
        for row in range(rows):
            for column in range(width_bytes * 8):
                byte = data[at + 8 + row * width_bytes + column // 8]
                if byte >> (7 - column % 8) & 1:
                    self._ink(self.x + column, self.y - rows + row)
        self.bottoms.append(self.y)
        return "GS v 0", 8 + width_bytes * rows

    def _columns(self, data: bytes, at: int) -> tuple[str, int]:
        assert data[at + 2] == 0
        (count,) = struct.unpack_from("<H", data, at + 3)
        assert 1 <= count <= 1023
        for column in range(count):
            for dot in range(8):
                if data[at + 5 + column] >> (7 - dot) & 1:
                    self._ink(self.x + column, self.y - 8 + dot)
        self.bottoms.append(self.y)
        return "ESC *", 5 + count

    def raster_rows(self) -> bytes:
        stride = (self.width + 7) // 8
        rows = bytearray()
        for row in self.dots:
            bits = "".join(map(str, row)).ljust(stride * 8, "0")
            rows += int(bits, 2).to_bytes(stride, "big")
        return bytes(rows)


def profile_of(name: str, width: int, height: int) -> Profile:
    return load_profile(name, {"width": width, "height": height})


def raster_of(profile: Profile, rows: bytes) -> Raster:
    """A page of these rows, with the dots beyond its width taken away."""
    stride = (profile.width + 7) // 8
    assert len(rows) == stride * profile.height
    mask = (0xFF << (stride * 8 - profile.width)) & 0xFF
    kept = bytearray(rows)
    for last in range(stride - 1, len(kept), stride):
        kept[last] &= mask
    return Raster(profile.width, profile.height, profile.dpi_x, profile.dpi_y, bytes(kept))


def check(raster: Raster, profile: Profile) -> PageReader:
    page = encode_page(raster, profile)
    assert not any(hazard in page for hazard in HAZARDS)
    reader = PageReader(raster.width, raster.height)
    reader.read(page)
    assert reader.raster_rows() == raster.rows
    assert max(length for _, length in reader.commands) <= command_bytes_max(profile)
    assert reader.bottoms == sorted(reader.bottoms)  # the MRZ, at the bottom, comes last
    return reader


HAZARD_BYTES = st.sampled_from([0x10, 0x04, 0x05, 0x14, 0x08, 0x02, 0x20, 0x28, 0x00, 0xFF])
NAMES = st.sampled_from(["page-slip", "column-slip"])


@settings(deadline=None)
@given(
    name=NAMES,
    width=st.integers(8, 70),
    height=st.integers(8, 40),
    data=st.data(),
)
def test_any_page_is_rendered_dot_by_dot(
    name: str, width: int, height: int, data: st.DataObject
) -> None:
    profile = profile_of(name, width, height)
    count = (width + 7) // 8 * height
    some = data.draw(st.sampled_from([HAZARD_BYTES, st.integers(0, 255)]))
    rows = bytes(data.draw(st.lists(some, min_size=count, max_size=count)))
    check(raster_of(profile, rows), profile)


@pytest.mark.parametrize("name", ["page-slip", "column-slip"])
@pytest.mark.parametrize("pair", HAZARDS)
def test_a_photo_full_of_real_time_sequences_is_sent_without_one(name: str, pair: bytes) -> None:
    profile = profile_of(name, 160, 48)
    check(raster_of(profile, pair * (20 * 48 // 2)), profile)


@pytest.mark.parametrize("name", ["page-slip", "column-slip"])
def test_real_time_sequences_at_every_shift_are_split(name: str) -> None:
    # Each row holds 10 04 at all eight bit offsets, so no shift of the whole image helps.
    profile = profile_of(name, 320, 24)
    row = 0
    for offset in range(8):
        row |= 0x1004 << (offset * 33 + 5)
    rows = row.to_bytes(40, "big") * 24
    raster = raster_of(profile, rows)
    check(raster, profile)
    turned = Raster(24, 320, raster.dpi_x, raster.dpi_y, turn(raster))
    check(turned, profile_of(name, 24, 320))


def turn(raster: Raster) -> bytes:
    columns = []
    for x in range(raster.width):
        bits = 0
        for y in range(raster.height):
            bits = bits << 1 | (raster.row(y)[x // 8] >> (7 - x % 8) & 1)
        columns.append(bits.to_bytes((raster.height + 7) // 8, "big"))
    return b"".join(columns)


def test_a_row_that_ends_in_10_and_a_row_that_begins_with_04_do_not_meet() -> None:
    profile = profile_of("page-slip", 16, 8)
    check(raster_of(profile, bytes.fromhex("FF10 04FF") * 4), profile)


@pytest.mark.parametrize("name", ["page-slip", "column-slip"])
@pytest.mark.parametrize("size", [1040, 1296])  # 10 04 and 10 05 as a two-byte number
def test_positions_and_sizes_are_no_real_time_sequences(name: str, size: int) -> None:
    wide = profile_of(name, size, 16)
    check(raster_of(wide, b"\xff" * (size // 8 * 16)), wide)
    tall = profile_of(name, 16, size)
    check(raster_of(tall, b"\xff" * (2 * size)), tall)
    larger = profile_of(name, size + 40, 40)
    stride = (size + 40) // 8
    # An image that begins exactly at the column whose number is a sequence.
    rows = (bytes(size // 8) + b"\x90\x04\x10\x04\x10")[:stride]
    check(raster_of(larger, rows.ljust(stride, b"\0") * 40), larger)
    for last in range(size - 9, size):
        page = bytearray(2 * size)
        page[2 * last] = 0x10
        check(raster_of(tall, bytes(page)), tall)


@pytest.mark.parametrize("name", ["page-slip", "column-slip"])
def test_white_rows_cost_nothing(name: str) -> None:
    small, large = profile_of(name, 64, 16), profile_of(name, 64, 400)
    line = b"\x7e" * 8 * 8
    first = encode_page(raster_of(small, line + bytes(8 * 8)), small)
    second = encode_page(raster_of(large, bytes(8 * 200) + line + bytes(8 * 192)), large)
    assert len(first) == len(second)


@pytest.mark.parametrize("name", ["page-slip", "column-slip"])
def test_an_empty_page_has_no_image(name: str) -> None:
    profile = load_profile(name)
    count = (profile.width + 7) // 8 * profile.height
    reader = check(raster_of(profile, bytes(count)), profile)
    assert [name for name, _ in reader.commands] == ["ESC L", "GS P", "ESC W", "ESC T"]


def likely_page(profile: Profile, seed: int) -> Raster:
    """A photo of noise, lines of text-like strokes beside it, two long lines at the bottom."""
    source = random.Random(seed)
    width, height = profile.width, profile.height
    page = [[0] * width for _ in range(height)]

    def strokes(left: int, right: int, top: int, bottom: int, density: float) -> None:
        for y in range(max(0, top), min(bottom, height)):
            for x in range(left, right):
                page[y][x] = int(source.random() < density)

    inch_x, inch_y = profile.dpi_x, profile.dpi_y
    strokes(int(0.2 * inch_x), int(1.4 * inch_x), int(0.5 * inch_y), int(2.2 * inch_y), 0.5)
    text = max(7, inch_y // 12)
    for line in range(9):
        top = int((0.2 + 0.24 * line) * inch_y)
        strokes(int(1.6 * inch_x), int(4.4 * inch_x), top, top + text, 0.4)
    for line in range(2):
        top = int((2.75 + 0.25 * line) * inch_y)
        strokes(int(0.2 * inch_x), int(4.6 * inch_x), top, top + text, 0.4)
    rows = b"".join(
        int("".join(map(str, row)).ljust((width + 7) // 8 * 8, "0"), 2).to_bytes(
            (width + 7) // 8, "big"
        )
        for row in page
    )
    return Raster(width, height, inch_x, inch_y, rows)


@pytest.mark.parametrize("name", ["page-slip", "column-slip"])
def test_a_page_costs_no_more_than_its_ink_rows(name: str) -> None:
    profile = load_profile(name)
    raster = likely_page(profile, seed=1)
    reader = check(raster, profile)
    sent = sum(length for _, length in reader.commands)
    assert sent <= 1.1 * raster.inked_rows() * raster.stride


def test_no_image_reaches_over_the_edge_where_its_ink_does_not_need_it() -> None:
    profile = profile_of("page-slip", 30, 8)
    page = encode_page(raster_of(profile, bytes.fromhex("0000001C") * 8), profile)
    assert b"\x1b\x24\x16\x00" in page  # 22: one byte, columns 22 to 29


def test_no_image_is_longer_than_what_nuls_complete() -> None:
    profile = load_profile("page-slip")
    rows = b"\xff" * ((profile.width + 7) // 8 * profile.height)
    reader = check(raster_of(profile, rows), profile)
    assert max(length for _, length in reader.commands) <= 8 + IMAGE_BYTES_MAX


def test_a_hybrid_printer_is_told_its_station_before_the_page() -> None:
    profile = load_profile("page-slip", {"station_select": "1B633004"})
    count = (profile.width + 7) // 8 * profile.height
    page = encode_page(raster_of(profile, bytes(count)), profile)
    assert page.startswith(b"\x1bc0\x04\x1bL")


def test_a_page_of_another_size_is_refused() -> None:
    profile = load_profile("page-slip")
    raster = raster_of(profile, bytes((profile.width + 7) // 8 * profile.height))
    with pytest.raises(ValueError, match="886"):
        encode_page(replace(raster, dpi_x=90), profile)
    with pytest.raises(ValueError, match="886"):
        encode_page(raster, profile_of("page-slip", 64, 64))
