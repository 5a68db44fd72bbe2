"""The nightly copy: a new one first, then the oldest go; the units tell commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from station_fixture import prepare, serving
from typer.testing import CliRunner

from agent.backup import backup_into
from agent.cli.app import app
from agent.config import load_settings
from agent.errors import ConfigurationInvalid, JournalDamaged
from agent.verification import verify_journal

ROOT = Path(__file__).parents[2]
NIGHT = 1_893_456_000
DAY_S = 86_400


@pytest.fixture
def settings(tmp_path):
    with serving(tmp_path):
        pass
    return load_settings(prepare(tmp_path, 'driver = "virtual"'))


def copies(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_copies_stay_and_nothing_else_is_touched(settings, tmp_path):
    folder = tmp_path / "copies"
    folder.mkdir()
    (folder / "journal-monday.db").write_text("somebody's own")
    for night in range(4):
        newest = backup_into(settings, folder, keep=2, now=NIGHT + night * DAY_S)
    assert copies(folder) == [
        "journal-20300103T000000Z.db",
        "journal-20300104T000000Z.db",
        "journal-monday.db",
    ]
    assert newest == folder / "journal-20300104T000000Z.db"
    assert newest.stat().st_mode & 0o777 == 0o600
    report = verify_journal(newest, station_id="sambas-01", authority_id="imigrasi-jakarta")
    assert report.faults == ()


def test_a_night_that_fails_takes_no_older_copy_away(settings, tmp_path):
    folder = tmp_path / "copies"
    backup_into(settings, folder, keep=1, now=NIGHT)
    settings.journal_path.unlink()
    with pytest.raises(JournalDamaged):
        backup_into(settings, folder, keep=1, now=NIGHT + DAY_S)
    assert copies(folder) == ["journal-20300101T000000Z.db"]


def test_a_folder_that_cannot_be_used_is_one_line(settings, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationInvalid, match="folder that this user may write"):
        backup_into(settings, tmp_path / "file" / "copies", keep=1, now=NIGHT)


def command(*arguments):
    return CliRunner().invoke(app, arguments)


def test_the_command_copies_into_the_folder(settings, tmp_path):
    configuration = ("--config", str(tmp_path / "station.toml"))
    done = command("journal", "backup", "--directory", str(tmp_path / "copies"), *configuration)
    assert done.exit_code == 0
    (name,) = copies(tmp_path / "copies")
    assert name in done.output


@pytest.mark.parametrize("arguments", [(), ("x.db", "--directory", "copies")])
def test_a_copy_without_a_place_or_with_two_is_wrong_usage(arguments):
    assert command("journal", "backup", *arguments).exit_code == 2


@pytest.mark.parametrize(
    "told",
    [
        line
        for unit in sorted((ROOT / "systemd").glob("*.service"))
        for line in re.findall(
            r"^ExecStart=/usr/bin/print-agent (.*)$", unit.read_text(), re.MULTILINE
        )
    ],
)
def test_a_unit_starts_a_command_that_exists(told):
    words = told.split()
    path = [word for word in words if re.fullmatch(r"[a-z]+", word)]
    help_text = command(*path, "--help")
    assert help_text.exit_code == 0
    for option in (word for word in words if word.startswith("--")):
        assert option in help_text.output
