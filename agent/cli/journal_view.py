"""What the reading commands show while the agent does not run: the journal, read-only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import apsw

from agent.cli.client import RECEIPTS_LIMIT
from agent.clock import SystemClock
from agent.config import Settings
from agent.crypto.receipts import compact, hash_of_signed
from agent.errors import JournalDamaged, PrintAgentError, RequestRefused
from agent.model import JobState
from agent.overview import jobs_by_state, jobs_for_a_person
from agent.queue import jobs, witness
from agent.queue.attempts import is_clear
from agent.queue.damage import damaged
from agent.queue.journal import Reader, check_owner, open_for_reading
from agent.queue.states import STOPPED, phases_of
from agent.selftest import Finding, examine
from agent.station import JOBS_LIMIT_MAX, job_object

START_IT = "start it with `systemctl start print-agent`"
NOT_RUNNING = f"the agent does not run: {START_IT}"


def status_without_journal(settings: Settings, findings: Iterable[Finding]) -> dict[str, Any]:
    """What ``GET /v1/status`` would say, as far as no journal is needed for it: why the agent cannot start."""
    conditions = [{"name": "not-running", "detail": START_IT}]
    conditions += [
        {"name": finding.condition, "detail": finding.sentence}
        for finding in findings
        if finding.condition is not None
    ]
    return {
        "station": settings.station.id,
        "authority": settings.authority.id,
        "conditions": conditions,
        "expected_finish": None,
        "printers": [
            {"name": name, "state": "stopped", "reasons": ["offline"], "book_in": None}
            for name in settings.printers
        ],
    }


class JournalView:
    """Answers the reading calls from the journal.

    Args:
        settings: The station's configuration.

    Raises:
        JournalDamaged: There is no journal, or it cannot be read.
        PrintAgentError: This user may not look.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.journal_path
        try:
            found = self._path.is_file()
        except PermissionError as error:
            raise PrintAgentError(
                f"{self._path}: this user may not read the journal; use sudo"
            ) from error
        if not found:
            witness.check(self._path, hash_of_signed)
            raise JournalDamaged(f"{self._path}: there is no journal yet, and {NOT_RUNNING}")
        with self._reading():
            connection = open_for_reading(self._path)
            # One snapshot for all that is asked.
            connection.execute("BEGIN")
            self._reader = Reader(connection)
            check_owner(self._reader, self._path, station_id=settings.station.id)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise damaged(self._path, error) from error

    def get(self, path: str) -> Any:
        """The answer of a GET call, as far as the journal knows it.

        Raises:
            RequestRefused: As the running agent would.
            JournalDamaged: The journal cannot be read.
        """
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._reading():
            if parts.path == "/v1/jobs":
                return self._jobs(query)
            if parts.path.startswith("/v1/jobs/"):
                job_id = unquote(parts.path.removeprefix("/v1/jobs/"))
                return self._shown(jobs.require(self._reader, job_id))
            if parts.path == "/v1/status":
                return self._status()
            if parts.path == "/v1/printers":
                return [self._printer(name) for name in self._settings.printers]
        raise PrintAgentError(f"only the running agent knows this: {NOT_RUNNING}")

    def _shown(self, job: jobs.Job) -> dict[str, Any]:
        clear = job.phase not in STOPPED or is_clear(self._reader, job)
        return job_object(job, jobs.reasons_of(job, clear=clear))

    def _jobs(self, query: dict[str, str]) -> list[dict[str, Any]]:
        where, bindings = ["1"], list[Any]()
        if "after" in query:
            where.append("number > ?")
            bindings.append(jobs.require(self._reader, query["after"]).number)
        if "state" in query:
            state = query["state"]
            if state not in set(JobState):
                raise RequestRefused(
                    400, "malformed", f"state is {state!r}; allowed are {', '.join(JobState)}"
                )
            phases = phases_of(JobState(state))
            where.append(f"phase IN ({', '.join('?' * len(phases))})")
            bindings += [phase.value for phase in phases]
        if "application" in query:
            where.append("application = ?")
            bindings.append(query["application"])
        sql = (
            f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY number LIMIT {JOBS_LIMIT_MAX}"  # noqa: S608 - names of our own
        )
        return [self._shown(jobs.from_row(row)) for row in self._reader.rows(sql, bindings)]

    def _printer(self, name: str) -> dict[str, Any]:
        row = self._reader.get("printers", name) or {}
        serial = row.get("serial")
        counter = None if serial is None else self._reader.get("counters", serial)
        return {
            "name": name,
            "state": "stopped",
            "reasons": ["offline"],
            "profile": self._settings.printers[name].profile,
            "model": row.get("model"),
            "serial": serial,
            "counter": None if counter is None else counter["value"],
            "presented": None,
            "job": None,
            "book_in": None,
            "detail": NOT_RUNNING,
        }

    def _status(self) -> dict[str, Any]:
        findings = examine(self._settings, clock=SystemClock())
        return status_without_journal(self._settings, findings) | {
            "jobs": jobs_by_state(self._reader),
            "needs_person": jobs_for_a_person(self._reader),
            "receipts": int(self._reader.value("SELECT coalesce(max(seq), 0) FROM events")),
            "acknowledged": int(self._reader.station("acknowledged", 0)),
        }

    def receipts(self, after: int) -> list[str]:
        """Up to ``RECEIPTS_LIMIT`` receipts after that ``seq``.

        Raises:
            JournalDamaged: The journal cannot be read.
        """
        with self._reading():
            rows = self._reader.rows(
                "SELECT e.payload, e.signature, s.kid FROM events e JOIN signers s ON s.number = e.signer"
                " WHERE e.seq > ? ORDER BY e.seq LIMIT ?",
                (after, RECEIPTS_LIMIT),
            )
            return [compact(row["kid"], row["payload"], row["signature"]) for row in rows]
