"""Journals with a past: one job of a real station, and as many like it as are asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import apsw

from agent.config import load_settings
from agent.drivers import transport_serial
from agent.queue.damage import checked_vfs
from agent.queue.states import Phase
from benchmarks.office import authorization
from tests.integration.printer_bench import Bench

# What tells a job from the one before: `k` is its number, `nth` counts the job's events.
OWN_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "jobs": {
        "number": "k",
        "id": "'job-' || k",
        "seq": "k",
        "book": "'B' || k",
        "erased": "erased",
    },
    "books": {"id": "k * 4", "number": "'B' || k", "job": "'job-' || k"},
    "attempts": {"id": "k", "job": "'job-' || k"},
    "messages": {"seq": "k", "jti": "'job-' || k"},
    "documents": {"job": "'job-' || k", "jws": "x'00'"},
    "events": {
        "id": "last_id + (k - 2) * of_job + nth",
        "seq": "CASE WHEN seq IS NULL THEN NULL ELSE last_seq + (k - 2) * of_job + nth END",
        "job": "'job-' || k",
    },
}


@contextmanager
def working(bench: Bench) -> Iterator[Bench]:
    """A station and its printer whose serial port waits in the bench's time."""
    with mock.patch.object(transport_serial, "_monotonic", bench.monotonic), closing(bench):
        yield bench


def print_jobs(bench: Bench, first: int, last: int) -> None:
    """Accepts these jobs and prints them."""
    for number in range(first, last + 1):
        assert bench.intake.take(authorization(number)).status == 201
    names = [f"job-{number}" for number in range(first, last + 1)]
    bench.run(lambda: all(bench.phase(name) is Phase.COMPLETED for name in names), seconds=10_000.0)


def fill(configuration: Path, jobs: int, phase: Phase) -> None:
    """Gives a new station the journal of one that has so many jobs, waiting or completed and erased."""
    path = load_settings(configuration).journal_path
    with TemporaryDirectory() as folder:
        with working(Bench(Path(folder))) as bench:
            if phase is Phase.COMPLETED:
                print_jobs(bench, 1, 1)
            else:
                assert bench.intake.take(authorization(1)).status == 201
        shutil.copyfile(bench.path, path)
    path.chmod(0o600)
    connection = apsw.Connection(str(path), vfs=checked_vfs())
    connection.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
    with connection:
        if phase is Phase.COMPLETED:
            connection.execute("UPDATE jobs SET erased = 1; DELETE FROM documents")
        for table, own in OWN_COLUMNS.items():
            _copy(connection, table, own, jobs)
    connection.close()


def _copy(connection: apsw.Connection, table: str, own: Mapping[str, str], jobs: int) -> None:
    """Copies the rows of the first job for the jobs 2 to ``jobs``."""
    names = [row[0] for row in connection.execute(f"SELECT name FROM pragma_table_info('{table}')")]
    job = next(name for name in ("job", "jti", "id") if name in own and own[name] == "'job-' || k")
    values = ", ".join(own.get(name, name) for name in names)
    connection.execute(
        f"WITH RECURSIVE copies(k) AS (SELECT 2 WHERE ? > 1 UNION ALL SELECT k + 1 FROM copies WHERE k < ?),"
        f" ends AS (SELECT max(id) AS last_id, max(seq) AS last_seq FROM events),"
        f" first AS (SELECT *, row_number() OVER (ORDER BY rowid) AS nth, count(*) OVER () AS of_job FROM {table}"
        f" WHERE {job} = 'job-1')"
        f" INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM copies CROSS JOIN first CROSS JOIN ends",
        (jobs, jobs),
    )
