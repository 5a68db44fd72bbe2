"""No real-time sequence in what is sent as page, whatever the photo (CONTRACT 8 rule 5)."""

from __future__ import annotations

import io
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from agent.drivers.escpos import (
    REALTIME_SEQUENCE,
    commit,
    counter,
    encode_page,
    motion_units,
    process_id,
)
from agent.drivers.profile import load_profile
from agent.model import PROCESS_ID_COUNT
from agent.page.layout import compose
from tests.unit.page.page_samples import SAMPLE

SIDE = 64  # the smallest photo that is taken
GREYS = st.one_of(
    st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(SIDE * SIDE)),
    # Stripes, gratings and flat fields are what error diffusion turns into repeated bytes.
    st.binary(min_size=1, max_size=48).map(lambda tile: (tile * SIDE * SIDE)[: SIDE * SIDE]),
)


@pytest.mark.parametrize("name", ["page-slip", "column-slip"])
@settings(deadline=None)
@given(greys=GREYS, dpi=st.sampled_from([(60, 60), (80, 72), (90, 90)]))
def test_whatever_the_photo_no_real_time_sequence_is_sent(name, greys, dpi):
    picture = io.BytesIO()
    Image.frombytes("L", (SIDE, SIDE), greys).save(picture, "PNG")
    size = {"dpi_x": dpi[0], "dpi_y": dpi[1], "width": 5 * dpi[0], "height": 3 * dpi[1]}
    page = compose(replace(SAMPLE, photo=picture.getvalue()), **size)
    assert not REALTIME_SEQUENCE.search(encode_page(page, load_profile(name, size)))


@given(number=st.integers(0, PROCESS_ID_COUNT - 1))
def test_no_process_id_makes_one(number):
    profile = load_profile("page-slip")
    assert not REALTIME_SEQUENCE.search(process_id(number))
    assert not REALTIME_SEQUENCE.search(commit(profile, number))


def test_no_parameter_of_a_profile_makes_one():
    for value in range(256):
        assert not REALTIME_SEQUENCE.search(counter(value))
        for other in range(30, 256):
            assert not REALTIME_SEQUENCE.search(motion_units(value, other))
