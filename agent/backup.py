"""`journal backup` and `journal restore`: a copy while it runs, and a past that never pretends to be the present."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from agent.clock import SystemClock
from agent.config import Settings
from agent.crypto.keys import sync_directory
from agent.errors import ConfigurationInvalid, JournalDamaged
from agent.queue import jobs
from agent.queue.intake_rules import begin_anew
from agent.queue.journal import Transaction
from agent.service import hold_state_directory, open_journal
from agent.verification import verify_journal


def backup_journal(settings: Settings, target: Path) -> None:
    """Writes a consistent copy; the agent may run and print meanwhile.

    Raises:
        ConfigurationInvalid: The target exists.
        JournalDamaged: There is no journal that can be read.
    """
    source = settings.journal_path
    if not source.is_file():
        raise JournalDamaged(f"{source}: there is no journal to copy")
    if target.exists():
        raise ConfigurationInvalid(f"{target}: exists already; a backup never overwrites a file")
    try:
        _copy(source, target)
    except apsw.Error as error:
        target.unlink(missing_ok=True)
        raise JournalDamaged(f"{source}: the journal cannot be copied ({error})") from error


def restore_journal(settings: Settings, source: Path) -> Path | None:
    """Puts a backup in the journal's place; gives where the journal until now was put, if there was one.

    It always ends in ``journal-rolled-back``: printing waits for the authority's ``resume``.

    Raises:
        StationBusy: The agent runs.
        JournalDamaged: The backup is not whole, or another station's.
    """
    with hold_state_directory(settings):
        report = verify_journal(
            source, station_id=settings.station.id, authority_id=settings.authority.id
        )
        if report.faults:
            raise JournalDamaged(
                f"{source}: the backup is not whole ({report.faults[0]}); take another one"
            )
        path = settings.journal_path
        aside = _put_aside(path)
        _copy(source, path)
        journal, _ = open_journal(settings, clock=SystemClock())

        def operation(tx: Transaction) -> None:
            through = tx.last_receipt_seq
            begin_anew(tx)
            tx.put("station", "rolled_back", value=1)
            tx.put("station", "restored_through", value=through)
            tx.receipt(
                "journal-rolled-back", actor=jobs.AGENT, evidence={"restored_through": through}
            )

        journal.write(operation)
        journal.close()
        return aside


def _copy(source: Path, target: Path) -> None:
    """Copies a whole journal by SQLite's own means."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    reading = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
    writing = apsw.Connection(str(target))
    with writing.backup("main", reading, "main") as copy:
        copy.step()
    writing.close()
    reading.close()
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(target.parent)


def _put_aside(path: Path) -> Path | None:
    """Never deletes a journal: it and its WAL get another name, together."""
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{path.name}.before-restore-{number}")).exists():
        number += 1
    for ending in ("-wal", "-shm"):
        beside = path.with_name(path.name + ending)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + ending))
    path.rename(aside)
    return aside
