"""What the reading commands show while the agent does not run: the journal, read-only."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import apsw

from agent.config import Settings
from agent.crypto import jose
from agent.crypto.receipts import encode_header
from agent.errors import JournalDamaged, PrintAgentError
from agent.model import JobState
from agent.queue import jobs
from agent.queue.attempts import is_clear
from agent.queue.journal import Reader
from agent.queue.states import STOPPED, Phase, phases_of, state_of
from agent.service import journal_path
from agent.station import job_object


class JournalView:
    """Answers the reading calls from the journal.

    Args:
        settings: The station's configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        path = journal_path(settings)
        if not path.is_file():
            raise JournalDamaged(
                f"{path}: there is no journal yet; start the agent with `print-agent run`"
            )
        try:
            self._reader = Reader(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY))
            self._reader.value("SELECT 1 FROM station")
        except apsw.Error as error:
            raise JournalDamaged(f"{path}: the journal cannot be read ({error})") from error

    def get(self, path: str) -> Any:
        """The answer of a GET call, as far as the journal knows it."""
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/v1/jobs":
            return self._jobs(query)
        if parts.path.startswith("/v1/jobs/"):
            return self._shown(jobs.require(self._reader, unquote(parts.path.rpartition("/")[2])))
        if parts.path == "/v1/status":
            return self._status()
        if parts.path == "/v1/printers":
            return []
        raise PrintAgentError(f"{path} is not in the journal")

    def _shown(self, job: jobs.Job) -> dict[str, Any]:
        clear = job.phase not in STOPPED or is_clear(self._reader, job)
        return job_object(job, jobs.reasons_of(job, clear=clear))

    def _jobs(self, query: dict[str, str]) -> list[dict[str, Any]]:
        after = jobs.require(self._reader, query["after"]).number if "after" in query else 0
        phases = (
            {phase.value for phase in phases_of(JobState(query["state"]))}
            if "state" in query
            else None
        )
        rows = self._reader.rows("SELECT * FROM jobs WHERE number > ? ORDER BY number", (after,))
        found = [jobs.from_row(row) for row in rows if phases is None or row["phase"] in phases]
        return [self._shown(job) for job in found[:1000]]

    def _status(self) -> dict[str, Any]:
        counts = dict.fromkeys((state.value for state in JobState), 0)
        for row in self._reader.rows("SELECT phase, count(*) AS n FROM jobs GROUP BY phase"):
            counts[state_of(Phase(row["phase"])).value] += row["n"]
        return {
            "station": self._settings.station.id,
            "jobs": counts,
            "printers": [],
            "expected_finish": None,
            "conditions": [{"name": "not-running", "detail": "start it with `print-agent run`"}],
        }

    def receipts(self, after: int) -> tuple[list[str], int]:
        """A page of receipts, and the end of the chain."""
        rows = self._reader.rows(
            "SELECT e.payload, e.signature, s.kid FROM events e JOIN signers s ON s.number = e.signer"
            " WHERE e.seq > ? ORDER BY e.seq LIMIT 1000",
            (after,),
        )
        lines = [
            ".".join(
                (
                    encode_header(row["kid"]),
                    jose.encode_base64url(row["payload"]),
                    jose.encode_base64url(row["signature"]),
                )
            )
            for row in rows
        ]
        return lines, int(self._reader.value("SELECT coalesce(max(seq), 0) FROM events"))
