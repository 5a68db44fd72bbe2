"""What the package says about itself: the example of a configuration, and the manual page."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import typer

from agent.cli.app import app
from agent.config import Settings, settings_from
from tools import example_configuration, manual_page

FILE = Path("/etc/print-agent/station.toml")
MINIMAL = {
    "station": {"id": example_configuration.SAMPLES["station.id"]},
    "authority": {"id": example_configuration.SAMPLES["authority.id"]},
    "printers": {"main": {"port": example_configuration.SAMPLES["printers.main.port"]}},
}


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=[\[a-z])", "", example_configuration.text())


def test_the_example_is_a_configuration_that_says_no_more_than_is_needed():
    table = tomllib.loads(example_configuration.text())
    assert settings_from(table, FILE) == settings_from(MINIMAL, FILE)


def test_every_line_of_the_example_is_taken_and_shows_the_default():
    settings = settings_from(tomllib.loads(uncommented()), FILE)
    defaults = settings_from(MINIMAL, FILE)
    for name in Settings.model_fields:
        found, default = getattr(settings, name), getattr(defaults, name)
        # What has no default is a sample: whole tables, and these keys.
        if default is None or name == "readers":
            continue
        if name == "printers":
            found, default = found["main"], default["main"]
        differ = {
            key
            for key in type(default).model_fields
            if getattr(found, key) != getattr(default, key)
        }
        assert differ <= {"listen", "authority", "usb", "usb_serial"}, name


def test_the_example_has_every_table():
    tables = set(tomllib.loads(uncommented()))
    assert tables == set(Settings.model_fields)


def commands(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, (*path, name))
        elif not command.hidden:
            yield " ".join((*path, name))


def test_the_manual_page_has_every_command():
    told = re.findall(r"(?m)^\.SS ([a-z \\-]+)", manual_page.text())
    told_commands = {told_one.replace("\\-", "-").strip() for told_one in told}
    assert set(commands(typer.main.get_command(app))) == told_commands


def test_no_line_of_the_manual_page_becomes_a_macro_by_accident():
    macros = {line.split()[0] for line in manual_page.text().splitlines() if line.startswith(".")}
    assert macros <= {".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".BR", ".I", ".IR", ".RB"}
    assert manual_page.plain(".hidden\n'quoted\n\\n") == "\\&.hidden\n\\&'quoted\n\\en"
