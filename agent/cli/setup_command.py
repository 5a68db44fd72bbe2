"""`print-agent setup`: a new station from a few answers; it installs nothing and overwrites nothing."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.options import Config
from agent.config import BookCheck, Driver, configuration_path, load_settings, settings_from
from agent.errors import ConfigurationInvalid
from agent.owner import as_owner

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.crypto.keys import StationKeys
    from agent.drivers.devices import SerialDevice, UsbDevice

commands = typer.Typer()
PANEL = "The station"

# A station that is valid but for the answer that is looked at.
PLACEHOLDER = {
    "station": {"id": "a"},
    "authority": {"id": "a"},
    "printers": {"main": {"driver": "virtual"}},
}


@dataclass(frozen=True, slots=True)
class _Question:
    """A question, and the option that answers it where nobody can be asked."""

    text: str
    option: str
    default: str | None = None


STATION = _Question("The station's id, as the authority knows it", "--station-id")
AUTHORITY = _Question("The authority's id", "--authority-id")
PROFILE = _Question(
    "The printer's profile: page-slip or column-slip", "--profile", default="page-slip"
)
BOOK_CHECK = _Question(
    "Books: present (each number is scanned first) or none (the operator is trusted)",
    "--book-check",
    default=BookCheck.PRESENT.value,
)
PRINTER_FORMS = "the path of a serial port, VENDOR:PRODUCT of a USB printer, or virtual"


@commands.command(rich_help_panel=PANEL)
def setup(
    config: Config = None,
    station_id: Annotated[str | None, typer.Option(metavar="ID", help="The station's id.")] = None,
    authority_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The authority's id.")
    ] = None,
    printer: Annotated[
        str | None, typer.Option(metavar="DEVICE", help=f"The printer: {PRINTER_FORMS}.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The printer's kind: page-slip or column-slip."),
    ] = None,
    book_check: Annotated[
        str | None,
        typer.Option(metavar="CHECK", help="present: a book's number is scanned first; none: not."),
    ] = None,
    state_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Where journal, keys and inbox lie; else /var/lib/print-agent.",
            show_default=False,
        ),
    ] = None,
    public: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the public keys are written; else ID.public.jwks in this folder.",
            show_default=False,
        ),
    ] = None,
    sealed: Annotated[
        bool,
        typer.Option(
            "--sealed", help="Keeps the keys as a credential that only this computer can open."
        ),
    ] = False,
) -> None:
    """Asks what a new station must know, writes station.toml, makes the keys, and shows what the authority needs.

    A station.toml and keys that are there stay as they are. Each answer can be given as an option.
    """
    from agent.cli.output import say

    path = configuration_path(config)
    given = {"station": station_id, "authority": authority_id, "printer": printer}
    given |= {"profile": profile, "book_check": book_check, "state_dir": state_dir}
    if path.exists():
        if sealed or any(answer is not None for answer in given.values()):
            raise ConfigurationInvalid(
                f"{path}: exists already and is never overwritten; change it with an editor, and call setup without answers"
            )
        say(f"{path}: is there and stays as it is")
    else:
        if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
            # Before anything is asked.
            raise ConfigurationInvalid(f"{path}: this user may not write it; use sudo")
        _write_new(path, _text(_answers(path, given), sealed=sealed))
        say(f"{path}: written; station.toml.example has every other key")
    settings = load_settings(path)
    keys = _keys(settings)
    _show_public(settings, keys, public or Path(f"{settings.station.id}.public.jwks"))
    say("")
    say("Next:")
    say("  1. Give the authority the public keys: the file above, or the code with a camera.")
    say(f"  2. Put the authority's own public keys into {settings.authority.trust}.")
    say("  3. Start it: systemctl start print-agent; then: print-agent status")


# Answers


def _answers(path: Path, given: dict[str, str | None]) -> dict[str, Any]:
    """The tables of station.toml."""
    station = _answer(STATION, given["station"], lambda said: _check(path, "station", {"id": said}))
    authority = _answer(
        AUTHORITY, given["authority"], lambda said: _check(path, "authority", {"id": said})
    )
    printer = _printer(path, given["printer"])
    printer["profile"] = _answer(
        PROFILE, given["profile"], lambda said: _check_printer(path, printer | {"profile": said})
    )
    printer["book_check"] = _answer(
        BOOK_CHECK,
        given["book_check"],
        lambda said: _check_printer(path, printer | {"book_check": said}),
    )
    place = {} if given["state_dir"] is None else {"state_dir": given["state_dir"]}
    return {
        "station": {"id": station} | place,
        "authority": {"id": authority},
        "printers": {"main": printer},
    }


def _answer(question: _Question, given: str | None, check: Callable[[str], None]) -> str:
    """What was given, or else what a person says; a wrong answer of a person is asked for again."""
    from agent.cli.output import say

    while True:
        answer = given if given is not None else _asked(question)
        try:
            check(answer)
        except ConfigurationInvalid as error:
            if given is not None:
                raise ConfigurationInvalid(f"{question.option}: {error}") from None
            say(str(error))
        else:
            return answer


def _asked(question: _Question) -> str:
    try:
        return str(typer.prompt(question.text, default=question.default)).strip()
    except typer.Abort:
        raise ConfigurationInvalid(
            f"no answer to: {question.text}; where nobody can be asked, give {question.option}"
        ) from None


def _check(path: Path, table: str, content: dict[str, Any]) -> None:
    settings_from(PLACEHOLDER | {table: content}, path)


def _check_printer(path: Path, printer: dict[str, Any]) -> None:
    from agent.drivers.profile import load_profile

    settings = settings_from(PLACEHOLDER | {"printers": {"main": printer}}, path).printers["main"]
    load_profile(settings.profile, settings.overrides)


def _printer(path: Path, given: str | None) -> dict[str, Any]:
    """The line of [printers.main]: what was given, or one of the devices that are connected."""
    from agent.cli.output import say
    from agent.drivers.devices import found_devices

    devices: list[SerialDevice | UsbDevice] = []
    if given is None:
        devices = found_devices()
        say("Connected are:" if devices else "No serial port and no USB printer is connected now.")
        for number, device in enumerate(devices, 1):
            say(f"  {number}  {_described(device)}")
    question = _Question(
        f"The printer: {'its number, ' if devices else ''}{PRINTER_FORMS}",
        "--printer",
        default="1" if devices else None,
    )
    line = _answer(question, given, lambda said: _check_printer(path, _line(said, devices)))
    return _line(line, devices)


def _described(device: SerialDevice | UsbDevice) -> str:
    from agent.drivers.devices import UsbDevice

    if isinstance(device, UsbDevice):
        serial = f", serial number {device.serial}" if device.serial else ""
        return f"USB {device.usb}: {device.product}{serial}"
    return str(device.port)


def _line(said: str, devices: list[SerialDevice | UsbDevice]) -> dict[str, Any]:
    """The keys that name a printer's line."""
    from agent.drivers.devices import UsbDevice

    if said == Driver.VIRTUAL:
        return {"driver": said}
    if said.isdecimal() and 1 <= int(said) <= len(devices):
        device = devices[int(said) - 1]
        if not isinstance(device, UsbDevice):
            return {"port": str(device.port)}
        serial = {} if device.serial is None else {"usb_serial": device.serial}
        return {"transport": "usb", "usb": device.usb} | serial
    if said.startswith("/"):
        return {"port": said}
    return {"transport": "usb", "usb": said}


# station.toml


def _text(tables: dict[str, Any], *, sealed: bool) -> str:
    if sealed:
        tables = tables | {"keys": {"sealed": True}}
    lines = []
    for name, table in tables.items():
        path, content = (f"{name}.main", table["main"]) if name == "printers" else (name, table)
        # Every string of JSON is one of TOML.
        values = [f"{key} = {json.dumps(value)}" for key, value in content.items()]
        lines += [f"[{path}]", *values, ""]
    return "\n".join(lines)


def _write_new(path: Path, text: str) -> None:
    """Writes the file whole or not at all; technicians read it to find the agent's socket."""
    from agent.crypto.keys import sync_directory

    settings_from(tomllib.loads(text), path)
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(0o644)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: cannot be written ({error.strerror})") from error


# Keys


def _keys(settings: Settings) -> StationKeys:
    """The station's keys; made where there are none."""
    from agent.cli.output import say
    from agent.crypto.keys import init_station_keys, load_station_keys
    from agent.crypto.sealed_keys import CREDENTIAL, seal_new_keys, unseal_keys

    if settings.keys.sealed:
        file, there = CREDENTIAL, CREDENTIAL.exists()
        keys = unseal_keys() if there else seal_new_keys()
    else:
        file, there = settings.keys.station, settings.keys.station.exists()
        with as_owner(settings.station.state_dir):
            keys = load_station_keys(file) if there else init_station_keys(file)
    done = "is there and stays as it is" if there else "made"
    say(f"{file}: {done}; thumbprint {keys.thumbprint()}")
    return keys


def _show_public(settings: Settings, keys: StationKeys, file: Path) -> None:
    from agent.cli.output import say, say_qr

    text = json.dumps(keys.public_jwks(), separators=(",", ":"))
    file.write_text(text + "\n", encoding="utf-8")
    say(f"{file}: the public keys of {settings.station.id}")
    say_qr(text)
