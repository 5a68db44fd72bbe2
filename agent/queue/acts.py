"""What technicians may do to jobs (CONTRACT sections 4.1 and 5); every act is idempotent and leaves a receipt."""

from __future__ import annotations

import enum
from typing import Any

from agent.errors import RequestRefused
from agent.model import Reason
from agent.queue import attempts, intake_rules, jobs
from agent.queue.attempts import Attempt
from agent.queue.jobs import Job
from agent.queue.journal import Transaction
from agent.queue.states import STOPPED, Event, Phase, state_of


class Outcome(enum.StrEnum):
    """What a person says of the book in the hand."""

    PRINTED = "printed"
    BLANK = "blank"
    SPOILED = "spoiled"


def cancel(tx: Transaction, job_id: str, *, actor: str, reason: str | None) -> Job:
    """Ends a job without ink; while its page is in the printer it is a wish until the buffers are clear."""
    job = jobs.require(tx, job_id)
    if job.phase is Phase.CANCELED:
        return job
    if job.ended:
        raise _not_allowed(job, "it has ended")
    if not jobs.may_be_without_ink(job):
        raise _not_allowed(
            job, "its book has or may have ink; look at the book and `resolve` the job"
        )
    return intake_rules.cancel(tx, job, Reason.CANCELED_BY_TECHNICIAN, actor=actor, note=reason)


def hold(tx: Transaction, job_id: str, *, actor: str, reason: str | None) -> Job:
    """Holds a job until a technician or the authority releases it."""
    job = jobs.require(tx, job_id)
    if job.ended:
        raise _not_allowed(job, "it has ended")
    return intake_rules.hold(tx, job, actor=actor, note=reason)


def release(tx: Transaction, job_id: str, *, actor: str, reason: str | None) -> Job:
    """Ends a technician's hold."""
    job = jobs.require(tx, job_id)
    if job.hold_authority:
        raise _not_allowed(job, "the authority holds it; only the authority can release it")
    if job.ended:
        raise _not_allowed(job, "it has ended")
    return intake_rules.release(tx, job, actor=actor, note=reason)


def replay(tx: Transaction, job_id: str, *, actor: str, reason: str | None) -> Job:
    """Returns a set-aside or aborted job to ``pending``, only where no ink can be on a book that still counts."""
    job = jobs.require(tx, job_id)
    if job.phase in (Phase.WAITING, Phase.HELD):
        return job
    if job.phase in STOPPED:
        raise _not_allowed(
            job,
            "its book has or may have ink; look at the book and `resolve` the job: blank prints it again",
        )
    if job.phase is Phase.ABORTED:
        why = _ended_for_good(tx, job)
        if why is not None:
            raise _not_allowed(job, f"{why}; ask the authority for a new authorization")
    elif job.phase is not Phase.SET_ASIDE:
        raise _not_allowed(job, f"it is {job.phase}")
    job = jobs.move(tx, job, Event.REPLAY, actor=actor, note=reason, crashes=0, printer=None)
    return jobs.settle(tx, job, actor=actor)


def _ended_for_good(tx: Transaction, job: Job) -> str | None:
    """Why an aborted job cannot come back, or None."""
    if job.end_reason == Reason.BOOK_SPOILED:
        return "all its books are spoiled"
    if tx.now > job.exp or job.wish or job.erased:
        return "its window has ended"
    books = list(
        tx.rows(
            "SELECT number, fate FROM books WHERE id >= ? AND job = ? ORDER BY id",
            (jobs.book_id(job), job.id),
        )
    )
    if books[0]["fate"] != "blank":
        return f"book {job.book} has ink"
    # Its books became free with its end: another authorization may have named one since.
    claims = (jobs.other_claim(tx, book["number"], but=job.id) for book in books)
    return next((claim for claim in claims if claim is not None), None)


def request_transfer(
    tx: Transaction, job_id: str, *, to: str, actor: str, reason: str | None
) -> Job:
    """Asks the authority to give the job to another station; it changes nothing here."""
    job = jobs.require(tx, job_id)
    if job.transfer_to == to:
        return job
    if job.ended or not jobs.may_be_without_ink(job):
        raise _not_allowed(
            job, "it has ended" if job.ended else "its book has or may have ink; `resolve` it first"
        )
    job = jobs.change(tx, job, transfer_to=to)
    jobs.tell(tx, "transfer-requested", job, actor=actor, evidence={"to": to}, note=reason)
    return job


def resolve(
    tx: Transaction,
    job_id: str,
    *,
    outcome: Outcome,
    book: str,
    attempt_number: int | None,
    actor: str,
    reason: str | None = None,
) -> Job:
    """A person with the book in hand says what it is.

    Raises:
        RequestRefused: 409 ``printer-not-clear`` while the page may still print; 409 ``not-allowed`` for another
            book, attempt or outcome than the one that stands.
    """
    job = jobs.require(tx, job_id)
    attempt = attempts.latest(tx, job)
    if job.phase in STOPPED or job.phase is Phase.VERIFY_WANTED:
        assert attempt is not None
        return _resolve_stopped(
            tx,
            job,
            attempt,
            outcome=outcome,
            book=book,
            number=attempt_number,
            actor=actor,
            reason=reason,
        )
    said = _said_before(tx, job, book=book, number=attempt_number)
    if said == outcome:
        return job
    spoilable = job.phase in (Phase.WAITING, Phase.HELD, Phase.SELECTED) and book == job.book
    if outcome is Outcome.SPOILED and spoilable and attempt_number is None:
        return _spoil(tx, job, actor=actor, reason=reason)
    if said is not None:
        raise _not_allowed(job, f"book {book} was resolved as {said} before")
    raise _not_allowed(
        job,
        f"nothing about it is open for a person; its state is {state_of(job.phase)}, its book {job.book}",
    )


def _resolve_stopped(
    tx: Transaction,
    job: Job,
    attempt: Attempt,
    *,
    outcome: Outcome,
    book: str,
    number: int | None,
    actor: str,
    reason: str | None,
) -> Job:
    if number is not None and number != attempt.number:
        raise _not_allowed(
            job, f"attempt {attempt.number} is open, not {number}; look at its book and name it"
        )
    if book != attempt.book:
        raise _not_allowed(
            job,
            f"the attempt was made on book {attempt.book}, not {book}; take that book in the hand",
        )
    if not attempt.clear:
        raise RequestRefused(
            409,
            "printer-not-clear",
            f"job {job.id} cannot be resolved yet: its page may still print. Wait until printer {attempt.printer} is back, or"
            f" switch it off and say so: `print-agent printer accept {attempt.printer} --reason ...`",
        )
    if outcome is Outcome.BLANK and job.phase not in (Phase.IN_DOUBT, Phase.FAILED):
        raise _not_allowed(
            job, "the evidence says that its book was printed; it is printed or spoiled, not blank"
        )
    attempts.resolve_attempt(tx, attempt, outcome)
    evidence = {"attempt": attempt.number, "resolved": outcome.value}
    match outcome:
        case Outcome.PRINTED:
            tx.put("books", jobs.book_id(job), fate="printed")
            return jobs.move(
                tx,
                job,
                Event.RESOLVE_PRINTED,
                actor=actor,
                evidence=evidence,
                note=reason,
                wish=None,
            )
        case Outcome.BLANK:
            tx.put("books", jobs.book_id(job), fate="blank")
            job = jobs.move(
                tx,
                job,
                Event.RESOLVE_BLANK,
                actor=actor,
                evidence=evidence,
                note=reason,
                printer=None,
            )
            return jobs.settle(tx, job, actor=actor)
        case Outcome.SPOILED:
            return _spoil(tx, job, actor=actor, reason=reason, evidence=evidence)


def _spoil(
    tx: Transaction,
    job: Job,
    *,
    actor: str,
    reason: str | None,
    evidence: dict[str, Any] | None = None,
) -> Job:
    tx.put("books", jobs.book_id(job), fate="spoiled")
    spoiled = job.book
    if job.entry + 1 >= job.entries and job.wish is None:
        return jobs.move(
            tx,
            job,
            Event.SPOIL_LAST,
            actor=actor,
            evidence=evidence,
            note=reason,
            receipt_book=spoiled,
            end_reason=Reason.BOOK_SPOILED.value,
            printer=None,
        )
    entry = min(job.entry + 1, job.entries - 1)
    following = tx.value("SELECT number FROM books WHERE id = ?", (jobs.book_id(job, entry),))
    job = jobs.move(
        tx,
        job,
        Event.SPOIL,
        actor=actor,
        evidence=evidence,
        note=reason,
        receipt_book=spoiled,
        entry=entry,
        book=following,
        printer=None,
    )
    return jobs.settle(tx, job, actor=actor)


def _said_before(tx: Transaction, job: Job, *, book: str, number: int | None) -> Outcome | None:
    sql = "SELECT resolution FROM attempts WHERE job = ? AND book = ? AND resolution IS NOT NULL"
    bindings: list[Any] = [job.id, book]
    if number is not None:
        sql += " AND number = ?"
        bindings.append(number)
    said = tx.value(sql + " ORDER BY id DESC LIMIT 1", bindings)
    if said is not None:
        return Outcome(said)
    fate = tx.value("SELECT fate FROM books WHERE job = ? AND number = ?", (job.id, book))
    told = {"spoiled": Outcome.SPOILED, "printed": Outcome.PRINTED}
    return told.get(fate) if number is None else None


def verify(tx: Transaction, job_id: str, *, matches: bool, actor: str) -> Job:
    """The machine-readable zone was read back from the book."""
    job = jobs.require(tx, job_id)
    if job.phase is Phase.COMPLETED and matches:
        return job
    if job.phase is Phase.VERIFY_WANTED:
        event = Event.MRZ_MATCHES if matches else Event.MRZ_DIFFERS
        return jobs.move(tx, job, event, actor=actor)
    if job.phase is Phase.VERIFY_FAILED and not matches:
        return job
    if job.phase is Phase.IN_DOUBT and matches:
        return _verify_in_doubt(tx, job, actor=actor)
    if not matches:
        raise _not_allowed(job, "the machine-readable zone that was read is not this document's")
    raise _not_allowed(
        job, f"it does not wait for its machine-readable zone; its state is {state_of(job.phase)}"
    )


def _verify_in_doubt(tx: Transaction, job: Job, *, actor: str) -> Job:
    attempt = attempts.latest(tx, job)
    assert attempt is not None
    if not attempt.clear:
        raise RequestRefused(
            409,
            "printer-not-clear",
            f"job {job.id}: its page may still print; wait until printer {attempt.printer} is clear",
        )
    attempts.resolve_attempt(tx, attempt, Outcome.PRINTED)
    tx.put("books", jobs.book_id(job), fate="printed")
    return jobs.move(
        tx, job, Event.MRZ_MATCHES, actor=actor, wish=None, evidence={"attempt": attempt.number}
    )


def _not_allowed(job: Job, why: str) -> RequestRefused:
    return RequestRefused(409, "not-allowed", f"job {job.id}: {why}")
