"""What the journal's files are after a power cut, on the simulated disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import apsw
import pytest

from agent.queue.journal import Reader, open_connection
from tests.simulation.disk import Disk, Trouble

CUTS = 60


@contextlib.contextmanager
def simulated_disk(folder: Path, name: str) -> Iterator[Disk]:
    disk = Disk(folder, name, lambda what: None)
    try:
        yield disk
    finally:
        disk.forget()


def write_station_id(path: Path, disk: Disk) -> None:
    connection = open_connection(path, vfs=disk.name)
    connection.execute("INSERT INTO station (key, value) VALUES ('id', 'sambas-01')")
    abandon(connection, disk)


def abandon(connection: apsw.Connection, disk: Disk) -> None:
    """As a killed process does: nothing of it reaches the disk any more."""
    disk.dead = True
    with contextlib.suppress(apsw.Error):
        connection.close(True)


def station_id(path: Path, disk: Disk) -> object:
    connection = open_connection(path, vfs=disk.name)
    found = Reader(connection).station("id")
    connection.close()
    return found


@pytest.mark.parametrize("draw", range(CUTS))
def test_a_power_cut_after_the_first_commit_of_a_new_journal_does_not_roll_it_back(
    tmp_path: Path, draw: int
) -> None:
    with simulated_disk(tmp_path, f"new-{draw}") as disk:
        path = disk.create("journal.db")
        write_station_id(path, disk)
        disk.power_failed(Random(draw))
        assert station_id(path, disk) == "sambas-01"


@pytest.mark.parametrize("draw", range(CUTS))
def test_what_follows_a_failed_sync_is_not_lost_with_it(tmp_path: Path, draw: int) -> None:
    with simulated_disk(tmp_path, f"failed-{draw}") as disk:
        path = disk.create("journal.db")
        write_station_id(path, disk)
        disk.process_died()
        connection = open_connection(path, vfs=disk.name)
        disk.trouble = Trouble.SYNC
        with pytest.raises(apsw.IOError):
            connection.execute("INSERT INTO station (key, value) VALUES ('boot', 'first')")
        abandon(connection, disk)

        # The next process reads the commit from the cache, and writes behind it.
        disk.process_died()
        connection = open_connection(path, vfs=disk.name)
        connection.execute("INSERT INTO station (key, value) VALUES ('run', 7)")
        abandon(connection, disk)
        disk.power_failed(Random(draw))

        connection = open_connection(path, vfs=disk.name)
        assert Reader(connection).station("run") == 7
        connection.close()


def test_what_was_never_synced_may_be_gone(tmp_path: Path) -> None:
    """The disk itself: were this not so, no test here could fail."""
    survived = set()
    with simulated_disk(tmp_path, "unsynced") as disk:
        path = disk.create("journal.db")
        for draw in range(CUTS):
            file = apsw.VFSFile(
                disk.name, str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0]
            )
            file.xWrite(b"1" * 1024, 0)
            file.xClose()
            disk.power_failed(Random(draw))
            survived.add(path.read_bytes())
            path.write_bytes(b"")
            disk._files[str(path)].durable = bytearray()
    assert {b"", b"1" * 1024} < survived
    assert any(b"\0" in content for content in survived)
