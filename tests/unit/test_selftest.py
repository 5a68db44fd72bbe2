"""Each thing that a station stands on, missing or broken: one condition, and what to do about it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import apsw
import pytest

from agent import disk, selftest
from agent.config import settings_from
from agent.crypto.jose import thumbprint
from agent.errors import ConfigurationInvalid, JournalDamaged
from agent.selftest import Part, examine
from agent.service import open_journal

NOW = 1_893_456_000
NOBODY = 65_534


class ClockDouble:
    def __init__(self, now=NOW):
        self.wall = now

    def now(self):
        return self.wall

    def monotonic(self):
        return 0.0


@pytest.fixture
def settings(tmp_path, vectors_dir):
    for name in ("station.jwks", "trust.jwks"):
        shutil.copyfile(vectors_dir / name, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    return settings_from(
        {
            "station": {"id": "sambas-01", "state_dir": str(tmp_path)},
            "authority": {"id": "imigrasi-jakarta"},
            "printers": {"main": {"driver": "virtual"}, "other": {"port": "/dev/null"}},
        },
        tmp_path / "station.toml",
    )


def found(settings, now=NOW):
    return list(examine(settings, clock=ClockDouble(now)))


def troubles(settings, now=NOW):
    return {finding.condition: finding for finding in found(settings, now) if finding.condition}


def make_journal(settings, now=NOW):
    journal, _ = open_journal(settings, clock=ClockDouble(now))
    return journal


def test_a_good_station_has_a_sentence_for_each_part_in_order(settings):
    make_journal(settings).close()
    findings = found(settings)
    parts = list(dict.fromkeys(finding.part.value for finding in findings))
    assert parts == ["disk", "journal", "keys", "clock", "printer", "link"]
    assert all(finding.sentence for finding in findings)
    assert troubles(settings) == {}


def test_looking_changes_nothing(settings):
    make_journal(settings).close()
    before = contents(settings)
    found(settings)
    assert contents(settings) == before


def contents(settings):
    """Every file but SQLite's shared memory and an empty log, which whoever reads makes anew."""
    return {
        path.name: content
        for path in settings.station.state_dir.iterdir()
        if path.suffix != ".db-shm" and (content := path.read_bytes())
    }


def test_a_missing_directory_does_not_hide_the_rest(settings):
    shutil.rmtree(settings.station.state_dir)
    trouble = troubles(settings)
    assert set(trouble) == {"disk-unusable", "keys-unusable"}
    assert isinstance(trouble["disk-unusable"].error, ConfigurationInvalid)
    assert "station.state_dir" in trouble["disk-unusable"].sentence


def with_mounts(monkeypatch, tmp_path, line):
    file = tmp_path / "mountinfo"
    file.write_text(f"28 1 259:2 / / {line}\n")
    monkeypatch.setattr(disk, "MOUNTINFO", file)


def test_a_read_only_disk_stops_the_start(settings, monkeypatch, tmp_path):
    with_mounts(monkeypatch, tmp_path, "ro,relatime - ext4 /dev/sda2 ro,errors=remount-ro")
    trouble = troubles(settings)["disk-unusable"]
    assert trouble.error is not None
    assert "dmesg" in trouble.sentence


def test_a_network_file_system_stops_the_start(settings, monkeypatch, tmp_path):
    with_mounts(monkeypatch, tmp_path, "rw,relatime - nfs4 nas:/x rw,vers=4.2")
    assert "local disk" in str(troubles(settings)["disk-unusable"].error)


def test_an_unsafe_option_is_told_and_starts(settings, monkeypatch, tmp_path):
    with_mounts(monkeypatch, tmp_path, "rw,relatime - ext4 /dev/sda2 rw,nobarrier")
    trouble = troubles(settings)["disk-unsafe"]
    assert trouble.error is None
    assert "/etc/fstab" in trouble.sentence


@pytest.mark.parametrize(
    ("cache", "word"), [("write back", "flushed"), ("write through", "hdparm"), (None, "free")]
)
def test_the_disks_write_cache_is_explained(settings, monkeypatch, cache, word):
    monkeypatch.setattr(disk, "write_cache_of", lambda mount: cache)
    (sentence,) = [each.sentence for each in found(settings) if each.part is Part.DISK]
    assert word in sentence


def test_a_full_disk_is_told_and_starts(settings, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 5_000_000)
    assert troubles(settings)["disk-full"].error is None


@pytest.fixture
def folder_of_others():
    """A folder that everybody may enter, unlike pytest's own; what it holds nobody may use."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "closed").mkdir(mode=0)
        (folder / "port").touch(mode=0)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def as_somebody_else(settings, folder_of_others):
    """Root may do anything; so root becomes nobody for the test."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    yield
    if root:
        os.seteuid(0)


def with_state_in(settings, folder):
    station = settings.station.model_copy(update={"state_dir": folder})
    return settings.model_copy(update={"station": station})


@pytest.mark.usefixtures("as_somebody_else")
def test_a_folder_of_another_user_stops_the_start(settings, folder_of_others):
    trouble = troubles(with_state_in(settings, folder_of_others))["disk-unusable"]
    assert trouble.error is not None
    assert "may not write" in trouble.sentence


@pytest.mark.usefixtures("as_somebody_else")
def test_a_folder_that_cannot_be_entered_is_told_for_what_it_is(settings, folder_of_others):
    trouble = troubles(with_state_in(settings, folder_of_others / "closed" / "s"))
    assert {"disk-unusable", "journal-unusable"} <= set(trouble)
    assert "Permission denied" in trouble["disk-unusable"].sentence


def test_a_damaged_journal_stops_the_start_and_names_the_backup(settings):
    settings.journal_path.write_bytes(b"no database" * 1000)
    (trouble,) = troubles(settings).values()
    assert trouble.condition == "journal-unusable"
    assert isinstance(trouble.error, JournalDamaged)
    assert "print-agent journal restore" in trouble.sentence


def test_another_programs_database_is_left_alone(settings):
    database = apsw.Connection(str(settings.journal_path))
    database.execute("CREATE TABLE diary (entry)")
    database.close()
    assert "not a journal" in troubles(settings)["journal-unusable"].sentence


def test_another_stations_journal_stops_the_start(settings):
    journal = make_journal(settings)
    journal.write(lambda tx: (tx.put("station", "id", value="medan-07"), tx.note("moved")))
    journal.close()
    assert "medan-07" in troubles(settings)["journal-unusable"].sentence


@pytest.mark.parametrize(
    ("key", "condition"), [("rolled_back", "journal-rolled-back"), ("retired", "retired")]
)
def test_what_the_journal_says_of_the_station_is_told(settings, key, condition):
    journal = make_journal(settings)
    journal.write(lambda tx: (tx.put("station", key, value=1), tx.note("said")))
    journal.close()
    assert troubles(settings)[condition].error is None


def test_keys_that_others_can_read_stop_the_start(settings):
    settings.keys.station.chmod(0o644)
    assert "chmod 600" in str(troubles(settings)["keys-unusable"].error)


def test_lost_keys_stop_the_start_and_none_are_made_in_their_place(settings):
    settings.keys.station.unlink()
    trouble = troubles(settings)["keys-unusable"]
    assert "put it back from its safe copy" in trouble.sentence
    assert not settings.keys.station.exists()


@pytest.mark.parametrize("name", ["trust.jwks", "station.jwks", "journal.db"])
def test_what_the_agent_may_not_open_is_told_also_to_root(settings, folder_of_others, name):
    """Copied there with sudo, say: root could read it, the agent cannot."""
    make_journal(settings).close()
    state = folder_of_others / "s"
    folder_of_others.chmod(0o755)
    shutil.copytree(settings.station.state_dir, state, ignore=shutil.ignore_patterns("s"))
    (state / name).chmod(0)
    if os.geteuid() == 0:
        for path in (state, *state.iterdir()):
            if path.name != name:
                shutil.chown(path, NOBODY)
    (trouble,) = troubles(moved(settings, state)).values()
    assert trouble.error is not None
    assert f"chown print-agent: {state / name}" in trouble.sentence


def moved(settings, folder):
    raw = {
        "station": {"id": "sambas-01", "state_dir": str(folder)},
        "authority": {"id": "imigrasi-jakarta"},
        "printers": {"main": {"driver": "virtual"}},
    }
    return settings_from(raw, folder / "station.toml")


def test_the_authoritys_keys_can_be_compared_by_telephone_also_renewed_ones(settings, vectors_dir):
    jwks = json.loads((vectors_dir / "trust.jwks").read_text())
    every = {f"{key.get('role', 'issuer')} {thumbprint(key)}" for key in jwks["keys"]}
    assert trusted(settings) == every
    jwks["keys"] = [key for key in jwks["keys"] if key.get("role") == "root"]
    journal = make_journal(settings)
    journal.write(
        lambda tx: (
            tx.put("station", "trust_version", value=2),
            tx.put("station", "trust", value=json.dumps(jwks)),
            tx.note("renewed"),
        )
    )
    journal.close()
    assert trusted(settings) == {told for told in every if told.startswith("root")}


def trusted(settings):
    (sentence,) = [each.sentence for each in found(settings) if each.part is Part.KEYS]
    return set(sentence.partition("trusted of the authority are ")[2].split(", "))


def test_sealed_keys_are_the_services_affair(settings, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    sealed = settings.keys.model_copy(update={"sealed": True})
    settings = settings.model_copy(update={"keys": sealed})
    settings.keys.station.unlink()
    assert troubles(settings) == {}


def test_a_boot_in_1970_is_told_even_by_a_new_station(settings):
    assert "1970-01-01" in troubles(settings, now=61)["clock-untrusted"].sentence


def test_before_the_first_start_the_clock_is_shown_and_afterwards_it_is_compared(settings):
    def told():
        (finding,) = [each for each in found(settings) if each.part == "clock"]
        assert finding.condition is None
        return finding.sentence

    assert "the clock says 2030-01-01 00:00:00 UTC" in told()
    journal = make_journal(settings)
    journal.write(lambda tx: tx.receipt("station-started", actor="agent"))
    journal.close()
    assert told() == "the clock agrees with all that the station has seen"


@pytest.mark.parametrize(
    ("seconds", "words"), [(-301, "set the clock right"), (86_401, "clock accept")]
)
def test_a_clock_against_the_journal_is_told(settings, seconds, words):
    journal = make_journal(settings)
    journal.write(lambda tx: tx.receipt("station-started", actor="agent"))
    journal.close()
    assert words in troubles(settings, now=NOW + seconds)["clock-untrusted"].sentence
    assert troubles(settings, now=NOW + seconds // 2) == {}


def test_a_missing_printer_is_told_and_starts(settings):
    printers = settings.printers | {
        "main": settings.printers["other"].model_copy(update={"port": settings.journal_path / "x"})
    }
    settings = settings.model_copy(update={"printers": printers})
    trouble = troubles(settings)["printer-offline"]
    assert trouble.error is None
    assert "plug the printer in" in trouble.sentence


@pytest.mark.usefixtures("as_somebody_else")
def test_a_printer_that_this_user_may_not_use_is_told(folder_of_others):
    finding = selftest._port("main", folder_of_others / "port")
    assert finding.condition == "printer-offline"
    assert "ls -lL" in finding.sentence


@pytest.mark.parametrize("kind", ["file", "closed"])
@pytest.mark.usefixtures("as_somebody_else")
def test_an_inbox_that_cannot_be_used_stops_the_start(settings, folder_of_others, kind):
    name = {"file": "port", "closed": "closed"}[kind]
    inbox = settings.inbox.model_copy(update={"directory": folder_of_others / name})
    told = str(troubles(settings.model_copy(update={"inbox": inbox}))["link-unusable"].error)
    assert f"inbox.directory: {folder_of_others / name} is no folder" in told


def test_a_missing_certificate_stops_the_start(settings):
    raw = {
        "station": {"id": "sambas-01", "state_dir": str(settings.station.state_dir)},
        "authority": {"id": "imigrasi-jakarta"},
        "printers": {"main": {"driver": "virtual"}},
        "http": {"authority": {}},
    }
    settings = settings_from(raw, settings.station.state_dir / "station.toml")
    assert "http.authority.cert" in str(troubles(settings)["link-unusable"].error)
