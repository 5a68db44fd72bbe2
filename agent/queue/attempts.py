"""The steps of one attempt, each journaled before the next act (CONTRACT section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from agent.errors import PrintAgentError, RequestRefused
from agent.model import PrinterIdentity, Reason, process_id_text
from agent.queue import jobs
from agent.queue.jobs import AGENT, Job, require_presented_books
from agent.queue.journal import Reader, Row, Transaction
from agent.queue.recovery import Stage
from agent.queue.states import AT_PRINTER, Event, Phase, state_of

CRASHES_MAX = 2  # an attempt that ended the process this often is set aside


class NotNow(PrintAgentError):
    """The job may not go on as planned: it was canceled, held, its window ended; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of table attempts; see schema.sql for the columns."""

    id: int
    job: str
    number: int
    printer: str
    book: str
    stage: str
    run: int
    boot: str
    serial: str | None
    model: str | None
    counter: int | None
    inked_rows: int | None
    process_id: int | None
    noted: int
    error: int
    clear: int
    counted: int
    resolution: str | None

    @property
    def open_intent(self) -> bool:
        """Whether a counter may run ahead because of it (CONTRACT section 7)."""
        return (
            self.process_id is not None
            and self.stage != "closed"
            and not (self.clear and self.counted)
        )


_COLUMNS = tuple(field.name for field in fields(Attempt))


def from_row(row: Row) -> Attempt:
    """An attempt from a row of its table."""
    return Attempt(**{name: row[name] for name in _COLUMNS})


def unfinished(reader: Reader, printer: str) -> list[Attempt]:
    """The attempts that must be reconciled with this printer, oldest first."""
    rows = reader.rows(
        "SELECT * FROM attempts WHERE printer = ? AND stage NOT IN ('closed', 'standing') ORDER BY id",
        (printer,),
    )
    return [from_row(row) for row in rows]


def latest(reader: Reader, job: Job) -> Attempt | None:
    """The newest attempt of a job."""
    row = reader.row("SELECT * FROM attempts WHERE job = ? ORDER BY id DESC LIMIT 1", (job.id,))
    return None if row is None else from_row(row)


def candidates(reader: Reader, *, now: int, limit: int = 1) -> list[Job]:
    """The jobs that may print next, in their order: priority, then ``seq``."""
    rows = reader.rows(
        "SELECT * FROM jobs WHERE phase = 'waiting' AND number > ? AND exp >= ? ORDER BY priority DESC, seq LIMIT ?",
        (int(reader.station("presented_only_through", 0)), now, limit),
    )
    return [jobs.from_row(row) for row in rows]


def by_current_book(reader: Reader, number: str) -> Job | None:
    """The job that waits, or whose page is loaded, with this book as its current entry."""
    row = reader.row(
        "SELECT * FROM jobs WHERE book = ? AND phase IN ('waiting', 'selected', 'loading', 'loaded') LIMIT 1",
        (number,),
    )
    return None if row is None else jobs.from_row(row)


def unknown_book(reader: Reader, number: str) -> RequestRefused:
    """Why a book cannot be presented, for the person who holds it."""
    why = f"no waiting job has book {number} as its current one"
    row = reader.row(
        "SELECT j.* FROM books b JOIN jobs j ON j.id = b.job WHERE b.number = ? ORDER BY j.number DESC LIMIT 1",
        (number,),
    )
    if row is not None:
        job = jobs.from_row(row)
        stands = ", ".join([state_of(job.phase).value, *jobs.reasons_of(job)])
        why += f": it is of job {job.id} ({stands}); `print-agent job {job.id}` tells what to do"
    return RequestRefused(404, "unknown-book", why)


def selected(reader: Reader, printer: str) -> list[Job]:
    """The jobs that a printer has taken and not begun to load."""
    rows = reader.rows("SELECT * FROM jobs WHERE phase = 'selected' AND printer = ?", (printer,))
    return [jobs.from_row(row) for row in rows]


def check_may_print(reader: Reader, job: Job, *, now: int, clock_trusted: bool) -> None:
    """Nothing stands against printing this job now.

    Raises:
        NotNow: What stands against it.
    """
    if job.wish or reader.station("retired"):
        raise NotNow(
            f"job {job.id} is to end without being printed ({job.wish or 'the station is retired'})"
        )
    if job.held:
        raise NotNow(f"job {job.id} is held")
    if not clock_trusted:
        raise NotNow("the clock is not trusted")
    if reader.station("rolled_back"):
        raise NotNow(
            "the journal is older than the truth (journal-rolled-back), until the authority sends `resume`"
        )
    if now > job.exp:
        raise NotNow(f"the window of job {job.id} has ended")
    if job.held_until is not None and now < job.held_until:
        raise NotNow(f"job {job.id} is not valid yet")


def select(tx: Transaction, job_id: str, *, printer: str, presented_by: str | None = None) -> Job:
    """The printer takes this job: next in the order, or because its book was presented (then with a receipt).

    Raises:
        NotNow: It may not print now.
    """
    job = jobs.require(tx, job_id)
    if job.phase is not Phase.WAITING:
        raise NotNow(f"job {job.id} is {job.phase}")
    check_may_print(tx, job, now=tx.now, clock_trusted=tx.clock_trusted)
    job = jobs.move(tx, job, Event.SELECT, printer=printer)
    if presented_by is not None:
        tell_presented(tx, job, actor=presented_by)
    return job


def tell_presented(tx: Transaction, job: Job, *, actor: str) -> None:
    """The receipt of a presented book."""
    jobs.tell(tx, "book-presented", job, actor=actor, evidence={"printer": job.printer})


def begin_load(
    tx: Transaction,
    job_id: str,
    *,
    printer: str,
    run: int,
    boot: str,
    identity: PrinterIdentity,
    counter: int | None,
) -> Attempt:
    """Step 1: notes job, printer and counter before the first byte of the page; again for a load that broke.

    Raises:
        NotNow: The job may not print any more.
    """
    job = jobs.require(tx, job_id)
    if job.phase not in AT_PRINTER or job.printer != printer:
        raise NotNow(f"job {job.id} is {job.phase}")
    check_may_print(tx, job, now=tx.now, clock_trusted=tx.clock_trusted)
    again = None if job.phase is Phase.SELECTED else latest(tx, job)
    attempt = Attempt(
        id=again.id if again else tx.next_key("attempts"),
        job=job.id,
        number=again.number if again else job.attempts + 1,
        printer=printer,
        book=job.book,
        stage=Stage.LOAD.value,
        run=run,
        boot=boot,
        serial=identity.serial,
        model=identity.model,
        counter=counter,
        inked_rows=None,
        process_id=None,
        noted=0,
        error=0,
        clear=0,
        counted=0,
        resolution=None,
    )
    tx.put(
        "attempts",
        attempt.id,
        **{name: getattr(attempt, name) for name in _COLUMNS if name != "id"},
    )
    jobs.move(tx, job, Event.LOAD, attempts=attempt.number)
    return attempt


def note_book_or_line(tx: Transaction, attempt: Attempt) -> Attempt:
    """A book was seen in, or the line was lost, before the fence reply of a load."""
    return _put(tx, attempt, "load-broke", noted=1)


def cut_off(tx: Transaction, attempt: Attempt) -> Attempt:
    """The PC itself restarted before any agent had: nobody fed the printer while nobody watched it."""
    return _put(tx, attempt, "load-cut-off", stage=Stage.CUT_OFF.value)


def prove_load(tx: Transaction, attempt: Attempt) -> Attempt:
    """The fence reply came: the page lies complete in the printer, and the book may be asked for.

    Raises:
        NotNow: The job has ended meanwhile (``resume``), or is at another printer.
    """
    job = _at_hand(tx, attempt, Phase.LOADING)
    after = _change(tx, attempt, stage=Stage.LOADED.value)
    jobs.move(tx, job, Event.LOAD_PROVEN)
    return after


def _at_hand(tx: Transaction, attempt: Attempt, phase: Phase) -> Job:
    """The attempt's job, which must be in this phase, by this very attempt.

    Raises:
        NotNow: It is not, any more.
    """
    job = jobs.require(tx, attempt.job)
    if job.phase is not phase or job.printer != attempt.printer or job.attempts != attempt.number:
        raise NotNow(f"job {job.id} is {job.phase} at printer {job.printer}")
    return job


def take_back(tx: Transaction, job_id: str, *, printer: str) -> Job:
    """This printer was proven clear of the job's page: it waits again, or ends as was wished meanwhile.

    A job that another printer has taken since is left to it.
    """
    job = jobs.require(tx, job_id)
    attempt = latest(tx, job)
    if (
        attempt is not None
        and attempt.printer == printer
        and attempt.stage in (Stage.LOAD, Stage.CUT_OFF, Stage.LOADED)
    ):
        _put(tx, attempt, "page-cleared", stage="closed", clear=1)
    if job.printer != printer or job.phase not in AT_PRINTER:
        return job
    crashes = job.crashes
    job = jobs.move(tx, job, Event.TAKE_BACK, printer=None)
    if crashes >= CRASHES_MAX:
        return jobs.move(
            tx,
            job,
            Event.SET_ASIDE,
            note=f"its attempt ended the agent {crashes} times; `replay` tries it again",
            crashes=0,
        )
    return jobs.settle(tx, job)


def commit(tx: Transaction, attempt: Attempt, *, inked_rows: int) -> Attempt:
    """Step 3, the intent: durable before the one byte that prints.

    Raises:
        NotNow: The job may not print any more; the page must be cleared.
    """
    job = _at_hand(tx, attempt, Phase.LOADED)
    check_may_print(tx, job, now=tx.now, clock_trusted=tx.clock_trusted)
    process_id = int(tx.station("process_id", 0)) + 1
    tx.put("station", "process_id", value=process_id)
    tx.put("books", jobs.book_id(job), fate="may-have-ink")
    after = _change(
        tx, attempt, stage=Stage.INTENT.value, inked_rows=inked_rows, process_id=process_id
    )
    jobs.move(tx, job, Event.COMMIT, evidence=_intent_evidence(after))
    return after


def _intent_evidence(attempt: Attempt) -> dict[str, Any]:
    evidence: dict[str, Any] = {
        "attempt": attempt.number,
        "printer": attempt.printer,
        "process_id": process_id_text(attempt.process_id or 0),
        "inked_rows": attempt.inked_rows,
    }
    for name in ("serial", "model", "counter"):
        if getattr(attempt, name) is not None:
            evidence[name] = getattr(attempt, name)
    return evidence


def note_error(tx: Transaction, attempt: Attempt) -> Attempt:
    """The printer reported an error since the commit; it counts even when it has gone."""
    return _put(tx, attempt, "error-seen", error=1)


def note_counted(
    tx: Transaction, attempt: Attempt, *, serial: str | None, counter: int | None
) -> Attempt:
    """The counter after this attempt is journaled; an attempt that a person has resolved is closed."""
    _put_counter(tx, serial, counter)
    current = _fresh(tx, attempt)
    closed = {"stage": "closed"} if current.stage == "resolved" else {}
    return _put(tx, current, "counter-read", counted=1, clear=1, **closed)


def complete(
    tx: Transaction,
    attempt: Attempt,
    *,
    read_back: str,
    serial: str | None,
    counter: int | None,
    evidence: Mapping[str, Any],
) -> Job:
    """Step 5: it was printed; ``read_back`` is the printer's ``verify`` setting."""
    job = jobs.require(tx, attempt.job)
    event = Event.COMPLETE_UNREAD if read_back == "mrz" else Event.COMPLETE
    _put_counter(tx, serial, counter)
    _change(tx, attempt, stage="closed", clear=1, counted=1)
    if job.phase is Phase.COMPLETED:
        # The authority has said so while it printed (``resume``).
        tx.note("counter-read", job=job.id)
        return job
    tx.put("books", jobs.book_id(job), fate="printed")
    return jobs.move(
        tx, job, event, evidence=dict(evidence) | {"attempt": attempt.number}, wish=None, crashes=0
    )


def doubt(tx: Transaction, attempt: Attempt, *, evidence: Mapping[str, Any], note: str) -> Job:
    """Step 5: nobody can know without looking at the book."""
    job = jobs.require(tx, attempt.job)
    if job.phase is Phase.IN_DOUBT:
        return job
    tx.put("books", jobs.book_id(job), fate="may-have-ink")
    job = jobs.move(
        tx,
        job,
        Event.DOUBT,
        evidence=dict(evidence) | {"attempt": attempt.number},
        note=note,
        crashes=0,
    )
    if job.wish == Reason.TRANSFERRED and not tx.station("retired"):
        # It was to be given up once its page was cleared; now there may be ink (CONTRACT section 3.3).
        job = jobs.change(tx, job, wish=None)
        jobs.tell(tx, "transfer-refused", job, actor=AGENT)
    return job


def fail(tx: Transaction, attempt: Attempt, *, evidence: Mapping[str, Any], note: str) -> Job:
    """Step 5: the printer reported an error while it printed."""
    job = jobs.require(tx, attempt.job)
    if job.phase is Phase.FAILED:
        return job
    return jobs.move(
        tx, job, Event.FAIL, evidence=dict(evidence) | {"attempt": attempt.number}, note=note
    )


def no_ink(
    tx: Transaction,
    attempt: Attempt,
    *,
    serial: str | None,
    counter: int | None,
    evidence: Mapping[str, Any],
) -> Job:
    """Step 5: the evidence proves that the book is blank; the job waits for the same book, or ends as wished."""
    job = jobs.require(tx, attempt.job)
    _put_counter(tx, serial, counter)
    _change(tx, attempt, stage="closed", clear=1, counted=1)
    tx.put("books", jobs.book_id(job), fate="blank")
    job = jobs.move(
        tx,
        job,
        Event.NO_INK,
        evidence=dict(evidence) | {"attempt": attempt.number},
        printer=None,
        crashes=0,
    )
    return jobs.settle(tx, job)


def let_stand(tx: Transaction, attempt: Attempt) -> None:
    """No more evidence will come: the doubt stands until a person has looked at the book."""
    current = _fresh(tx, attempt)
    if current.stage in ("closed", "standing"):
        return
    stage = "closed" if current.stage == "resolved" else "standing"
    _put(tx, current, "doubt-stands", stage=stage)


def count_crash(tx: Transaction, job_id: str) -> None:
    """The process ended in the middle of this job's load."""
    job = jobs.require(tx, job_id)
    jobs.change(tx, job, crashes=job.crashes + 1)
    tx.note("attempt-crashed", job=job.id)


def forget_counters(tx: Transaction) -> None:
    """After a restore: printers went on while this journal did not, so no reading tells what an open attempt did."""
    for row in list(tx.rows("SELECT id FROM attempts WHERE stage NOT IN ('closed', 'standing')")):
        tx.put("attempts", row["id"], counter=None)


def seen_at_connect(
    tx: Transaction, *, printer: str, identity: PrinterIdentity, counter: int | None
) -> str | None:
    """Holds who answers against the journal; tells why the printer stops, or None (CONTRACT section 7)."""
    row = tx.get("printers", printer)
    if row is not None and row["stopped"] and row["stopped_serial"] == identity.serial:
        if row["stopped_counter"] != counter:
            tx.put("printers", printer, stopped_counter=counter)
            tx.note("printer-seen-again")
        return str(row["stopped"])
    known_serial = None if row is None else row["serial"]
    journaled = None if identity.serial is None else tx.get("counters", identity.serial)
    open_intent = any(
        attempt.open_intent and attempt.serial == identity.serial
        for attempt in unfinished(tx, printer)
    )
    stopped: str | None = None
    if known_serial is not None and identity.serial != known_serial:
        stopped = "printer-changed"
    elif (
        journaled is not None
        and counter is not None
        and counter > journaled["value"]
        and not open_intent
    ):
        stopped = "printer-used-elsewhere"
    if stopped is not None:
        tx.put(
            "printers",
            printer,
            stopped=stopped,
            stopped_serial=identity.serial,
            stopped_counter=counter,
        )
        require_presented_books(tx)
        evidence: dict[str, Any] = {
            "printer": printer,
            "why": stopped,
            "serial": identity.serial,
            "counter": counter,
        }
        if journaled is not None:
            evidence["journaled"] = journaled["value"]
        if known_serial is not None:
            evidence["expected_serial"] = known_serial
        tx.receipt(
            "printer-changed",
            actor=AGENT,
            evidence={k: v for k, v in evidence.items() if v is not None},
        )
        return stopped
    if (
        row is None
        or row["stopped"]
        or row["serial"] != identity.serial
        or row["model"] != identity.model
    ):
        tx.put(
            "printers",
            printer,
            serial=identity.serial or known_serial,
            model=identity.model,
            stopped=None,
        )
    if not open_intent:
        _put_counter(tx, identity.serial, counter)
    tx.note_if_changed("printer-seen")
    return None


def accept_printer(
    tx: Transaction, printer: str, *, actor: str, reason: str, answers: bool
) -> bool:
    """A technician accepts a changed printer, or declares one that does not answer switched off; tells whether anything changed."""
    row = tx.get("printers", printer)
    evidence: dict[str, Any] = {"printer": printer}
    changed = False
    if row is not None and row["stopped"]:
        tx.put("printers", printer, stopped=None, serial=row["stopped_serial"])
        _put_counter(tx, row["stopped_serial"], row["stopped_counter"])
        require_presented_books(tx)
        evidence |= {
            "was": row["stopped"],
            "serial": row["stopped_serial"],
            "counter": row["stopped_counter"],
        }
        changed = True
    serial = (
        row["stopped_serial"]
        if changed and row is not None
        else (row["serial"] if row is not None else None)
    )
    declared = []
    for attempt in unfinished(tx, printer):
        still_answers = answers and (attempt.serial is None or attempt.serial == serial)
        # A load asks a person only once it is in doubt; until then its printer's return will tell.
        asks = attempt.process_id is not None or (
            attempt.stage in (Stage.LOAD, Stage.CUT_OFF)
            and jobs.require(tx, attempt.job).phase is Phase.IN_DOUBT
        )
        if asks and not attempt.clear and not still_answers:
            _change(tx, attempt, clear=1)
            declared.append(attempt.job)
    if declared:
        evidence["declared_off_for"] = declared
    if changed or declared:
        tx.receipt(
            "printer-accepted",
            actor=actor,
            evidence={k: v for k, v in evidence.items() if v is not None},
            note=reason,
        )
    return bool(changed or declared)


def _fresh(tx: Transaction, attempt: Attempt) -> Attempt:
    row = tx.get("attempts", attempt.id)
    assert row is not None
    return from_row(row)


def _change(tx: Transaction, attempt: Attempt, **columns: Any) -> Attempt:
    tx.put("attempts", attempt.id, **columns)
    return replace(attempt, **columns)


def _put(tx: Transaction, attempt: Attempt, kind: str, **columns: Any) -> Attempt:
    after = _change(tx, attempt, **columns)
    tx.note(kind, job=attempt.job)
    return after


def _put_counter(tx: Transaction, serial: str | None, counter: int | None) -> None:
    if serial is None or counter is None:
        return
    row = tx.get("counters", serial)
    if row is None or row["value"] != counter:
        tx.put("counters", serial, value=counter)


def resolve_attempt(tx: Transaction, attempt: Attempt, outcome: str) -> None:
    """A person said what the book is; the attempt closes once its printer is clear and counted."""
    done = attempt.clear and (attempt.counted or attempt.process_id is None)
    _change(tx, attempt, stage="closed" if done else "resolved", resolution=outcome)


def reason_of_stop(reader: Reader, printer: str) -> str | None:
    """Why a printer may not print until a technician accepts it."""
    row = reader.get("printers", printer)
    return None if row is None else row["stopped"]


def explain_stop(reader: Reader, printer: str) -> str:
    """What was found at a printer that stopped, and what was expected, for a person."""
    row = reader.get("printers", printer)
    assert row is not None
    found, counter = row["stopped_serial"], row["stopped_counter"]
    if found != row["serial"]:
        return (
            f"its serial number is {found or 'not told'}, that of the last one was {row['serial']}"
        )
    journaled = reader.get("counters", found)
    assert journaled is not None
    return f"it printed {counter - journaled['value']} rows that this station did not send"


def is_clear(reader: Reader, job: Job) -> bool:
    """Whether the page of a stopped job can no longer print."""
    attempt = latest(reader, job)
    return attempt is None or bool(attempt.clear)
