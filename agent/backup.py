"""`journal backup` and `journal restore`: a copy while it runs, and a past that never pretends to be the present."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import apsw

from agent.clock import SystemClock
from agent.config import Settings
from agent.crypto.keys import sync_directory
from agent.errors import ConfigurationInvalid, JournalDamaged
from agent.queue import attempts, jobs
from agent.queue.damage import CHECKSUM_SIZE, PAGE_SIZE, checked_vfs
from agent.queue.intake_rules import begin_anew
from agent.queue.journal import Transaction, open_for_reading
from agent.queue.witness import Witness, witness_path
from agent.service import hold_state_directory, open_journal
from agent.verification import verify_journal

_COPY_NAME = re.compile(r"journal-\d{8}T\d{6}Z\.db")


def backup_journal(settings: Settings, target: Path) -> None:
    """Writes a consistent copy, one file; the agent may run and print meanwhile.

    Raises:
        ConfigurationInvalid: The target exists.
        JournalDamaged: There is no journal, or one of its pages is damaged: that is no backup.
    """
    copy_journal(settings.journal_path, target)


def backup_into(settings: Settings, directory: Path, *, keep: int, now: int) -> Path:
    """Writes a copy named after the time into a folder, and only then removes the oldest beyond ``keep``; gives the copy.

    Raises:
        ConfigurationInvalid: The folder cannot be used.
        JournalDamaged: There is no journal, or it is damaged; the older copies stay.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = directory / f"journal-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}.db"
        backup_journal(settings, target)
        copies = sorted(file for file in directory.iterdir() if _COPY_NAME.fullmatch(file.name))
        for old in copies[:-keep]:
            old.unlink()
    except OSError as error:
        raise ConfigurationInvalid(
            f"{error.filename}: {error.strerror}; allowed: a folder that this user may write"
        ) from error
    return target


def restore_journal(settings: Settings, source: Path) -> Path | None:
    """Puts a backup in the journal's place; gives where the journal until now was put, if there was one.

    It always ends in ``journal-rolled-back``: printing waits for the authority's ``resume``. The source may be the journal
    itself, whose newest commits were lost. Until the last step nothing is changed, whenever the power fails.

    Raises:
        StationBusy: The agent runs.
        JournalDamaged: The backup is not whole, or another station's.
    """
    with hold_state_directory(settings):
        path = settings.journal_path
        fresh = path.with_name(f"{path.name}.restoring")
        for left in fresh.parent.glob(f"{fresh.name}*"):
            left.unlink()  # of a restore that the power cut ended
        copy_journal(source, fresh)
        report = verify_journal(
            fresh, station_id=settings.station.id, authority_id=settings.authority.id
        )
        if report.faults:
            fresh.unlink()
            raise JournalDamaged(
                f"{source}: the backup is not whole ({report.faults[0]}); take another one"
            )
        _mark_rolled_back(settings, fresh)
        aside = _put_aside(path)
        # Between these two the start finds no journal and a witness of one: it asks for this command again.
        witness_path(fresh).replace(witness_path(path))
        fresh.rename(path)
        sync_directory(path.parent)
        return aside


def _mark_rolled_back(settings: Settings, path: Path) -> None:
    journal, _ = open_journal(settings, clock=SystemClock(), path=path)

    journal.write(roll_back)
    Witness(journal).close()
    journal.close()


def roll_back(tx: Transaction) -> None:
    """The journal is a restored one from here on: nothing prints before the authority's ``resume``."""
    through = tx.last_receipt_seq
    # A copy of a journal that was restored itself, and not resumed, shares no more with the authority than that one did.
    shared = tx.station("restored_through")
    begin_anew(tx)
    attempts.forget_counters(tx)
    tx.put("station", "rolled_back", value=1)
    tx.put("station", "restored_through", value=through if shared is None else shared)
    tx.receipt("journal-rolled-back", actor=jobs.AGENT, evidence={"restored_through": through})


def copy_journal(source: Path, target: Path) -> None:
    """Copies a whole journal by SQLite's own means, which check each page; the copy needs no log beside it."""
    if not source.is_file():
        raise JournalDamaged(f"{source}: there is no journal to copy")
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise ConfigurationInvalid(
            f"{target}: exists already; a backup never overwrites a file"
        ) from None
    try:
        reading = open_for_reading(source)
        writing = apsw.Connection(str(target), vfs=checked_vfs())
        try:
            # A page that leaves the cache before the first one is written would get no checksum.
            writing.execute(f"PRAGMA page_size={PAGE_SIZE}")
            writing.reserve_bytes(None, CHECKSUM_SIZE)
            writing.execute("PRAGMA user_version=0")
            with writing.backup("main", reading, "main") as copy:
                copy.step()
            writing.pragma("journal_mode", "DELETE")
        finally:
            writing.close()
            reading.close()
    except apsw.Error as error:
        target.unlink()
        raise JournalDamaged(
            f"{source}: the journal cannot be copied whole ({error}), and a part is no backup; `print-agent journal verify` says"
            " what is damaged, `print-agent journal salvage DIR` writes out what can be read"
        ) from error
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(target.parent)


def _put_aside(path: Path) -> Path | None:
    """Never deletes a journal: it and its log get another name, together; a log alone, too, or it would be the next one's."""
    number = 1
    while list(path.parent.glob(f"{path.name}.before-restore-{number}*")):
        number += 1
    aside = path.with_name(f"{path.name}.before-restore-{number}")
    for ending in ("-wal", "-shm", ""):
        file = path.with_name(path.name + ending)
        if file.exists():
            file.rename(aside.with_name(aside.name + ending))
    return aside if aside.exists() else None
