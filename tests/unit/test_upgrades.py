"""A station that an earlier version left goes on: its journal, its configuration."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import apsw
import pytest

from agent import config
from agent.config import load_settings
from agent.errors import ConfigurationInvalid, JournalDamaged
from agent.queue import journal
from agent.queue.damage import checked_vfs
from agent.queue.journal import open_connection
from agent.queue.migrations import SCHEMA_VERSION
from agent.verification import verify_journal
from tests.integration.station_fixture import FixedClock, index, serving

UPGRADES = Path(__file__).parents[1] / "upgrades"
VERSIONS = range(1, SCHEMA_VERSION + 1)


def kept(version, name):
    file = UPGRADES / f"v{version}" / name
    assert file.is_file(), (
        f"keep a station of schema version {version}: tests/upgrades/keep_station.py"
    )
    return file


def unpack(version, target):
    target.write_bytes(gzip.decompress(kept(version, "journal.db.gz").read_bytes()))
    return target


def opened(path):
    return open_connection(path, vfs=checked_vfs())


def schema(path):
    """What the database is made of, without white space."""
    connection = apsw.Connection(str(path))
    try:
        return sorted(
            re.sub(r"--[^\n]*|\s", "", sql or name)
            for name, sql in connection.execute("SELECT name, sql FROM sqlite_master")
        )
    finally:
        connection.close()


def version_of(path):
    connection = apsw.Connection(str(path))
    try:
        return connection.execute("PRAGMA user_version").get
    finally:
        connection.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_journal_of_every_version_becomes_what_a_new_one_is(tmp_path, version):
    old = unpack(version, tmp_path / "old.db")
    opened(old).close()
    opened(tmp_path / "new.db").close()
    assert version_of(old) == SCHEMA_VERSION
    assert schema(old) == schema(tmp_path / "new.db"), (
        "schema.sql and migrations.py lead to different tables: a change of schema.sql is a new version"
    )
    report = verify_journal(old, station_id="sambas-01", authority_id="imigrasi-jakarta")
    assert report.faults == ()
    assert report.jobs == len(json.loads(kept(version, "jobs.json").read_text()))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_station_of_every_version_goes_on_with_its_jobs(tmp_path, version):
    (tmp_path / "s").mkdir(mode=0o700)
    unpack(version, tmp_path / "s" / "journal.db").chmod(0o600)
    before = json.loads(kept(version, "jobs.json").read_text())
    with serving(tmp_path, clock=FixedClock(index()["now"])) as client:
        after = {job["id"]: job for job in client.get("/v1/jobs")}
    ours = ("state", "book", "attempts", "accepted_at", "exp", "ended_at", "priority")
    for job in before:
        now = after.pop(job["id"])
        assert {name: now[name] for name in ours} == {name: job[name] for name in ours}
    assert after == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_configuration_of_every_version_is_still_read(version):
    settings = load_settings(kept(version, "station.toml"))
    assert settings.station.id == "sambas-01"
    assert set(settings.printers) == {"main", "second", "training"}


# The frame, with a version that does not exist yet


@pytest.fixture
def next_version(monkeypatch):
    def migrate_with(script):
        monkeypatch.setattr(journal, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        monkeypatch.setattr(journal, "MIGRATIONS", {SCHEMA_VERSION + 1: script})

    return migrate_with


@pytest.fixture
def newest(tmp_path):
    return unpack(SCHEMA_VERSION, tmp_path / "journal.db")


def test_a_migration_happens_once_and_keeps_what_is_there(newest, next_version):
    next_version("ALTER TABLE jobs ADD COLUMN desk TEXT; UPDATE jobs SET desk = 'north';")
    for _ in range(2):
        opened(newest).close()
    connection = apsw.Connection(str(newest))
    assert {row[0] for row in connection.execute("SELECT desk FROM jobs")} == {"north"}
    connection.close()
    assert version_of(newest) == SCHEMA_VERSION + 1


def test_a_migration_that_breaks_off_has_not_happened(newest, next_version):
    before = schema(newest)
    next_version("ALTER TABLE jobs ADD COLUMN desk TEXT; UPDATE nowhere SET desk = 1;")
    with pytest.raises(apsw.SQLError):
        opened(newest)
    assert schema(newest) == before
    assert version_of(newest) == SCHEMA_VERSION


def test_a_journal_of_a_newer_version_is_refused_and_left_alone(newest, next_version, monkeypatch):
    next_version("ALTER TABLE jobs ADD COLUMN desk TEXT;")
    opened(newest).close()
    monkeypatch.undo()
    content = newest.read_bytes()
    with pytest.raises(JournalDamaged, match="install the newer agent again"):
        opened(newest)
    assert newest.read_bytes() == content


# Keys that were renamed


@pytest.fixture
def renamed(monkeypatch):
    monkeypatch.setattr(config, "RENAMED", {"retention.days": "retention.documents_days"})


@pytest.fixture
def station_toml(tmp_path):
    file = tmp_path / "station.toml"
    shutil.copyfile(kept(1, "station.toml"), file)
    return file


def test_a_renamed_key_is_still_read(renamed, station_toml):
    text = station_toml.read_text().replace("documents_days = 30", "days = 7")
    station_toml.write_text(text)
    assert load_settings(station_toml).retention.documents_days == 7


def test_a_wrong_value_of_a_renamed_key_is_told_under_its_new_name(renamed, station_toml):
    station_toml.write_text(station_toml.read_text().replace("documents_days = 30", "days = -7"))
    with pytest.raises(ConfigurationInvalid, match=r"retention\.documents_days: found -7"):
        load_settings(station_toml)


def test_a_key_under_both_names_is_a_mistake(renamed, station_toml):
    text = station_toml.read_text().replace("documents_days = 30", "documents_days = 30\ndays = 7")
    station_toml.write_text(text)
    with pytest.raises(ConfigurationInvalid, match=r"retention\.days: .* documents_days"):
        load_settings(station_toml)
