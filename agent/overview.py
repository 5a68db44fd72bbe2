"""What the station shows of itself to anyone: counts, figures and conditions; no holder data."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from statistics import median
from typing import Any

from agent.clock import Clock
from agent.config import Settings
from agent.disk import free_bytes
from agent.live import Board, Condition, PrinterState
from agent.model import JobState
from agent.queue.group_commit import GroupCommit
from agent.queue.journal import Reader, Recorded
from agent.queue.states import NEEDS_PERSON, Phase, state_of

CYCLES_SEEN = 20  # completed books from which the pace is taken
CYCLE_MAX_S = 600  # a longer pause between two books is no part of the pace
REFUSAL_SHOWN_S = 3_600  # how long a refused message that nobody waited for is shown
REFUSALS_SHOWN_MAX = 1_000


class Overview:
    """The station from outside.

    Args:
        settings: Its configuration.
        commits: The journal.
        board: The printers as they stand.
        clock: Time.

    Attributes:
        sources: Whoever else has conditions to tell.
        refusals: How many messages were refused since the start, by problem.
    """

    def __init__(
        self, settings: Settings, *, commits: GroupCommit, board: Board, clock: Clock
    ) -> None:
        self._settings = settings
        self._commits = commits
        self._board = board
        self._clock = clock
        self.sources: list[Callable[[], Iterable[Condition]]] = []
        self.refusals: Counter[str] = Counter()
        self._unseen_refusals: deque[float] = deque(maxlen=REFUSALS_SHOWN_MAX)
        self._lock = threading.Lock()
        self._changes = 0  # of the journal, seen so far
        self._needs_person = (-1, 0)  # at how many changes, how many jobs
        commits.journal.listen(self._recorded)

    def _recorded(self, recorded: Sequence[Recorded]) -> None:
        self._changes += len(recorded)

    def refused(self, problem: str, *, sender_waits: bool) -> None:
        """Counts a refused message; one whose sender does not wait for the answer is shown for a while."""
        with self._lock:
            self.refusals[problem] += 1
            if not sender_waits:
                self._unseen_refusals.append(self._clock.monotonic())

    def status(self) -> dict[str, Any]:
        """The object of ``GET /v1/status``."""
        reader = self._commits.read()
        counts = jobs_by_state(reader)
        journal = self._settings.journal_path
        acknowledged = int(reader.station("acknowledged", 0))
        with self._lock:
            refusals = dict(self.refusals)
        return {
            "station": self._settings.station.id,
            "authority": self._settings.authority.id,
            "jobs": counts,
            "needs_person": self._jobs_for_a_person(reader),
            "conditions": [asdict(condition) for condition in self.conditions()],
            "expected_finish": _expected_finish(reader, counts),
            "receipts": self._commits.journal.head.seq,
            "acknowledged": acknowledged,
            "last_receipt_at": reader.value(
                "SELECT at FROM events WHERE seq IS NOT NULL ORDER BY seq DESC LIMIT 1"
            ),
            "oldest_unacknowledged_at": _oldest_unacknowledged_at(reader, acknowledged),
            "messages_refused": refusals,
            "clock_trusted": self._commits.clock_trusted(),
            "journal_bytes": sum(
                part.stat().st_size
                for part in (journal, journal.with_name(journal.name + "-wal"))
                if part.exists()
            ),
            "disk_free_bytes": free_bytes(journal.parent),
            "printers": [
                {
                    "name": view.name,
                    "state": view.state.value,
                    "reasons": [reason.value for reason in view.reasons],
                    "book_in": view.book_in,
                }
                for view in self._board.views()
            ],
        }

    def conditions(self) -> list[Condition]:
        """What a person should know of now; cheap enough to be asked every second."""
        reader = self._commits.read()
        found = [condition for source in self.sources for condition in source()]
        clock_doubt = self._commits.clock_doubt()
        if clock_doubt is not None:
            found.append(Condition("clock-untrusted", clock_doubt))
        if reader.station("rolled_back"):
            found.append(
                Condition(
                    "journal-rolled-back",
                    "printing waits for the authority's `resume`; accepting goes on",
                )
            )
        if reader.station("retired"):
            found.append(Condition("retired", "this station prints nothing any more"))
        found += self._stopped_printers()
        needs_person = self._jobs_for_a_person(reader)
        if needs_person:
            found.append(
                Condition(
                    "jobs-need-a-person",
                    f"{needs_person} jobs wait for a person: `print-agent jobs`",
                )
            )
        found += self._waiting_receipts(reader)
        found += self._refused_unseen()
        return found

    def _stopped_printers(self) -> Iterator[Condition]:
        for view in self._board.views():
            if view.state is PrinterState.STOPPED and view.reasons:
                reason = view.reasons[0].value
                name = reason if reason.startswith("printer-") else f"printer-{reason}"
                yield Condition(name, f"{view.name}: {view.detail}", about=view.name)

    def _waiting_receipts(self, reader: Reader) -> Iterator[Condition]:
        hours = self._settings.alerts.receipts_hours
        oldest = _oldest_unacknowledged_at(reader, int(reader.station("acknowledged", 0)))
        if not hours or oldest is None or not self._commits.clock_trusted():
            return
        waited = (self._clock.now() - oldest) // 3600
        if waited >= hours:
            yield Condition(
                "receipts-waiting",
                f"the authority has acknowledged no receipt for {waited} hours: is the line to it up?",
            )

    def _refused_unseen(self) -> Iterator[Condition]:
        begin = self._clock.monotonic() - REFUSAL_SHOWN_S
        with self._lock:
            count = sum(moment >= begin for moment in self._unseen_refusals)
        if count:
            yield Condition(
                "messages-refused",
                f"{count} messages were refused in the last hour, nobody was told: see {self._settings.inbox.directory}/refused",
            )

    def _jobs_for_a_person(self, reader: Reader) -> int:
        changes = self._changes
        counted_at, count = self._needs_person
        if counted_at != changes:
            count = jobs_for_a_person(reader)
            self._needs_person = (changes, count)
        return count


def jobs_by_state(reader: Reader) -> dict[str, int]:
    """How many jobs there are of each state."""
    counts = dict.fromkeys((state.value for state in JobState), 0)
    for row in reader.rows("SELECT phase, count(*) AS n FROM jobs GROUP BY phase"):
        counts[state_of(Phase(row["phase"])).value] += row["n"]
    return counts


def jobs_for_a_person(reader: Reader) -> int:
    """How many jobs wait for a person."""
    # The condition is that of the index over the jobs that have not ended.
    rows = reader.rows(
        "SELECT phase, count(*) AS n FROM jobs WHERE phase NOT IN ('completed', 'canceled', 'aborted') GROUP BY phase"
    )
    return sum(row["n"] for row in rows if Phase(row["phase"]) in NEEDS_PERSON)


def _oldest_unacknowledged_at(reader: Reader, acknowledged: int) -> int | None:
    moment = reader.value(
        "SELECT at FROM events WHERE seq > ? ORDER BY seq LIMIT 1", (acknowledged,)
    )
    return None if moment is None else int(moment)


def _expected_finish(reader: Reader, counts: dict[str, int]) -> int | None:
    """When the waiting jobs will be printed at the pace of the last books, NumericDate; None while no pace is known."""
    moments = [
        row["at"]
        for row in reader.rows(
            "SELECT at FROM events WHERE kind = 'print-completed' AND id > (SELECT max(id) FROM events) - 2000"
            " ORDER BY id DESC LIMIT ?",
            (CYCLES_SEEN,),
        )
    ]
    cycles = [later - earlier for later, earlier in pairwise(moments)]
    cycles = [cycle for cycle in cycles if 0 <= cycle <= CYCLE_MAX_S]
    waiting = counts["pending"] + counts["processing"]
    if not cycles or not waiting:
        return None
    return int(moments[0] + median(cycles) * waiting)
