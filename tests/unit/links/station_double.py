"""A station in memory that implements what the borders ask of ``agent.station.Station``."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from agent.errors import RequestRefused
from agent.intake import Answer
from agent.model import MESSAGE_SIZE_MAX

JOB = {
    "id": "job-1",
    "state": "pending",
    "reasons": ["book-wanted"],
    "priority": 50,
    "application": None,
    "book": "C1234567",
    "attempts": 0,
    "accepted_at": 1,
    "nbf": None,
    "exp": 2,
    "ended_at": None,
}
HEAD = "h" * 43


class IntakeDouble:
    """Takes a message that begins with ``good``; the rest of the text is its job.

    Faults: ``full`` answers 507; ``wait_for`` makes every message wait; ``bug`` raises.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, str] = {}
        self.seen: list[int] = []
        self.full = False
        self.bug: Exception | None = None
        self.wait_for: threading.Event | None = None
        self.begun = threading.Event()
        self.waiting: list[bytes] = []

    def take(self, raw: bytes) -> Answer:
        return next(self.take_many([raw]))

    def take_many(self, lines: Iterable[bytes]) -> Iterator[Answer]:
        for raw in lines:
            yield self._answer(raw)

    def _answer(self, raw: bytes) -> Answer:
        self.begun.set()
        if self.wait_for is not None:
            self.waiting.append(raw)
            assert self.wait_for.wait(20)
        if self.bug is not None:
            raise self.bug
        text = raw.strip()
        self.seen.append(len(text))
        if len(text) > MESSAGE_SIZE_MAX:
            return Answer(413, "urn:print-agent:too-large", detail="too large")
        if self.full:
            return Answer(507, "urn:print-agent:disk-full", detail="no room")
        if not text.startswith(b"good"):
            return Answer(400, "urn:print-agent:malformed", detail="no JWS")
        job = text[:40].decode()
        status = 200 if text in self.known else 201
        self.known[text] = job
        return Answer(status, job=job)


class SubscriptionDouble:
    def __init__(self) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.closed = False

    def get(self, timeout: float) -> dict[str, Any] | None:
        try:
            return self.events.get(timeout=min(timeout, 0.05))
        except queue.Empty:
            return None

    def close(self) -> None:
        self.closed = True


class OverviewDouble:
    def __init__(self) -> None:
        self.refusals: list[tuple[str, bool]] = []

    def refused(self, problem: str, *, sender_waits: bool) -> None:
        self.refusals.append((problem, sender_waits))


class StationDouble:
    """Remembers the acts with their actors; ``failures`` are what the supervisor was told."""

    def __init__(self) -> None:
        self.intake = IntakeDouble()
        self.overview = OverviewDouble()
        self.acts: list[tuple[Any, ...]] = []
        self.failures: list[BaseException] = []
        self.refusals: list[tuple[int, bytes | None]] = []
        self.subscriptions: list[SubscriptionDouble] = []
        self.present_waits: threading.Event | None = None
        self.well = True

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)

    def refused(self, answer: Answer, raw: bytes | None) -> None:
        self.refusals.append((answer.status, raw))

    def jobs(self, **question: Any) -> list[dict[str, Any]]:
        self.acts.append(("jobs", question))
        return [JOB]

    def job(self, job_id: str) -> dict[str, Any]:
        if job_id != JOB["id"]:
            raise RequestRefused(404, "unknown-job", f"there is no job {job_id}")
        return JOB

    def act(self, job_id: str, act: str, body: dict[str, Any], *, actor: str) -> dict[str, Any]:
        self.acts.append((act, job_id, body, actor))
        return self.job(job_id)

    def preview(self, job_id: str, *, actor: str) -> bytes:
        self.acts.append(("preview", job_id, actor))
        self.job(job_id)
        return b"\x89PNG"

    def printers(self) -> list[dict[str, Any]]:
        return [{"name": "main", "state": "idle"}]

    def present(self, printer: str, number: str, *, actor: str) -> dict[str, Any]:
        if self.present_waits is not None:
            assert self.present_waits.wait(20)
        self.acts.append(("present", printer, number, actor))
        return {"job": JOB["id"]}

    def accept_printer(
        self, printer: str, reason: str, *, actor: str, second: str | None = None
    ) -> dict[str, Any]:
        self.acts.append(("accept", printer, reason, actor))
        return {"name": printer}

    def accept_clock(self, reason: str, *, actor: str) -> dict[str, Any]:
        self.acts.append(("clock", reason, actor))
        return self.status()

    def take_inventory(self, body: dict[str, Any], *, actor: str) -> dict[str, Any]:
        self.acts.append(("inventory", body, actor))
        return {"receipt": 9}

    def status(self) -> dict[str, Any]:
        return {
            "station": "sambas-01",
            "jobs": {"pending": 3, "completed": 4},
            "needs_person": 0,
            "conditions": [{"name": "clock-untrusted", "detail": "set it", "about": ""}],
            "expected_finish": None,
            "receipts": 7,
            "acknowledged": 5,
            "last_receipt_at": 1_893_456_000,
            "oldest_unacknowledged_at": 1_893_455_000,
            "messages_refused": {"malformed": 2},
            "clock_trusted": False,
            "journal_bytes": 200_000,
            "disk_free_bytes": 9_000_000_000,
            "printers": [
                {"name": "main", "state": "idle", "reasons": ["offline"], "book_in": None},
            ],
        }

    def receipts(self, after: int, limit: int) -> tuple[list[str], int, str]:
        return [f"receipt-{seq}" for seq in range(after + 1, 8)][:limit], 7, HEAD

    def technicians(self) -> list[dict[str, Any]]:
        return [{"name": "ani", "added_at": 1}]

    def add_technician(self, name: str, *, actor: str) -> str:
        self.acts.append(("add", name, actor))
        return "token-of-" + name

    def remove_technician(self, name: str, *, actor: str) -> None:
        self.acts.append(("remove", name, actor))

    def technician_of_token(self, token: str) -> str | None:
        return "ani" if token == "right" else None

    def subscribe(self) -> SubscriptionDouble:
        self.subscriptions.append(SubscriptionDouble())
        return self.subscriptions[-1]

    def healthy(self) -> bool:
        return self.well
