"""A journal that is not what was written is found, is never deleted or made anew, and the error says what to do."""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path

import apsw
import pytest
from station_fixture import (
    VECTORS,
    FixedClock,
    index,
    serving,
)

from agent.backup import backup_journal, restore_journal
from agent.cli.client import Client
from agent.clock import SystemClock
from agent.config import load_settings
from agent.crypto.keys import load_station_keys
from agent.crypto.receipts import ChainVerifier, public_keys
from agent.errors import JournalDamaged
from agent.queue import damage
from agent.queue.damage import DAMAGES, PAGE_SIZE, checked_vfs, damaged
from agent.queue.journal import Reader, open_for_reading
from agent.queue.witness import Witness
from agent.salvage import salvage_journal
from agent.service import open_journal
from agent.verification import verify_journal

NAMES = ("valid-es256", "valid-sex-f", "revoke-never", "reason-256")
WHAT_TO_DO = r"is damaged; it was left as it is\..*`print-agent journal salvage DIR`.*`print-agent journal restore FILE`"


def submit(client: Client, *names: str) -> None:
    for name in names:
        raw = (VECTORS / f"messages/{name}.jws").read_bytes()
        assert client.call("POST", "/v1/messages", raw, kind="application/jose")[0] == 201


@pytest.fixture(autouse=True)
def _no_second_look(monkeypatch):
    monkeypatch.setattr(damage, "_LOOKS", 1)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A station that took messages, erased one document and was stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    with serving(folder, clock=FixedClock(index()["now"])) as client:
        submit(client, *NAMES)
    return folder


@pytest.fixture(scope="module")
def killed(stopped, tmp_path_factory) -> Path:
    """The same, killed in its next run: the newest commits lie in the write-ahead log only."""
    running = Copy(stopped, tmp_path_factory.mktemp("killed") / "running")
    journal, _ = open_journal(running.settings, clock=SystemClock())
    begun = partial(journal.write, lambda tx: tx.receipt("station-started", actor="agent"))
    begun()
    witness = Witness(journal)
    for _ in range(5):
        begun()
    # What the disk holds while it runs is what a kill leaves.
    killed = shutil.copytree(running.path.parents[1], running.path.parents[2] / "killed")
    witness.close()
    journal.close()
    return killed


class Copy:
    """A copy of such a station, to be damaged."""

    def __init__(self, original: Path, folder: Path) -> None:
        shutil.copytree(original, folder, ignore=shutil.ignore_patterns("*.sock"))
        self.settings = load_settings(folder / "station.toml")
        self.path = self.settings.journal_path
        self.log = self.path.with_name("journal.db-wal")

    def start(self) -> None:
        """Opens the journal as a start of the agent does."""
        open_journal(self.settings, clock=SystemClock())[0].close()

    def station(self, key: str):
        """One value of the station's own settings."""
        connection = open_for_reading(self.path)
        value = Reader(connection).station(key)
        connection.close()
        return value

    def verify(self):
        return verify_journal(
            self.path,
            station_id=self.settings.station.id,
            authority_id=self.settings.authority.id,
        )

    def told(self) -> str:
        """What `journal verify` finds."""
        try:
            return "; ".join(self.verify().faults)
        except JournalDamaged as error:
            return str(error)

    def flip(self, path: Path, at: int) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 0x04]))

    def refuses(self, text: str = "") -> None:
        """The start says so, and leaves everything as it is."""
        before = self.files()
        with pytest.raises(JournalDamaged, match=WHAT_TO_DO) as refused:
            self.start()
        assert text in str(refused.value)
        assert self.files() == before

    def files(self) -> dict[str, bytes]:
        names = (self.path, self.log, self.path.with_name("journal.db.witness"))
        return {
            path.name: path.read_bytes() for path in names if path.exists() and path.stat().st_size
        }


@pytest.fixture
def copy(stopped, tmp_path) -> Copy:
    return Copy(stopped, tmp_path / "copy")


@pytest.fixture
def torn(killed, tmp_path) -> Copy:
    return Copy(killed, tmp_path / "torn")


def test_a_station_that_was_stopped_or_killed_is_whole(copy, torn):
    for station in (copy, torn):
        assert station.verify().faults == ()
        station.start()
        assert station.verify().faults == ()


def test_a_flipped_byte_in_any_page_is_found_also_where_nothing_is_stored(copy):
    content = copy.path.read_bytes()
    pages = len(content) // PAGE_SIZE
    assert pages > 20
    for page in range(pages):
        # The header of the page, its middle (often unused), its last record, its checksum.
        for at in (
            page * PAGE_SIZE,
            page * PAGE_SIZE + 2_000,
            (page + 1) * PAGE_SIZE - 200,
            (page + 1) * PAGE_SIZE - 1,
        ):
            copy.flip(copy.path, at)
            assert f"page {page + 1}: its checksum is wrong" in copy.told()
            copy.flip(copy.path, at)
    assert copy.path.read_bytes() == content
    assert copy.verify().faults == ()


def test_a_start_on_any_damaged_page_refuses_or_never_needed_it(copy):
    refused = 0
    for page in range(copy.path.stat().st_size // PAGE_SIZE):
        copy.flip(copy.path, page * PAGE_SIZE + 100)
        try:
            copy.refuses()
            refused += 1
        except pytest.fail.Exception:
            copy.flip(copy.path, page * PAGE_SIZE + 100)
            assert copy.verify().faults == ()
        else:
            copy.flip(copy.path, page * PAGE_SIZE + 100)
    assert refused >= 5


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE, PAGE_SIZE + 1, 20 * PAGE_SIZE])
def test_a_truncated_journal_is_refused(copy, size):
    with copy.path.open("r+b") as file:
        file.truncate(size)
    copy.refuses()
    with pytest.raises(JournalDamaged):
        copy.verify()


def test_a_journal_that_is_gone_is_not_made_anew(copy):
    copy.path.unlink()
    copy.refuses("missing or empty")
    assert not copy.path.exists()


@pytest.mark.parametrize("size", [None, 0, 31, 60_000])
def test_a_missing_or_cut_write_ahead_log_is_refused(torn, size):
    if size is None:
        torn.log.unlink()
    else:
        with torn.log.open("r+b") as file:
            file.truncate(size)
    torn.refuses("journal.db-wal is missing" if size is None else "the newest are lost")
    assert "the newest are lost" in torn.told()


def test_a_flipped_byte_anywhere_in_the_write_ahead_log_is_refused(torn):
    size = torn.log.stat().st_size
    for at in [0, 17, 40, *range(500, size, size // 12), size - 1]:
        torn.flip(torn.log, at)
        torn.refuses()
        torn.flip(torn.log, at)
    torn.start()


def test_a_witness_that_is_damaged_itself_accuses_nobody(copy):
    file = copy.path.with_name("journal.db.witness")
    content = file.read_bytes()
    for at in range(0, len(content), 7):
        copy.flip(file, at)
        copy.start()
        assert copy.verify().faults == ()
        file.write_bytes(content)


def test_the_log_of_another_journal_is_refused(torn, stopped, tmp_path):
    other = Copy(stopped, tmp_path / "other")
    journal, _ = open_journal(other.settings, clock=SystemClock())
    for _ in range(9):
        journal.write(lambda tx: tx.receipt("preview-shown", actor="agent"))
    shutil.copyfile(other.log, torn.log)
    journal.close()
    torn.refuses("this is another journal")


def test_an_older_copy_put_back_by_hand_is_refused(copy):
    older = copy.path.read_bytes()
    journal, _ = open_journal(copy.settings, clock=SystemClock())
    witness = Witness(journal)
    journal.write(lambda tx: tx.receipt("station-started", actor="agent"))
    witness.close()
    journal.close()
    assert copy.verify().faults == ()
    copy.path.write_bytes(older)
    copy.refuses("the newest are lost")
    assert "the newest are lost" in copy.verify().faults[0]


def test_another_journal_of_this_very_station_is_refused(copy, tmp_path):
    other = Copy(copy.path.parents[1], tmp_path / "other")
    for station, event in ((copy, "station-started"), (other, "preview-shown")):
        journal, _ = open_journal(station.settings, clock=SystemClock())
        witness = Witness(journal)
        journal.write(lambda tx, event=event: tx.receipt(event, actor="agent"))
        witness.close()
        journal.close()
    shutil.copyfile(other.path, copy.path)
    copy.refuses("this is another journal")
    assert "this is another journal" in copy.verify().faults[0]


def test_the_journal_of_another_station_is_refused_and_its_log_is_not_merged(torn):
    copy = torn
    text = (copy.path.parents[1] / "station.toml").read_text()
    (copy.path.parents[1] / "station.toml").write_text(text.replace("sambas-01", "sambas-02"))
    copy.settings = load_settings(copy.path.parents[1] / "station.toml")
    before = copy.files()
    assert len(before) == 3
    with pytest.raises(
        JournalDamaged, match=r"belongs to station 'sambas-01'.*put back the right file"
    ):
        copy.start()
    assert copy.files() == before
    assert any("belongs to station 'sambas-01'" in fault for fault in copy.verify().faults)


def test_a_row_that_was_changed_with_the_right_checksum_is_found(copy):
    connection = apsw.Connection(str(copy.path), vfs=checked_vfs())
    connection.execute(
        "UPDATE jobs SET priority = 99; UPDATE documents SET jws = x'61'; UPDATE station SET value = 7 WHERE key = 'run'"
    )
    connection.close()
    told = "; ".join(copy.verify().faults)
    assert "priority" in told
    assert "its document is not the one that was accepted" in told
    assert "row 'run' is not what the events say" in told


def test_a_damaged_page_stops_whoever_reads_or_writes_it(copy):
    journal, _ = open_journal(copy.settings, clock=SystemClock())
    journal.close()
    page = page_of("jobs", copy.path)
    copy.flip(copy.path, page * PAGE_SIZE + 5_000)
    journal, _ = open_journal(copy.settings, clock=SystemClock())
    with pytest.raises(DAMAGES) as found:
        list(journal.read().rows("SELECT * FROM jobs"))
    assert re.search(WHAT_TO_DO, str(damaged(copy.path, found.value)))
    for operation in (lambda tx: tx.put("jobs", 1, priority=1), lambda tx: tx.get("jobs", 1)):
        # Never as the answer to one operation: after it nobody may go on with this journal.
        with pytest.raises(DAMAGES):
            journal.write_many([operation])
    journal.close()


def page_of(table: str, path: Path) -> int:
    """The index of a table's first page."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    number = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get
    connection.close()
    return number - 1


def test_a_damaged_journal_makes_no_backup(copy, tmp_path):
    backup_journal(copy.settings, tmp_path / "good.db")
    for page in (0, page_of("events", copy.path), copy.path.stat().st_size // PAGE_SIZE - 1):
        copy.flip(copy.path, page * PAGE_SIZE + 3_000)
        with pytest.raises(JournalDamaged, match="a part is no backup"):
            backup_journal(copy.settings, tmp_path / "bad.db")
        assert not (tmp_path / "bad.db").exists()
        copy.flip(copy.path, page * PAGE_SIZE + 3_000)


def test_a_backup_larger_than_sqlite_s_cache_has_its_checksums(copy, tmp_path):
    connection = apsw.Connection(str(copy.path), vfs=checked_vfs())
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
        " INSERT INTO documents SELECT 'filler-' || i, zeroblob(2000) FROM n"
    )
    # While it is open its pages lie in the log, where they have none.
    backup_journal(copy.settings, tmp_path / "backup.db")
    connection.close()
    assert (tmp_path / "backup.db").stat().st_size > 4_000_000
    assert damage.damaged_pages(tmp_path / "backup.db") == []


def test_a_restored_journal_takes_no_counter_for_evidence_of_an_open_attempt(copy, tmp_path):
    journal, _ = open_journal(copy.settings, clock=SystemClock())
    columns = {"job": "valid-es256", "number": 1, "printer": "main", "book": "P0000003", "run": 1}
    columns |= {"boot": "b", "stage": "intent", "process_id": 1, "counter": 500}
    journal.write(lambda tx: tx.put("attempts", 1, **columns) or tx.note("intent"))
    journal.close()
    backup_journal(copy.settings, tmp_path / "backup.db")
    restore_journal(copy.settings, tmp_path / "backup.db")
    connection = open_for_reading(copy.path)
    assert Reader(connection).get("attempts", 1)["counter"] is None
    connection.close()
    assert copy.verify().faults == ()


def test_a_damaged_backup_is_not_restored(copy, tmp_path):
    backup = tmp_path / "backup.db"
    backup_journal(copy.settings, backup)
    assert [path.name for path in tmp_path.glob("backup.db*")] == ["backup.db"]
    copy.flip(backup, backup.stat().st_size - 4_000)
    before = copy.files()
    with pytest.raises(JournalDamaged):
        restore_journal(copy.settings, backup)
    assert copy.files() == before
    copy.flip(backup, backup.stat().st_size - 4_000)
    assert restore_journal(copy.settings, backup).name == "journal.db.before-restore-1"
    assert copy.verify().faults == ()
    copy.start()


def test_a_journal_that_lost_its_log_is_restored_from_itself_and_knows_that_it_is_old(torn):
    torn.log.unlink()
    torn.refuses()
    restore_journal(torn.settings, torn.path)
    torn.start()
    assert torn.station("rolled_back") == 1
    assert torn.verify().faults == ()


class PowerCut(BaseException):
    """Nothing in the product catches it."""


def cut_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power fails instead of the step-th change of a file's name."""
    left = iter(range(step - 1))

    def instead_of(real):
        def call(*arguments):
            if next(left, None) is None:
                raise PowerCut
            return real(*arguments)

        return call

    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(Path, name, instead_of(getattr(Path, name)))


def test_a_power_cut_at_any_step_of_a_restore_leaves_no_past_that_prints(
    torn, tmp_path, monkeypatch
):
    backup = tmp_path / "backup.db"
    backup_journal(torn.settings, backup)
    refused = 0
    steps = 5  # the log, its index and the journal put aside; the new witness and the new journal put in place
    for step in range(1, steps + 1):
        station = Copy(torn.path.parents[1], tmp_path / f"cut-{step}")
        with monkeypatch.context() as patch:
            cut_at(step, patch)
            with pytest.raises(PowerCut):
                restore_journal(station.settings, backup)
        again = Copy(station.path.parents[1], tmp_path / f"again-{step}")
        try:
            # Either the journal until now ...
            station.start()
        except JournalDamaged:
            # ... or none, and the start says so.
            refused += 1
        restore_journal(again.settings, backup)
        assert again.verify().faults == ()
        assert again.station("rolled_back") == 1
        assert len(list(again.path.parent.glob("*before-restore-?"))) == 1
    assert refused == steps - 1
    cut_at(steps + 1, monkeypatch)
    restore_journal(torn.settings, backup)


def test_what_can_be_read_of_a_damaged_journal_is_written_out(copy, tmp_path):
    whole = salvage_journal(copy.settings, tmp_path / "whole")
    assert (whole.jobs, whole.messages, whole.lost) == (2, 2, [])
    receipts = (tmp_path / "whole" / "receipts.jose-seq").read_text().split()
    assert len(receipts) == whole.receipts
    keys = public_keys(load_station_keys(copy.settings.keys.station).public_jwks())
    assert ChainVerifier("sambas-01", keys).faults(receipts) == []
    jobs = json.loads((tmp_path / "whole" / "jobs.json").read_text())
    assert [job["id"] for job in jobs] == ["valid-es256", "valid-sex-f"]
    sent = (tmp_path / "whole" / "messages-1.jose-seq").read_text().split()
    assert sent == [(VECTORS / f"messages/{name}.jws").read_text().strip() for name in NAMES[:2]]
    at = copy.path.read_bytes().index(b'"event":"job-accepted"') + 10
    copy.flip(copy.path, at)
    bent = salvage_journal(copy.settings, tmp_path / "bent")
    assert bent.receipts == whole.receipts - 1
    assert [lost.split(": ")[1] for lost in bent.lost] == ["its signature is not good"]
    copy.flip(copy.path, at)
    for page in range(1, copy.path.stat().st_size // PAGE_SIZE):
        part = Copy(copy.path.parents[1], tmp_path / f"without-{page}")
        with part.path.open("r+b") as file:
            file.seek(page * PAGE_SIZE)
            file.write(bytes(PAGE_SIZE))
        done = salvage_journal(part.settings, tmp_path / f"part-{page}")
        all_read = (done.receipts, done.jobs, done.messages) == (whole.receipts, 2, 2)
        assert bool(done.lost) != all_read


def test_a_journal_whose_first_page_is_gone_is_not_readable_and_says_so(copy, tmp_path):
    with copy.path.open("r+b") as file:
        file.write(bytes(PAGE_SIZE))
    with pytest.raises(JournalDamaged, match="nothing can be read of it"):
        salvage_journal(copy.settings, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
