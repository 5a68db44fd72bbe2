"""Answers from a station's receipts: is the chain whole, what became of a job or a book, who did what."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.crypto.receipts import ChainVerifier, Fault, Resumption, claims_unverified
from agent.model import Action, JobState

_ACTOR_AGENT = "agent"
# What a receipt says of its book's page; the last of them counts.
_FATES = {
    "job-accepted": "blank",
    "print-committed": "may have ink",
    "print-in-doubt": "may have ink",
    "print-failed": "may have ink",
    "verify-failed": "printed, and another machine-readable zone was read from it",
    "job-requeued": "blank",
    "print-completed": "printed",
    "print-verified": "printed",
    "book-spoiled": "spoiled",
}


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

    def by_a_person(self) -> bool:
        """Whether it tells an act of a technician or of the authority, not of the agent itself."""
        return self.actor is not None and self.actor != _ACTOR_AGENT


@dataclass(frozen=True, slots=True)
class Audit:
    """What the receipts prove.

    Attributes:
        entries: The well-signed receipts in the order of ``seq``.
        faults: Breaks of the chain, and what the authority knows better.
        resumptions: Where the chain went on after a rollback, by the authority's word.
        never_accepted: Issued jobs without a receipt.
        never_issued: Accepted jobs that the authority does not know.
        through: What an ``acknowledge`` carries.
        head: Likewise.
    """

    entries: tuple[Entry, ...]
    faults: tuple[Fault, ...]
    resumptions: tuple[Resumption, ...]
    never_accepted: tuple[str, ...]
    never_issued: tuple[str, ...]
    through: int
    head: str

    @classmethod
    def of(
        cls,
        receipts: Iterable[str],
        verifier: ChainVerifier,
        *,
        issued: Sequence[Mapping[str, Any]] | None = None,
        faults: Sequence[Fault] = (),
    ) -> Audit:
        """Reads the receipts of one or more deliveries, one compact serialization each.

        Deliveries may overlap; where two receipts claim one place, the one that came first keeps it.

        Args:
            receipts: Lines; white space around them and empty ones do not count.
            verifier: Knows whose they must be, and the station's keys where they begin.
            issued: What the authority issued to the station (``Authority.issued``); None where that is not known.
            faults: What was found wrong before.
        """
        lines = dict.fromkeys(filter(None, (line.strip() for line in receipts)))
        told = [verifier.follow(line) for line in sorted(lines, key=_seq_unverified)]
        entries = [_entry(claims) for claims in told if claims is not None]
        accepted = dict.fromkeys(
            entry.job for entry in entries if entry.event == "job-accepted" and entry.job
        )
        jobs = [str(row["jti"]) for row in issued or () if "books" in row]
        faults = [*faults, *verifier.found]
        if issued is not None:
            faults += _contradictions(entries, issued, through=verifier.seq)
        return cls(
            entries=tuple(entries),
            faults=tuple(faults),
            resumptions=tuple(verifier.resumptions),
            never_accepted=tuple(job for job in jobs if job not in accepted),
            never_issued=() if issued is None else tuple(sorted(accepted.keys() - set(jobs))),
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

    def book_fate(self, number: str) -> tuple[str, Entry] | None:
        """What its page is by the last receipt that says so, and that receipt; None where none names it."""
        told = [
            (_FATES[entry.event], entry) for entry in self.book(number) if entry.event in _FATES
        ]
        return told[-1] if told else None

    def acts(self, day: datetime.date) -> list[Entry]:
        """What people did on a day (UTC): technicians and the authority, not the agent itself."""
        return [entry for entry in self.entries if entry.by_a_person() and entry.day() == day]

    def printed(self) -> list[str]:
        """The completed jobs, for a ``resume``; without those that every restored journal still knows as completed."""
        restored = [
            entry.evidence.get("restored_through", 0)
            for entry in self.entries
            if entry.event == "journal-rolled-back"
        ]
        known = min(restored, default=0)
        jobs = dict.fromkeys(
            entry.job
            for entry in self.entries
            if entry.job and entry.state == JobState.COMPLETED and entry.seq > known
        )
        return [job for job in jobs if job]

    def doubtful(self) -> list[Entry]:
        """The last receipts of jobs whose book may have ink, where nobody has said what it is."""
        last = {entry.job: entry for entry in self.entries if entry.job and entry.state}
        return [
            entry
            for entry in last.values()
            if entry.state in (JobState.PROCESSING, JobState.PROCESSING_STOPPED)
            and _FATES.get(entry.event) == "may have ink"
        ]


def _contradictions(
    entries: Sequence[Entry], issued: Sequence[Mapping[str, Any]], *, through: int
) -> Iterator[Fault]:
    """What the station says of the authority, and the authority did not do."""
    orders = {(row.get("action"), row["seq"]) for row in issued}
    resumes = {row.get("through") for row in issued if row.get("action") == Action.RESUME}
    for entry in entries:
        seq = entry.evidence.get("seq")
        if entry.event == "trust-updated" and (Action.TRUST, seq) not in orders:
            yield Fault(entry.seq, f"trust-updated by message {seq}, which was never issued")
        at = entry.evidence.get("through")
        if entry.event == "journal-resumed" and at not in resumes:
            yield Fault(entry.seq, f"journal-resumed, and no resume through {at} was ever issued")
    stored = max((row["through"] for row in issued if "through" in row), default=0)
    if through < stored:
        yield Fault(
            None,
            f"the receipts end at {through}, but {stored} were acknowledged: give the whole chain",
        )


def _seq_unverified(line: str) -> int:
    """Where a line claims to stand; what is no receipt comes first, and is told as such."""
    seq = claims_unverified(line).get("seq")
    return seq if isinstance(seq, int) else 0


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
