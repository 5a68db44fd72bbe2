"""One job's row: how it is read, moved along the table and shown; the shared part of all operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from agent.errors import RequestRefused
from agent.model import JobState, Reason
from agent.queue.journal import Reader, Row, Transaction
from agent.queue.states import (
    ENDED,
    MAY_HAVE_INK,
    PAGE_IN_PRINTER,
    PHASE_REASONS,
    Event,
    Phase,
    next_phase,
    state_of,
)

AGENT = "agent"
AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class Job:
    """A row of table jobs; see schema.sql for the columns."""

    number: int
    id: str
    seq: int
    phase: Phase
    priority: int
    application: str | None
    iat: int
    nbf: int | None
    exp: int
    accepted_at: int
    ended_at: int | None
    end_seq: int | None
    end_reason: str | None
    erased: int
    entry: int
    entries: int
    book: str
    attempts: int
    crashes: int
    printer: str | None
    held_until: int | None
    hold_authority: int
    hold_technician: int
    hold_seq: int
    wish: str | None
    transfer_to: str | None

    @property
    def ended(self) -> bool:
        return self.phase in ENDED

    @property
    def held(self) -> bool:
        return bool(self.hold_authority or self.hold_technician)


_COLUMNS = tuple(field.name for field in fields(Job))


def from_row(row: Row) -> Job:
    """A job from a row of its table."""
    return Job(**{name: row[name] for name in _COLUMNS} | {"phase": Phase(row["phase"])})


def find(reader: Reader, job_id: str) -> Job | None:
    """The job of that id, or None."""
    row = reader.row("SELECT * FROM jobs WHERE id = ?", (job_id,))
    return None if row is None else from_row(row)


def of_book(reader: Reader, number: str) -> Job | None:
    """The newest job whose current book this is, in whatever state, or None."""
    row = reader.row(
        "SELECT j.* FROM books b JOIN jobs j ON j.id = b.job AND j.book = b.number"
        " WHERE b.number = ? ORDER BY j.number DESC LIMIT 1",
        (number,),
    )
    return None if row is None else from_row(row)


def require(reader: Reader, job_id: str) -> Job:
    """The job of that id.

    Raises:
        RequestRefused: 404 ``unknown-job``.
    """
    job = find(reader, job_id)
    if job is None:
        raise RequestRefused(
            404, "unknown-job", f"there is no job {job_id!r} on this station; `jobs` lists them"
        )
    return job


def reasons_of(job: Job, *, clear: bool = True) -> list[str]:
    """The reasons that the journal knows; what only lives (stopped printers, the clock) is added by the view.

    Args:
        job: The job.
        clear: False where the printer of a stopped job was not proven clear.
    """
    reasons: list[str] = []
    if job.phase in (Phase.CANCELED, Phase.ABORTED):
        return [job.end_reason] if job.end_reason else []
    if job.phase in PHASE_REASONS:
        reasons.append(PHASE_REASONS[job.phase])
    if not clear and state_of(job.phase) is JobState.PROCESSING_STOPPED:
        reasons.append(Reason.PRINTER_NOT_CLEAR)
    if job.phase is Phase.HELD and job.held_until is not None:
        # The later of the two decides; an nbf that is still to come is the plainer answer.
        waits_for_nbf = job.nbf is not None and job.nbf >= job.held_until
        reasons.append(Reason.NOT_YET_VALID if waits_for_nbf else Reason.CLOCK_UNTRUSTED)
    if not job.ended:
        if job.held:
            reasons.append(Reason.JOB_HOLD)
        # Of the wishes the table of CONTRACT section 4 shows these; how else a job is to end is told once it has.
        if job.wish == Reason.REVOKED:
            reasons.append(Reason.REVOKED)
    return [str(reason) for reason in reasons]


def move(
    tx: Transaction,
    job: Job,
    event: Event,
    *,
    actor: str = AGENT,
    evidence: Mapping[str, Any] | None = None,
    note: str | None = None,
    receipt_book: str | None = None,
    **columns: Any,
) -> Job:
    """Takes a job one row further in the table and journals it, with the receipt that the row names.

    Raises:
        IllegalTransition: The table has no such row; nothing was changed.
    """
    step = next_phase(job.phase, event)
    if step.phase in ENDED:
        columns["ended_at"] = tx.now
        if step.receipt:
            columns["end_seq"] = tx.next_receipt_seq
    elif job.ended:
        columns |= {"ended_at": None, "end_seq": None, "end_reason": None}
    after = replace(job, phase=step.phase, **columns)
    tx.put("jobs", job.number, phase=step.phase.value, **columns)
    if step.receipt is None:
        tx.note(event.value, job=job.id)
    else:
        tell(
            tx,
            step.receipt,
            after,
            actor=actor,
            evidence=evidence,
            note=note,
            book=receipt_book or job.book,
        )
    return after


def tell(
    tx: Transaction,
    receipt: str,
    job: Job,
    *,
    actor: str,
    evidence: Mapping[str, Any] | None = None,
    note: str | None = None,
    book: str | None = None,
) -> int:
    """A receipt about a job as it is now; rows put before go with it."""
    return tx.receipt(
        receipt,
        actor=actor,
        job=job.id,
        state=state_of(job.phase),
        reasons=reasons_of(job),
        book=job.book if book is None else book,
        evidence=evidence,
        note=note,
    )


def change(tx: Transaction, job: Job, **columns: Any) -> Job:
    """Puts columns of a job; the caller journals them."""
    tx.put("jobs", job.number, **columns)
    return replace(job, **columns)


def book_id(job: Job, entry: int | None = None) -> int:
    """The key in table books of one of the job's entries."""
    return job.number * 4 + (job.entry if entry is None else entry)


def settle(tx: Transaction, job: Job, *, actor: str = AGENT) -> Job:
    """A job that came back without ink: what was wished of it meanwhile happens now, in the same commit."""
    if job.phase is not Phase.WAITING:
        return job
    retired = bool(tx.station("retired"))
    wish = job.wish or (Reason.TRANSFERRED.value if retired else None)
    if wish is not None:
        by = AUTHORITY if wish != Reason.CANCELED_BY_TECHNICIAN else actor
        return move(tx, job, Event.CANCEL, actor=by, end_reason=wish, wish=None)
    if expired(tx, job):
        return move(tx, job, Event.EXPIRE, end_reason=Reason.EXPIRED.value)
    if job.held or (job.held_until is not None and job.held_until > tx.now):
        return move(tx, job, Event.HOLD, actor=actor)
    return job


def other_claim(reader: Reader, number: str, *, but: str) -> str | None:
    """Why a book is not free for the job ``but``: another one still counts on it, or may have inked it; else None."""
    rows = reader.rows(
        "SELECT b.job, b.fate, j.phase FROM books b JOIN jobs j ON j.id = b.job WHERE b.number = ? AND b.job != ?",
        (number, but),
    )
    for row in rows:
        if row["fate"] != "blank":
            return (
                f"book {number} is named by authorization {row['job']!r}, which may have inked it"
            )
        if Phase(row["phase"]) not in ENDED:
            return f"book {number} is named by authorization {row['job']!r}, which has not ended"
    return None


def require_presented_books(tx: Transaction) -> None:
    """The jobs accepted so far print only into a presented book, whatever ``book_check`` says."""
    tx.put("station", "presented_only_through", value=tx.next_key("jobs") - 1)


def expired(tx: Transaction, job: Job) -> bool:
    """Whether its window has passed by a clock that may say so."""
    return tx.clock_trusted and tx.now > job.exp


def may_be_without_ink(job: Job) -> bool:
    """Whether no intent stands between the job and its cancellation."""
    return job.phase not in MAY_HAVE_INK


def page_may_be_in_printer(job: Job) -> bool:
    """Whether its page must be cleared before it may be canceled, held or given up."""
    return job.phase in PAGE_IN_PRINTER
