"""What an accepted message does to the journal (CONTRACT sections 3, 3.1 and 3.3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.errors import MessageRefused
from agent.model import (
    INTEGER_MAX,
    TYP_AUTHORIZATION,
    Action,
    Authorization,
    Directive,
    Envelope,
    Reason,
    base64url,
)
from agent.queue import attempts, jobs
from agent.queue.jobs import AUTHORITY, Job
from agent.queue.journal import Reader, Transaction
from agent.queue.known_time import AHEAD_MAX_S
from agent.queue.retention import erase_documents
from agent.queue.states import Event, Phase

PROCESS_ID_LEAP = 1_000_000  # CONTRACT section 8 rule 6


def known_answer(reader: Reader, envelope: Envelope) -> bool:
    """Whether the same content was accepted before.

    Raises:
        MessageRefused: 409, the same ``jti`` or ``seq`` was accepted with other content.
    """
    rows = list(
        reader.rows(
            "SELECT jti, seq, sha256 FROM messages WHERE seq = ? OR jti = ?",
            (envelope.seq, envelope.jti),
        )
    )
    if not rows:
        return False
    digest = base64url(envelope.sha256)
    if all(row["sha256"] == digest for row in rows):
        return True
    what = "jti" if any(row["jti"] == envelope.jti for row in rows) else "seq"
    value = envelope.jti if what == "jti" else envelope.seq
    raise MessageRefused(
        409,
        "conflict",
        f"{what} {value!r} was accepted before with other content; a new message needs a {what} of its own",
    )


def check_not_retired(reader: Reader, envelope: Envelope) -> None:
    """A retired station takes no new authorization.

    Raises:
        MessageRefused: 403 ``wrong-station``.
    """
    if envelope.typ == TYP_AUTHORIZATION and reader.station("retired"):
        raise MessageRefused(
            403,
            "wrong-station",
            f"this station is retired and prints nothing any more; {envelope.jti!r} is for its spare",
        )


def check_books_free(reader: Reader, authorization: Authorization) -> None:
    """No entry names a book that another authorization still counts on.

    Raises:
        MessageRefused: 409 ``conflict``.
    """
    for entry in authorization.books:
        taken = jobs.other_claim(reader, entry.number, but=authorization.envelope.jti)
        if taken is not None:
            raise MessageRefused(409, "conflict", f"{taken}; name another book")


def check_trust_version(directive: Directive, *, current: int) -> None:
    """A trust update must be newer than the last.

    Raises:
        MessageRefused: 409 ``conflict``.
    """
    if (
        directive.action is Action.TRUST
        and directive.version is not None
        and directive.version <= current
    ):
        raise MessageRefused(
            409,
            "conflict",
            f"trust version {directive.version} is not greater than {current}, the last; old trust is not put back",
        )


def check_not_expired(envelope: Envelope, *, now: int) -> None:
    """``exp`` is the last second of the window.

    Raises:
        MessageRefused: 410 ``expired``.
    """
    if now > envelope.exp:
        raise MessageRefused(
            410,
            "expired",
            f"exp {envelope.exp} has passed ({now} now): the authority must issue it anew",
        )


def accept_authorization(tx: Transaction, authorization: Authorization) -> Job:
    """Journals a checked authorization as a job, with the directives that were kept for it."""
    envelope = authorization.envelope
    far_ahead = tx.clock_trusted and envelope.iat > tx.now + AHEAD_MAX_S
    _register(tx, envelope, action="authorize", job=None, far_ahead=far_ahead)
    # The clock's trust may have changed with this very message; its window is judged by the result.
    waits = [
        moment
        for moment in (envelope.nbf, envelope.iat if far_ahead else None)
        if moment and moment > tx.now
    ]
    number = tx.next_key("jobs")
    held_until = max(waits, default=None)
    phase = Phase.HELD if held_until is not None else Phase.WAITING
    columns = {
        "id": envelope.jti,
        "seq": envelope.seq,
        "phase": phase.value,
        "priority": authorization.priority,
        "application": authorization.application,
        "iat": envelope.iat,
        "nbf": envelope.nbf,
        "exp": envelope.exp,
        "accepted_at": tx.now,
        "held_until": held_until,
        "entries": len(authorization.books),
        "book": authorization.books[0].number,
    }
    tx.put("jobs", number, **columns)
    for index, entry in enumerate(authorization.books):
        tx.put("books", number * 4 + index, number=entry.number, job=envelope.jti, fate="blank")
    tx.keep_document(envelope.jti, envelope.text)
    job = jobs.require(tx, envelope.jti)
    jobs.tell(
        tx,
        "job-accepted",
        job,
        actor=AUTHORITY,
        evidence={"seq": envelope.seq, "sha256": base64url(envelope.sha256)},
    )
    for kept in list(tx.rows("SELECT * FROM kept WHERE job = ? ORDER BY seq", (job.id,))):
        tx.drop("kept", kept["id"])
        tx.note("kept-applied", job=job.id)
        detail = json.loads(kept["detail"] or "{}")
        job = _apply_to_job(tx, job, Action(kept["action"]), seq=kept["seq"], detail=detail)
    return job


def accept_directive(tx: Transaction, directive: Directive, *, documents_days: int = 0) -> None:
    """Journals a checked directive and what it changes; documents are kept so many days after their job's end."""
    envelope = directive.envelope
    far_ahead = tx.clock_trusted and envelope.iat > tx.now + AHEAD_MAX_S
    _register(tx, envelope, action=directive.action.value, job=directive.job, far_ahead=far_ahead)
    tx.note("directive-accepted", job=directive.job)
    match directive.action:
        case Action.REVOKE | Action.HOLD | Action.RELEASE | Action.TRANSFER:
            assert directive.job is not None
            detail = {"reason": directive.reason, "to": directive.to}
            _apply_or_keep(tx, directive.job, directive.action, seq=envelope.seq, detail=detail)
        case Action.RETIRE:
            _retire(tx, directive)
        case Action.ACKNOWLEDGE:
            _acknowledge(tx, directive, documents_days=documents_days)
        case Action.TRUST:
            tx.put("station", "trust", value=json.dumps(directive.jwks, separators=(",", ":")))
            tx.put("station", "trust_version", value=directive.version)
            tx.receipt(
                "trust-updated",
                actor=AUTHORITY,
                evidence={"version": directive.version, "seq": envelope.seq},
            )
        case Action.RESUME:
            _resume(tx, directive)


def _register(
    tx: Transaction, envelope: Envelope, *, action: str, job: str | None, far_ahead: bool
) -> None:
    """Remembers ``jti``, ``seq`` and content for ever, keeps the gaps, and moves the known time."""
    if not far_ahead:
        tx.advance_known_time(envelope.iat)
    tx.put(
        "messages",
        envelope.seq,
        jti=envelope.jti,
        sha256=base64url(envelope.sha256),
        action=action,
        job=job,
    )
    highest = int(tx.station("highest_seq", 0))
    if envelope.seq > highest:
        tx.put("station", "highest_seq", value=envelope.seq)
        if envelope.seq > highest + 1:
            first, last = highest + 1, envelope.seq - 1
            tx.put("gaps", first, last=last, missing=last - first + 1)
            tx.receipt("sequence-gap", actor=jobs.AGENT, evidence={"from": first, "to": last})
        return
    gap = tx.row(
        "SELECT * FROM gaps WHERE first <= ? AND last >= ? LIMIT 1", (envelope.seq, envelope.seq)
    )
    if gap is None:
        return
    if gap["missing"] > 1:
        tx.put("gaps", gap["first"], last=gap["last"], missing=gap["missing"] - 1)
        return
    tx.drop("gaps", gap["first"])
    tx.receipt(
        "sequence-filled", actor=jobs.AGENT, evidence={"from": gap["first"], "to": gap["last"]}
    )


def _apply_or_keep(
    tx: Transaction, job_id: str, action: Action, *, seq: int, detail: Mapping[str, Any]
) -> None:
    job = jobs.find(tx, job_id)
    if job is not None:
        _apply_to_job(tx, job, action, seq=seq, detail=detail)
        return
    text = json.dumps(
        {key: value for key, value in detail.items() if value is not None}, separators=(",", ":")
    )
    tx.put("kept", tx.next_key("kept"), job=job_id, seq=seq, action=action.value, detail=text)
    tx.note("directive-kept", job=job_id)


def _apply_to_job(
    tx: Transaction, job: Job, action: Action, *, seq: int, detail: Mapping[str, Any]
) -> Job:
    reason = detail.get("reason")
    match action:
        case Action.REVOKE:
            return cancel(tx, job, Reason.REVOKED, actor=AUTHORITY, note=reason)
        case Action.TRANSFER:
            return _transfer(tx, job, to=str(detail.get("to")), note=reason)
        case Action.HOLD | Action.RELEASE:
            if job.ended or seq < job.hold_seq:
                return job
            job = jobs.change(tx, job, hold_seq=seq)
            if action is Action.HOLD:
                return hold(tx, job, actor=AUTHORITY, note=reason)
            return release(tx, job, actor=AUTHORITY, note=reason)
        case Action.RESUME:
            return authority_printed(tx, job)
        case _:
            raise AssertionError(f"{action} is not about one job")


def cancel(tx: Transaction, job: Job, why: Reason, *, actor: str, note: str | None = None) -> Job:
    """Ends a job without ink, or notes the wish where a page or ink may be out already.

    The first wish stays, but what the authority revokes is revoked.
    """
    outranked = job.wish is not None and (job.wish == Reason.REVOKED or why is not Reason.REVOKED)
    if job.phase in (Phase.COMPLETED, Phase.CANCELED) or outranked:
        return job
    if (
        job.phase is Phase.ABORTED
        or not jobs.may_be_without_ink(job)
        or jobs.page_may_be_in_printer(job)
    ):
        job = jobs.change(tx, job, wish=why.value)
        jobs.tell(tx, "wish-noted", job, actor=actor, evidence={"wish": why.value}, note=note)
        return job
    return jobs.move(tx, job, Event.CANCEL, actor=actor, note=note, end_reason=why.value)


def _transfer(tx: Transaction, job: Job, *, to: str, note: str | None) -> Job:
    evidence = {"to": to}
    if not jobs.may_be_without_ink(job) or _any_book_has_ink(tx, job):
        jobs.tell(tx, "transfer-refused", job, actor=AUTHORITY, evidence=evidence, note=note)
        return job
    if jobs.page_may_be_in_printer(job) or job.phase is Phase.ABORTED:
        return cancel(tx, job, Reason.TRANSFERRED, actor=AUTHORITY, note=note)
    if job.ended:
        return job
    return jobs.move(
        tx,
        job,
        Event.CANCEL,
        actor=AUTHORITY,
        evidence=evidence,
        note=note,
        end_reason=Reason.TRANSFERRED.value,
    )


def _any_book_has_ink(tx: Transaction, job: Job) -> bool:
    fates = tx.rows("SELECT fate FROM books WHERE job = ?", (job.id,))
    return any(row["fate"] in ("may-have-ink", "printed") for row in fates)


def hold(tx: Transaction, job: Job, *, actor: str, note: str | None = None) -> Job:
    """Holds a job, or notes the wish while a page or ink may be out."""
    column = "hold_authority" if actor == AUTHORITY else "hold_technician"
    if job.ended or getattr(job, column):
        return _journal_only(tx, job)
    job = jobs.change(tx, job, **{column: 1})
    if job.phase in (Phase.WAITING, Phase.HELD, Phase.SELECTED):
        return jobs.move(tx, job, Event.HOLD, actor=actor, note=note, printer=None)
    jobs.tell(tx, "job-held", job, actor=actor, note=note)
    return job


def release(tx: Transaction, job: Job, *, actor: str, note: str | None = None) -> Job:
    """Ends a hold: the authority's release ends both kinds, a technician's only the technicians'."""
    columns = {"hold_technician": 0} | ({"hold_authority": 0} if actor == AUTHORITY else {})
    if job.ended or not any(getattr(job, column) for column in columns):
        return _journal_only(tx, job)
    job = jobs.change(tx, job, **columns)
    if job.phase is not Phase.HELD:
        jobs.tell(tx, "job-released", job, actor=actor, note=note)
        return job
    waits = job.held or (job.held_until is not None and job.held_until > tx.now)
    return jobs.move(
        tx, job, Event.RELEASE_IN_PART if waits else Event.RELEASE, actor=actor, note=note
    )


def _journal_only(tx: Transaction, job: Job) -> Job:
    tx.note_if_changed("hold-order", job=job.id)
    return job


def authority_printed(tx: Transaction, job: Job) -> Job:
    """The authority knows that this job was printed (``resume``)."""
    if job.ended:
        book = tx.get("books", jobs.book_id(job))
        if book is not None and book["fate"] == "blank":
            # However it ended here: its book is never another job's.
            tx.put("books", book["id"], fate="printed")
            tx.note("book-printed", job=job.id)
        return job
    tx.put("books", jobs.book_id(job), fate="printed")
    attempt = attempts.latest(tx, job)
    if attempt is not None and attempt.process_id is not None and attempt.stage != "closed":
        attempts.resolve_attempt(tx, attempt, "printed")
    return jobs.move(tx, job, Event.AUTHORITY_PRINTED, actor=AUTHORITY, wish=None)


def _retire(tx: Transaction, directive: Directive) -> None:
    if not tx.station("retired"):
        tx.put("station", "retired", value=1)
        tx.receipt("station-retired", actor=AUTHORITY, note=directive.reason)
    open_jobs = tx.rows(
        "SELECT * FROM jobs WHERE phase NOT IN ('completed', 'canceled', 'aborted') ORDER BY number"
    )
    for row in list(open_jobs):
        cancel(tx, jobs.from_row(row), Reason.TRANSFERRED, actor=AUTHORITY, note=directive.reason)


def _acknowledge(tx: Transaction, directive: Directive, *, documents_days: int) -> None:
    through, head = directive.through, directive.head
    assert through is not None
    assert head is not None
    if directive.envelope.seq < int(tx.station("resumed_by", 0)):
        # Signed before the resume that settled which chain counts.
        return
    held: int | None
    if tx.journal_hash(through) == head:
        held = through
    elif tx.station("rolled_back"):
        return
    else:
        held = tx.receipt_of_hash(head)
    if held is None:
        tx.put("station", "rolled_back", value=1)
        tx.receipt(
            "journal-rolled-back", actor=AUTHORITY, evidence={"through": through, "head": head}
        )
        return
    # It may hold more of this chain than it acknowledges, and cannot acknowledge more than it holds.
    acknowledged = min(through, held)
    if acknowledged > int(tx.station("acknowledged", 0)):
        tx.put("station", "acknowledged", value=acknowledged)
    if not erase_documents(tx, kept_days=documents_days, actor=AUTHORITY, limit=INTEGER_MAX):
        tx.note_if_changed("acknowledged")


def _resume(tx: Transaction, directive: Directive) -> None:
    through, head = directive.through, directive.head
    assert through is not None
    assert head is not None
    begin_anew(tx)
    tx.put("station", "rolled_back", value=0)
    tx.put("station", "resumed_by", value=directive.envelope.seq)
    shared = through if tx.journal_hash(through) == head else tx.station("restored_through")
    tx.put("station", "restored_through", value=None)
    tx.receipt(
        "journal-resumed",
        actor=AUTHORITY,
        seq=max(through, tx.last_receipt_seq) + 1,
        evidence={"through": through, "head": head, "forked_after": shared},
    )
    for job_id in directive.printed:
        _apply_or_keep(tx, job_id, Action.RESUME, seq=directive.envelope.seq, detail={})


def begin_anew(tx: Transaction) -> None:
    """After a restore or a resume: process IDs leap, and what was accepted before prints only into a presented book.

    The same copy may be restored a second time: the seconds between the two times are more than the books printed in them.
    """
    leap = PROCESS_ID_LEAP + tx.now % PROCESS_ID_LEAP
    tx.put("station", "process_id", value=int(tx.station("process_id", 0)) + leap)
    jobs.require_presented_books(tx)


def due(reader: Reader) -> int | None:
    """The next moment at which a waiting job's window opens or ends, NumericDate; None where no job waits for one."""
    ends = reader.value(
        "SELECT min(exp) FROM jobs WHERE phase IN ('waiting', 'held', 'selected', 'set-aside')"
    )
    opens = reader.value(
        "SELECT min(held_until) FROM jobs WHERE phase = 'held' AND held_until IS NOT NULL"
    )
    moments = [
        moment for moment in (None if ends is None else ends + 1, opens) if moment is not None
    ]
    return min(moments, default=None)


def let_time_pass(tx: Transaction) -> None:
    """Ends the jobs whose window has passed, and lets those wait whose window has come."""
    if not tx.clock_trusted:
        return
    sql = "SELECT * FROM jobs WHERE phase IN ('waiting', 'held', 'selected', 'set-aside') AND exp < ? LIMIT 500"
    for row in list(tx.rows(sql, (tx.now,))):
        jobs.move(tx, jobs.from_row(row), Event.EXPIRE, end_reason=Reason.EXPIRED.value)
    sql = "SELECT * FROM jobs WHERE phase = 'held' AND held_until IS NOT NULL AND held_until <= ? LIMIT 500"
    for row in list(tx.rows(sql, (tx.now,))):
        job = jobs.change(tx, jobs.from_row(row), held_until=None)
        if job.held:
            tx.note("wait-over", job=job.id)
        else:
            jobs.move(tx, job, Event.WAIT_OVER)
