from __future__ import annotations

import dataclasses
from importlib import resources

import pytest

from agent.drivers.profile import (
    Anchor,
    ClearMethod,
    CounterKept,
    Fence,
    ImageCommand,
    Profile,
    build_profile,
    load_profile,
    profile_names,
)
from agent.errors import ConfigurationInvalid


def test_both_profiles_are_what_the_contract_says() -> None:
    assert profile_names() == ("column-slip", "page-slip")
    page, column = load_profile("page-slip"), load_profile("column-slip")
    # TD3 is 125 x 88 mm.
    assert (page.dpi_x, page.dpi_y, page.width, page.height) == (180, 180, 886, 624)
    assert (column.dpi_x, column.dpi_y, column.width, column.height) == (80, 72, 394, 249)
    assert (page.image, page.fence) == (ImageCommand.RASTER, Fence.PROCESS_ID)
    assert (column.image, column.fence) == (ImageCommand.COLUMN, Fence.PAPER_SENSOR)
    assert page.anchor is column.anchor is Anchor.LOWER_LEFT
    assert (page.clear, column.clear) == (ClearMethod.REALTIME, ClearMethod.INITIALIZE)
    assert (page.serial, page.counter, page.counter_kept) == (True, 138, CounterKept.LOST)
    assert (column.serial, column.counter, column.counter_kept) == (False, 0, CounterKept.UNKNOWN)


def test_a_station_overrides_a_key() -> None:
    profile = load_profile(
        "page-slip",
        {"counter_kept": "durable", "page_seconds": 12, "station_select": "1B 63 30 04"},
    )
    assert profile.counter_kept is CounterKept.DURABLE
    assert profile.page_seconds == 12.0
    assert profile.station_select == b"\x1bc0\x04"
    assert load_profile("page-slip").counter_kept is CounterKept.LOST


def test_a_counter_that_does_not_exist_proves_nothing() -> None:
    assert load_profile("page-slip", {"counter": 0}).counter_kept is CounterKept.UNKNOWN


@pytest.mark.parametrize("name", ["page", "", "../page-slip", "page-slip.toml", "/etc/passwd"])
def test_an_unknown_profile_names_those_that_exist(name: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="column-slip, page-slip"):
        load_profile(name)


WRONG: list[tuple[str, object, str]] = [
    ("dpi_x", 256, "30 to 255"),
    ("dpi_y", 29, "30 to 255"),
    ("width", 2041, "8 to 2040"),
    ("height", 7, "8 to 2040"),
    ("width", True, "whole number"),
    ("width", 886.0, "whole number"),
    ("image", "graphics", "'raster', 'column'"),
    ("anchor", "upper-left", "'lower-left'"),
    ("fence", "none", "'process-id', 'paper-sensor'"),
    ("clear", 1, "'realtime', 'initialize'"),
    ("page_seconds", 0, "more than 0"),
    ("page_seconds", float("nan"), "more than 0"),
    ("page_seconds", 3601, "at most 3600"),
    ("reply_seconds", "5", "seconds"),
    ("reply_seconds", True, "seconds"),
    ("serial", "yes", "true or false"),
    ("model", "name", "'text', 'id'"),
    ("counter", -1, "0 to 255"),
    ("counter_kept", "kept", "'lost', 'durable', 'unknown'"),
    ("offline_response", 1, "true or false"),
    ("station_select", "1B6", "hexadecimal"),
    ("station_select", 27, "hexadecimal"),
    ("station_select", "0C", "ESC c 0 n"),  # prints
    ("station_select", "1B6301", "ESC f 0 t2"),
    ("station_select", "1B660100", "ESC f 0 t2"),  # on its time-out a hybrid prints on the roll
    ("station_select", "1B63301004", "without 10 04"),
    ("station_select", "1B633004" * 17, "up to 64 bytes"),
    ("slip_mask", 0, "1 to 127"),
    ("automatic_mask", 128, "1 to 127"),
    ("colour", "blue", "unknown key"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG)
def test_a_wrong_value_is_one_line_with_file_key_found_and_allowed(
    key: str, value: object, allowed: str
) -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        load_profile("page-slip", {key: value})
    text = str(refused.value)
    assert text.startswith(f"page-slip.toml, overrides: {key}: ")
    assert allowed in text
    assert "\n" not in text
    assert allowed == "unknown key" or f"found {value!r}" in text


def test_a_missing_key_of_a_profile_file_is_named() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"new\.toml: anchor: missing"):
        build_profile("new", {"dpi_x": 180}, {})


def test_every_profile_file_has_every_key_and_no_other() -> None:
    names = {field.name for field in dataclasses.fields(Profile)} - {"name"}
    for name in profile_names():
        text = resources.files("agent.drivers").joinpath(f"profiles/{name}.toml").read_text("utf-8")
        keys = {line.split(" = ")[0] for line in text.splitlines() if " = " in line[:40]}
        assert {key for key in keys if not key.startswith("#")} == names
