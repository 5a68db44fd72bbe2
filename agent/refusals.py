"""Messages that were refused where nobody waits for the answer: receipts of them, but not without end (CONTRACT section 3.4)."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from concurrent.futures import Future
from typing import Any

from agent.clock import Clock
from agent.errors import DiskFull
from agent.model import base64url
from agent.queue import jobs
from agent.queue.group_commit import GroupCommit

RECEIPTS_AN_HOUR_MAX = 100  # the others of the hour are counted in one more
HOUR_S = 3600.0


class Refusals:
    """Tells refusals in receipts.

    Args:
        commits: The journal's writer.
        clock: Its steady seconds tell the hours.
    """

    def __init__(self, commits: GroupCommit, clock: Clock) -> None:
        self._commits = commits
        self._clock = clock
        self._lock = threading.Lock()
        self._hour_ends = 0.0
        self._told = 0
        self._untold = 0

    def tell(
        self, problem: str, *, raw: bytes | None, jti: str | None = None, seq: int | None = None
    ) -> None:
        """Journals one refusal, or counts it.

        Args:
            problem: The problem's name.
            raw: The message as it came; None where it was too large to be read.
            jti: What it called itself, where its signature was good.
            seq: And its number then.

        Raises:
            DiskFull: There is no room; the reserve is kept for what has begun.
        """
        self.tell_untold()
        if not self._may_tell():
            return
        evidence: dict[str, Any] = {}
        if raw is not None:
            evidence["sha256"] = base64url(hashlib.sha256(raw).digest())
        named = {"jti": jti, "seq": seq}
        evidence |= {name: value for name, value in named.items() if value is not None}
        self._submit(note=problem, evidence=evidence).result()

    def tell_untold(self) -> None:
        """One receipt for those of an hour that has ended and had none."""
        with self._lock:
            if self._clock.monotonic() < self._hour_ends:
                return
            untold, self._untold = self._untold, 0
        if untold:
            # On a full disk nothing may stop for a mere count.
            with contextlib.suppress(DiskFull):
                self._submit(evidence={"count": untold}).result()

    def _may_tell(self) -> bool:
        now = self._clock.monotonic()
        with self._lock:
            if now >= self._hour_ends:
                self._hour_ends, self._told = now + HOUR_S, 0
            if self._told < RECEIPTS_AN_HOUR_MAX:
                self._told += 1
                return True
            self._untold += 1
            return False

    def _submit(self, **claims: Any) -> Future[int]:
        return self._commits.submit(
            lambda tx: tx.receipt("message-refused", actor=jobs.AGENT, **claims)
        )
