"""Answers from a station's receipts: is the chain whole, what became of a job, who did what."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.crypto.receipts import ChainVerifier, Fault

_ACTOR_AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Entry:
    """One receipt of the chain."""

    seq: int
    iat: int
    event: str
    job: str | None
    state: str | None
    reasons: tuple[str, ...]
    book: str | None
    actor: str | None
    evidence: Mapping[str, Any]
    note: str | None

    def day(self) -> datetime.date:
        """The day of the receipt, in UTC."""
        return datetime.datetime.fromtimestamp(self.iat, datetime.UTC).date()


@dataclass(frozen=True, slots=True)
class Audit:
    """What the receipts prove.

    ``faults`` are breaks of the chain. ``entries`` are the well-signed receipts in the order of
    ``seq``. ``never_accepted`` are issued jobs without a receipt, ``never_issued`` accepted ones
    that the authority does not know. ``through`` and ``head`` are what an ``acknowledge`` carries.
    """

    entries: tuple[Entry, ...]
    faults: tuple[Fault, ...]
    never_accepted: tuple[str, ...]
    never_issued: tuple[str, ...]
    through: int
    head: str

    @classmethod
    def of(
        cls,
        receipts: Iterable[str],
        *,
        station_id: str,
        authority_id: str,
        keys: Mapping[str, Ed25519PublicKey],
        issued: Sequence[str],
    ) -> Audit:
        """Reads the receipts, one compact serialization each, in the order in which they came.

        Args:
            receipts: lines; white space around them and empty ones do not count.
            station_id: whose they must be.
            authority_id: to whom they must be addressed.
            keys: the station's public signing keys when the chain began.
            issued: the ids of the jobs that were authorized.
        """
        verifier = ChainVerifier(station_id, keys, authority_id=authority_id)
        entries: dict[int, Entry] = {}
        faults: list[Fault] = []
        for compact in filter(None, (line.strip() for line in receipts)):
            claims, fault = verifier.follow(compact)
            if fault is not None:
                faults.append(fault)
            if claims is not None:
                entries.setdefault(claims["seq"], _entry(claims))
        accepted = {
            entry.job for entry in entries.values() if entry.event == "job-accepted" and entry.job
        }
        return cls(
            entries=tuple(entries[seq] for seq in sorted(entries)),
            faults=tuple(faults),
            never_accepted=tuple(job for job in issued if job not in accepted),
            never_issued=tuple(sorted(accepted - set(issued))),
            through=verifier.seq,
            head=verifier.head,
        )

    def is_whole(self) -> bool:
        """Whether the chain has neither a break nor a job that nobody issued."""
        return not self.faults and not self.never_issued

    def job(self, job_id: str) -> list[Entry]:
        """Everything that happened to a job; the last state among it is what became of it."""
        return [entry for entry in self.entries if entry.job == job_id]

    def job_state(self, job_id: str) -> str | None:
        """The job's state at the end of the chain, None where it was never accepted."""
        states = [entry.state for entry in self.job(job_id) if entry.state is not None]
        return states[-1] if states else None

    def book(self, number: str) -> list[Entry]:
        """Everything that happened to a blank book."""
        return [entry for entry in self.entries if entry.book == number]

    def acts(self, day: datetime.date) -> list[Entry]:
        """What people did on a day (UTC): technicians and the authority, not the agent itself."""
        return [
            entry
            for entry in self.entries
            if entry.day() == day and entry.actor is not None and entry.actor != _ACTOR_AGENT
        ]


def _entry(claims: Mapping[str, Any]) -> Entry:
    def text(name: str) -> str | None:
        value = claims.get(name)
        return value if isinstance(value, str) else None

    evidence = claims.get("evidence")
    return Entry(
        seq=claims["seq"],
        iat=claims["iat"],
        event=claims["event"],
        job=text("job"),
        state=text("state"),
        reasons=tuple(reasons) if isinstance(reasons := claims.get("reasons"), list) else (),
        book=text("book"),
        actor=text("actor"),
        evidence=evidence if isinstance(evidence, dict) else {},
        note=text("note"),
    )
