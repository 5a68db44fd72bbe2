"""What one kind of book printer can do and how it says it: data from ``profiles/NAME.toml``."""

from __future__ import annotations

import enum
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, TypeVar

from agent.errors import ConfigurationInvalid
from agent.model import CounterKept

DPI_MIN, DPI_MAX = 30, 255  # GS P takes one byte for each direction
DOTS_MIN = 8  # one column image of ESC * m = 0 is eight dots high
DOTS_MAX = 2040  # 255 bytes a row: the high byte of GS v 0 stays zero
SECONDS_MAX = 3_600.0
STATION_SELECT_BYTES_MAX = 64
COUNTER_MAX = 255  # the numbers of GS g 2 that are known, PRINTERS 1.7

Word = TypeVar("Word", bound=enum.StrEnum)

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_REALTIME_SEQUENCE = re.compile(rb"\x10[\x04\x05\x14]")  # CONTRACT 8 rule 5
# ESC c 0 n, ESC c 1 n and ESC f 0 t2 (CONTRACT 8 rule 8): nothing that prints or moves a book.
_STATION_COMMANDS = re.compile(rb"(?:\x1bc[01][\x00-\x0f]|\x1bf\x00[\x00-\x40])*", re.DOTALL)


class ImageCommand(enum.StrEnum):
    """How the dots of a page are sent."""

    RASTER = "raster"  # GS v 0
    COLUMN = "column"  # ESC * m = 0


class Anchor(enum.StrEnum):
    """Which corner of an image stands at the print position in page mode."""

    LOWER_LEFT = "lower-left"


class Fence(enum.StrEnum):
    """The request whose reply tells that the printing is complete."""

    PROCESS_ID = "process-id"  # GS ( H fn 48
    PAPER_SENSOR = "paper-sensor"  # ESC v


class ClearMethod(enum.StrEnum):
    """How the printer's buffers are proven empty, CONTRACT 8 rule 3."""

    REALTIME = "realtime"  # DLE DC4 fn 8 and its reply
    INITIALIZE = "initialize"  # NULs, ESC @, a fence


class ModelQuery(enum.StrEnum):
    """How the printer names its model."""

    TEXT = "text"  # GS I 67
    ID = "id"  # GS I 1, one byte


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of printer.

    Attributes:
        name: the file's name without its ending.
        dpi_x: dots an inch across the page.
        dpi_y: dots an inch down the page.
        width: the page's width in dots.
        height: the page's height in dots.
        image: the image command.
        anchor: the corner of an image that stands at the print position.
        fence: the completion request.
        clear: how the buffers are cleared.
        page_seconds: a true upper bound from the commit of a page to its completion reply.
        reply_seconds: how long an idle printer may take for a reply.
        serial: whether GS I 68 is answered.
        model: how the model is asked.
        counter: the number of GS g 2 that counts inked rows, 0 where there is none.
        counter_kept: what becomes of that counter at power-off; unknown where there is none.
        offline_response: whether GS ( H fn 49 exists.
        station_select: what a hybrid printer is sent before a page is loaded, else empty.
        slip_mask: bits of the DLE EOT 5 reply of which each says "no paper" under one sensor.
        slip_waiting_mask: the bit of that reply that says "waiting for a book".
        automatic_slip_mask: as slip_mask, in the third byte of an automatic status block.
        automatic_mask: the parameter of GS a that switches the automatic status on.
    """

    name: str
    dpi_x: int
    dpi_y: int
    width: int
    height: int
    image: ImageCommand
    anchor: Anchor
    fence: Fence
    clear: ClearMethod
    page_seconds: float
    reply_seconds: float
    serial: bool
    model: ModelQuery
    counter: int
    counter_kept: CounterKept
    offline_response: bool
    station_select: bytes
    slip_mask: int
    slip_waiting_mask: int
    automatic_slip_mask: int
    automatic_mask: int


def profile_names() -> tuple[str, ...]:
    """The profiles that are installed."""
    files = resources.files("agent.drivers").joinpath("profiles").iterdir()
    return tuple(sorted(file.name[:-5] for file in files if file.name.endswith(".toml")))


def load_profile(name: str, overrides: Mapping[str, object] | None = None) -> Profile:
    """Reads a profile and replaces the keys that a station overrides.

    Raises:
        ConfigurationInvalid: no such profile; or a key that is unknown, missing or has a value
            that is not allowed.
    """
    known = profile_names()
    if name not in known or not _NAME.fullmatch(name):
        raise ConfigurationInvalid(
            f"profile: found {name!r}; allowed is the name of a file in agent/drivers/profiles: "
            + ", ".join(known)
        )
    file = resources.files("agent.drivers").joinpath("profiles").joinpath(f"{name}.toml")
    try:
        found: dict[str, object] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationInvalid(f"{name}.toml: cannot be read as TOML: {error}") from error
    return build_profile(name, found, overrides or {})


def build_profile(
    name: str, found: Mapping[str, object], overrides: Mapping[str, object]
) -> Profile:
    """Checks a profile's table and a station's overrides; no file is read.

    Raises:
        ConfigurationInvalid: one line that names file, key, what was found and what is allowed.
    """
    tables = ((f"{name}.toml", found), (f"{name}.toml, overrides", overrides))
    values: dict[str, Any] = {}
    for where, table in tables:
        for key, value in table.items():
            read = _READERS.get(key)
            if read is None:
                raise ConfigurationInvalid(
                    f"{where}: {key}: unknown key; allowed: {', '.join(sorted(_READERS))}"
                )
            values[key] = read(f"{where}: {key}", value)
    missing = sorted(_READERS.keys() - values.keys())
    if missing:
        raise ConfigurationInvalid(f"{name}.toml: {missing[0]}: missing, it has no default")
    if values["counter"] == 0:
        values["counter_kept"] = CounterKept.UNKNOWN  # a counter that does not exist keeps nothing
    return Profile(name=name, **values)


def _refuse(where: str, value: object, allowed: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(f"{where}: found {value!r}; allowed: {allowed}")


def _whole(minimum: int, maximum: int) -> Callable[[str, object], int]:
    def read(where: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise _refuse(where, value, f"a whole number, {minimum} to {maximum}")
        return value

    return read


def _mask(*, zero_allowed: bool) -> Callable[[str, object], int]:
    return _whole(0 if zero_allowed else 1, 0x7F)


def _seconds(where: str, value: object) -> float:
    # NaN fails the comparison too.
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 < value <= SECONDS_MAX
    ):
        raise _refuse(where, value, f"seconds, more than 0, at most {SECONDS_MAX:g}")
    return float(value)


def _truth(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _refuse(where, value, "true or false")
    return value


def _word(words: type[Word]) -> Callable[[str, object], Word]:
    def read(where: str, value: object) -> Word:
        for word in words:
            if word.value == value:
                return word
        raise _refuse(where, value, ", ".join(repr(word.value) for word in words))

    return read


def _station_select(where: str, value: object) -> bytes:
    allowed = (
        f"up to {STATION_SELECT_BYTES_MAX} bytes as hexadecimal digits, made of ESC c 0 n, "
        "ESC c 1 n and ESC f 0 t2, without 10 04, 10 05 or 10 14"
    )
    try:
        commands = bytes.fromhex(value) if isinstance(value, str) else None
    except ValueError:
        commands = None
    if (
        commands is None
        or len(commands) > STATION_SELECT_BYTES_MAX
        or not _STATION_COMMANDS.fullmatch(commands)
        or _REALTIME_SEQUENCE.search(commands)
    ):
        raise _refuse(where, value, allowed)
    return commands


_READERS: dict[str, Callable[[str, object], object]] = {
    "dpi_x": _whole(DPI_MIN, DPI_MAX),
    "dpi_y": _whole(DPI_MIN, DPI_MAX),
    "width": _whole(DOTS_MIN, DOTS_MAX),
    "height": _whole(DOTS_MIN, DOTS_MAX),
    "image": _word(ImageCommand),
    "anchor": _word(Anchor),
    "fence": _word(Fence),
    "clear": _word(ClearMethod),
    "page_seconds": _seconds,
    "reply_seconds": _seconds,
    "serial": _truth,
    "model": _word(ModelQuery),
    "counter": _whole(0, COUNTER_MAX),
    "counter_kept": _word(CounterKept),
    "offline_response": _truth,
    "station_select": _station_select,
    "slip_mask": _mask(zero_allowed=False),
    "slip_waiting_mask": _mask(zero_allowed=True),
    "automatic_slip_mask": _mask(zero_allowed=False),
    "automatic_mask": _mask(zero_allowed=False),
}
assert _READERS.keys() | {"name"} == {field.name for field in fields(Profile)}  # one reader a field
