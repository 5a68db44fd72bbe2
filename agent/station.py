"""What the borders may ask of the station: one object, one method a call, no transport in it."""

from __future__ import annotations

import logging
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial
from typing import Any

from agent.clock import Clock, sleep
from agent.composer import Composer, read_document
from agent.config import BookCheck, Settings
from agent.crypto.keys import StationKeys
from agent.errors import RequestRefused
from agent.intake import Answer, Intake
from agent.live import (
    Board,
    Changes,
    Condition,
    PrinterReason,
    PrinterState,
    PrinterView,
    Situation,
    Subscription,
)
from agent.model import INTEGER_MAX, TECHNICIAN, JobState, Reason
from agent.overview import Overview
from agent.page.mrz import document_number, is_well_read
from agent.page.raster import to_png
from agent.queue import acts, attempts, intake_rules, inventory, jobs, retention, technicians
from agent.queue.group_commit import GroupCommit
from agent.queue.jobs import Job
from agent.queue.journal import Operation, Reader, Recorded, Transaction
from agent.queue.states import AT_PRINTER, PAGE_IN_PRINTER, STOPPED, Phase, phases_of, state_of
from agent.refusals import Refusals
from agent.worker import PrinterWorker

JOBS_LIMIT_MAX = 1_000
RECEIPTS_LIMIT_MAX = 1_000
REASON_LENGTH_MAX = 256  # characters
ERASE_EVERY_S = 3600.0
CLEAR_WAIT_S = 30.0  # how long a call waits for a page to be cleared
# Receipts that somebody should look at, whoever made them.
_TROUBLES = frozenset(
    {"print-in-doubt", "print-failed", "verify-failed", "job-set-aside", "printer-changed"}
    | {"journal-rolled-back", "message-refused", "transfer-refused"}
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waits:
    """What waiting jobs wait for: the same for all of them, but whose book must be presented."""

    common: tuple[str, ...]
    presented_only_through: int

    def reasons(self, job: Job) -> list[str]:
        """The reasons of one waiting job."""
        wanted = job.number <= self.presented_only_through
        return [*([Reason.BOOK_WANTED.value] if wanted else []), *self.common]


class Station:
    """The running station.

    Args:
        settings: Its configuration.
        commits: The journal's writer.
        intake: Takes messages.
        board: The printers as they stand.
        workers: The printers' loops, by name.
        composers: The printers' composers, by name.
        keys: The station's keys in force.
        clock: Time.
        failed: Told of an error after which the process must end.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        commits: GroupCommit,
        intake: Intake,
        board: Board,
        workers: Mapping[str, PrinterWorker],
        composers: Mapping[str, Composer],
        keys: Callable[[], StationKeys],
        clock: Clock,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.settings = settings
        self.commits = commits
        self.journal = commits.journal
        self.intake = intake
        self.board = board
        self.workers = workers
        self.failed = failed
        self._composers = composers
        self._keys = keys
        self._clock = clock
        self._changes = Changes()
        self._lock = threading.Lock()
        self._refusals = Refusals(commits, clock)
        self._printers_told: dict[str, tuple[PrinterState, tuple[PrinterReason, ...]]] = {}
        self._due: int | None = None
        self._due_unknown = True
        self._erase_at = 0.0
        self._reader_faults: dict[str, str] = {}
        self.overview = Overview(settings, commits=commits, board=board, clock=clock)
        self.overview.sources.append(self._faults_of_readers)
        self.journal.listen(self._recorded)
        board.listen(self._printer_changed)

    # Jobs

    def jobs(
        self,
        *,
        state: str | None = None,
        application: str | None = None,
        limit: int = JOBS_LIMIT_MAX,
        after: str | None = None,
    ) -> list[dict[str, Any]]:
        """The jobs in the order of acceptance."""
        if not 1 <= limit <= JOBS_LIMIT_MAX:
            raise RequestRefused(
                400, "malformed", f"limit is {limit}; allowed is 1 to {JOBS_LIMIT_MAX}"
            )
        reader = self.commits.read()
        where: list[str] = ["1"]
        bindings: list[Any] = []
        if state is not None:
            if state not in set(JobState):
                raise RequestRefused(
                    400, "malformed", f"state is {state!r}; allowed are {', '.join(JobState)}"
                )
            phases = phases_of(JobState(state))
            where.append(f"phase IN ({', '.join('?' * len(phases))})")
            bindings += [phase.value for phase in phases]
        if application is not None:
            where.append("application = ?")
            bindings.append(application)
        if after is not None:
            where.append("number > ?")
            bindings.append(jobs.require(reader, after).number)
        sql = f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY number LIMIT ?"  # noqa: S608 - names of our own
        waits = self._waits(reader)
        return [
            self._shown(reader, jobs.from_row(row), waits)
            for row in reader.rows(sql, (*bindings, limit))
        ]

    def job(self, job_id: str) -> dict[str, Any]:
        """One job."""
        reader = self.commits.read()
        return self._shown(reader, jobs.require(reader, job_id), self._waits(reader))

    def _shown(self, reader: Reader, job: Job, waits: _Waits) -> dict[str, Any]:
        """The job object of CONTRACT section 5."""
        clear = job.phase not in STOPPED or attempts.is_clear(reader, job)
        reasons = jobs.reasons_of(job, clear=clear)
        if state_of(job.phase) is JobState.PROCESSING and self.board.removal_wanted(job.id):
            reasons = [reason for reason in reasons if reason != Reason.BOOK_WANTED] + [
                Reason.BOOK_REMOVAL_WANTED.value
            ]
        if job.phase is Phase.WAITING:
            reasons += waits.reasons(job)
        return job_object(job, reasons)

    def _waits(self, reader: Reader) -> _Waits:
        found = []
        if all(view.state is PrinterState.STOPPED for view in self.board.views()):
            found.append(Reason.PRINTER_STOPPED.value)
        if not self.commits.clock_trusted():
            found.append(Reason.CLOCK_UNTRUSTED.value)
        if reader.station("rolled_back"):
            found.append(Reason.JOURNAL_ROLLED_BACK.value)
        checked = all(
            printer.book_check is BookCheck.PRESENT for printer in self.settings.printers.values()
        )
        through = INTEGER_MAX if checked else int(reader.station("presented_only_through", 0))
        return _Waits(tuple(found), through)

    # Acts of technicians

    def act(self, job_id: str, act: str, body: Mapping[str, Any], *, actor: str) -> dict[str, Any]:
        """Carries out one of cancel, hold, release, replay, resolve, verify, request-transfer; gives the job."""
        jobs.require(self.commits.read(), job_id)
        second = self._second_person(act, text_of(body, "second", optional=True), actor=actor)
        reason = text_of(body, "reason", optional=True)
        write = partial(self._write, second=second)
        match act:
            case "cancel":
                write(lambda tx: acts.cancel(tx, job_id, actor=actor, reason=reason))
                self._await_clearing(job_id)
            case "hold":
                write(lambda tx: acts.hold(tx, job_id, actor=actor, reason=reason))
                self._await_clearing(job_id)
            case "release":
                write(lambda tx: acts.release(tx, job_id, actor=actor, reason=reason))
            case "replay":
                write(lambda tx: acts.replay(tx, job_id, actor=actor, reason=reason))
            case "resolve":
                self._resolve(job_id, body, actor=actor, reason=reason, write=write)
            case "verify":
                self._verify(job_id, body, actor=actor, write=write)
            case "request-transfer":
                to = text_of(body, "to", length_max=64)
                if to == self.settings.station.id:
                    raise RequestRefused(
                        409,
                        "not-allowed",
                        f"{to} is this station: name the one that is to print it",
                    )
                write(
                    lambda tx: acts.request_transfer(
                        tx, job_id, to=to or "", actor=actor, reason=reason
                    )
                )
            case _:
                raise RequestRefused(404, "unknown-act", f"there is no act {act!r} on a job")
        self._wake_workers()
        return self.job(job_id)

    def _write(self, operation: Callable[[Transaction], Any], *, second: str | None = None) -> Any:
        def confirmed(tx: Transaction) -> Any:
            tx.second = second
            return operation(tx)

        return self.commits.write(confirmed)

    def _second_person(self, act: str, token: str | None, *, actor: str) -> str | None:
        """Who confirms an act for which two are needed; None where one is enough."""
        if act not in {listed.value for listed in self.settings.console.two_person}:
            return None
        name = None if token is None else self.technician_of_token(token)
        if name is None or f"{TECHNICIAN}{name}" == actor:
            raise RequestRefused(
                401,
                "unauthorized",
                f"{act} needs two technicians here ([console] two_person): give another one's token"
                " as `second` (`--second` asks for it)",
            )
        return name

    def _resolve(
        self,
        job_id: str,
        body: Mapping[str, Any],
        *,
        actor: str,
        reason: str | None,
        write: Callable[[Operation[Job]], Job],
    ) -> None:
        outcome = text_of(body, "outcome")
        if outcome not in set(acts.Outcome):
            raise RequestRefused(
                400, "malformed", f"outcome is {outcome!r}; allowed are {', '.join(acts.Outcome)}"
            )
        book = text_of(body, "book") or ""
        number = body.get("attempt")
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, int) or number < 1
        ):
            raise RequestRefused(400, "malformed", "attempt is no integer of 1 or more")

        def operation(tx: Transaction) -> Job:
            return acts.resolve(
                tx,
                job_id,
                outcome=acts.Outcome(outcome),
                book=book,
                attempt_number=number,
                actor=actor,
                reason=reason,
            )

        job = jobs.require(self.commits.read(), job_id)
        worker = self.workers.get(job.printer or "")
        if outcome == acts.Outcome.SPOILED and job.phase in PAGE_IN_PRINTER and worker is not None:
            # Its page is cleared first; the worker does it, and then this.
            self._await(worker.request(lambda: write(operation)))
            return
        write(operation)

    def _verify(
        self,
        job_id: str,
        body: Mapping[str, Any],
        *,
        actor: str,
        write: Callable[[Operation[Job]], Job],
    ) -> None:
        lines = body.get("mrz")
        if (
            not isinstance(lines, list)
            or len(lines) != 2
            or not all(isinstance(line, str) for line in lines)
        ):
            raise RequestRefused(400, "malformed", "mrz is no array of two strings")
        reader = self.commits.read()
        document = read_document(reader, jobs.require(reader, job_id), self._keys())
        matches = [line.strip() for line in lines] == list(document.mrz)
        write(lambda tx: acts.verify(tx, job_id, matches=matches, actor=actor))

    def verify_scanned(self, mrz: tuple[str, str], *, actor: str) -> dict[str, Any]:
        """Verifies the job whose book this machine-readable zone was read from; gives the job."""
        if not is_well_read(mrz[1]):
            raise RequestRefused(
                400, "malformed", "the machine-readable zone was misread: read it again"
            )
        job = jobs.of_book(self.commits.read(), document_number(mrz[1]))
        if job is None:
            # Not even its number is told: it may be any traveller's passport.
            raise RequestRefused(
                404, "unknown-book", "the machine-readable zone that was read is of no job's book"
            )
        return self.act(job.id, "verify", {"mrz": list(mrz)}, actor=actor)

    def _await_clearing(self, job_id: str) -> None:
        """Waits a while until the page of a job that is to leave its printer was cleared."""
        self._wake_workers()
        deadline = self._clock.monotonic() + CLEAR_WAIT_S / 6
        while self._clock.monotonic() < deadline:
            job = jobs.require(self.commits.read(), job_id)
            worker = self.workers.get(job.printer or "")
            if job.phase not in PAGE_IN_PRINTER or worker is None:
                return
            view = self.board.view(worker.name)
            if view is None or view.situation is not Situation.READY:
                return
            sleep(0.02)

    def _await(self, done: Future[Any]) -> Any:
        try:
            return done.result(CLEAR_WAIT_S)
        except FutureTimeout:
            raise RequestRefused(
                409, "not-allowed", "the printer was not cleared in time; try again"
            ) from None

    def _wake_workers(self) -> None:
        for worker in self.workers.values():
            worker.wake()

    def preview(self, job_id: str, *, actor: str) -> bytes:
        """The page as it will print, PNG; leaves a receipt."""
        reader = self.commits.read()
        job = jobs.require(reader, job_id)
        if job.erased:
            raise RequestRefused(
                409,
                "not-allowed",
                f"job {job_id}: its document was erased after the authority acknowledged its end",
            )
        composer = self._composers.get(job.printer or "") or next(iter(self._composers.values()))
        picture = to_png(composer.raster(reader, job))
        self._write(
            lambda tx: jobs.tell(tx, "preview-shown", jobs.require(tx, job_id), actor=actor)
        )
        return picture

    # Printers

    def printers(self) -> list[dict[str, Any]]:
        """The printers as they stand."""
        return [view.shown() for view in self.board.views()]

    def _printer(self, name: str) -> PrinterView:
        view = self.board.view(name)
        if view is None:
            raise RequestRefused(
                404, "unknown-printer", f"there is no printer {name!r}; `printers` lists them"
            )
        return view

    def present(self, printer: str, number: str, *, actor: str) -> dict[str, Any]:
        """Presents a book: its job goes next, once no other job's page is loading or loaded."""
        view = self._printer(printer)
        worker = self.workers[printer]
        if view.situation is Situation.AWAY or view.situation is Situation.PRINTING:
            self._await(worker.request(lambda: None))
        job = attempts.by_current_book(self.commits.read(), number)
        if job is None:
            raise attempts.unknown_book(self.commits.read(), number)
        at_hand = job.phase in AT_PRINTER and job.printer == printer
        stands = view.situation is Situation.READY and not view.removal_wanted
        if view.presented == number and at_hand and stands:
            return {"job": job.id}  # its page stays in the printer
        return {"job": self._await(worker.request(lambda: worker.present(number, actor=actor)))}

    def accept_printer(
        self, printer: str, reason: str, *, actor: str, second: str | None = None
    ) -> dict[str, Any]:
        """A technician accepts a changed printer, or declares one that is away switched off; ``second`` is another one's token."""
        name = self._second_person("accept", second, actor=actor)
        view = self._printer(printer)
        answers = view.situation is not Situation.AWAY
        self._write(
            lambda tx: attempts.accept_printer(
                tx, printer, actor=actor, reason=reason, answers=answers
            ),
            second=name,
        )
        self._wake_workers()
        return self._printer(printer).shown()

    # Readers

    def reader_stands(self, reader: str, fault: str | None) -> None:
        """A reader is there, or why it is not."""
        with self._lock:
            if fault is None:
                self._reader_faults.pop(reader, None)
            else:
                self._reader_faults[reader] = fault

    def reader_said(self, reader: str, sentence: str) -> None:
        """What became of a scan, for those who look at live changes."""
        self._changes.tell({"type": "reader", "reader": reader, "detail": sentence})

    # The station

    def accept_clock(self, reason: str, *, actor: str) -> dict[str, Any]:
        """A technician confirms a clock that is ahead of the known time."""

        def operation(tx: Transaction) -> None:
            if tx.clock_trusted:
                return
            known = self.journal.known_time.known
            if known is not None and tx.now < known:
                raise RequestRefused(
                    409,
                    "not-allowed",
                    "the clock is behind the known time: set it right, it cannot be accepted",
                )
            tx.advance_known_time(tx.now)
            tx.receipt("clock-accepted", actor=actor, note=reason)

        self._write(operation)
        self._due_unknown = True
        self._wake_workers()
        return self.status()

    def take_inventory(self, body: Mapping[str, Any], *, actor: str) -> dict[str, Any]:
        """Signs a person's count of a dead station's books; gives the receipt's ``seq``."""
        of = text_of(body, "of", length_max=64) or ""
        books = inventory.read_books(body.get("books"))
        seq = self._write(lambda tx: inventory.take(tx, of=of, books=books, actor=actor))
        return {"receipt": seq}

    def status(self) -> dict[str, Any]:
        """Counts, conditions and the expected finish; no holder data."""
        return self.overview.status()

    def _faults_of_readers(self) -> list[Condition]:
        with self._lock:
            return [
                Condition("reader-offline", f"{name}: {why}", about=name)
                for name, why in self._reader_faults.items()
            ]

    def receipts(self, after: int, limit: int) -> tuple[list[str], int, str]:
        """Receipts after that ``seq``, and the head of the whole chain."""
        if not 1 <= limit <= RECEIPTS_LIMIT_MAX or after < 0:
            raise RequestRefused(
                400, "malformed", f"allowed: after 0 or more, limit 1 to {RECEIPTS_LIMIT_MAX}"
            )
        reader = self.commits.read()
        lines = [text for _, text in self.journal.receipts_after(reader, after, limit)]
        return lines, *self.journal.durable_head(reader)

    def refused(self, answer: Answer, raw: bytes | None) -> None:
        """Journals a message that was refused on a way where nobody waits for the answer.

        Args:
            answer: The refusal.
            raw: The message as it came; None where it was too large to be read.

        Raises:
            DiskFull: There is no room; the reserve is kept for what has begun.
        """
        problem = (answer.type or "").rpartition(":")[2]
        self.overview.refused(problem, sender_waits=False)
        self._refusals.tell(problem, raw=raw, jti=answer.jti, seq=answer.seq)

    def healthy(self) -> bool:
        """Whether the journal is open and messages are served."""
        return bool(self.commits.read().station("id") == self.settings.station.id)

    # Technicians

    def technicians(self) -> list[dict[str, Any]]:
        """Who has a token."""
        return technicians.listed(self.commits.read())

    def add_technician(self, name: str, *, actor: str) -> str:
        """Gives a technician a token, shown this once; an earlier one of that name ends."""
        if not 1 <= len(name) <= 64 or any(
            unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in name
        ):
            raise RequestRefused(
                400,
                "malformed",
                "a technician's name has 1 to 64 characters, no control characters",
            )
        token = technicians.new_token()
        self._write(partial(technicians.add, name=name, token=token, actor=actor))
        return token

    def remove_technician(self, name: str, *, actor: str) -> None:
        """Ends a technician's token."""
        self._write(partial(technicians.remove, name=name, actor=actor))

    def technician_of_token(self, token: str) -> str | None:
        """Whose bearer token it is."""
        return technicians.of_token(self.commits.read(), token)

    # Time and live changes

    def tick(self) -> None:
        """Lets time pass: windows open and end, an hour of refusals is told, old documents go. Called about once a second."""
        self._refusals.tell_untold()
        self._erase_old_documents()
        if self._due_unknown:
            self._due_unknown = False
            self._due = intake_rules.due(self.commits.read())
        if self._due is None or self._clock.now() < self._due or not self.commits.clock_trusted():
            return
        self._write(intake_rules.let_time_pass)
        self._wake_workers()

    def _erase_old_documents(self) -> None:
        now = self._clock.monotonic()
        if now < self._erase_at:
            return
        kept_days = self.settings.retention.documents_days
        erased = self._write(lambda tx: retention.erase_documents(tx, kept_days=kept_days))
        self._erase_at = now + (ERASE_EVERY_S if erased < retention.ERASED_AT_ONCE_MAX else 0)

    def subscribe(self) -> Subscription:
        """Live changes of jobs and printers."""
        return self._changes.subscribe()

    def _recorded(self, recorded: Sequence[Recorded]) -> None:
        self._due_unknown = True
        for event in recorded:
            if event.seq is not None:
                level = logging.WARNING if event.kind in _TROUBLES else logging.INFO
                _log.log(level, event.kind, extra={"job": event.job, "seq": event.seq})
        if any(event.job is not None for event in recorded):
            self._wake_workers()
        for event in recorded:
            if event.job is not None:
                self._changes.tell({"type": "job", "job": event.job, "event": event.kind})

    def _printer_changed(self, view: PrinterView) -> None:
        stands = (view.state, view.reasons)
        if self._printers_told.get(view.name) != stands:
            self._printers_told[view.name] = stands
            told = {"printer": view.name, "state": view.state.value, "sentence": view.detail}
            reasons = [reason.value for reason in view.reasons]
            _log.info("printer-state", extra=told | {"reasons": reasons, "job": view.job})
        self._changes.tell({"type": "printer", "printer": view.shown()})


def job_object(job: Job, reasons: Sequence[str]) -> dict[str, Any]:
    """The object of CONTRACT section 5 for a job with these reasons."""
    return {
        "id": job.id,
        "state": state_of(job.phase).value,
        "reasons": list(reasons),
        "priority": job.priority,
        "application": job.application,
        "book": job.book,
        "attempts": job.attempts,
        "accepted_at": job.accepted_at,
        "nbf": job.nbf,
        "exp": job.exp,
        "ended_at": job.ended_at,
    }


def text_of(
    body: Mapping[str, Any],
    name: str,
    *,
    optional: bool = False,
    length_max: int = REASON_LENGTH_MAX,
) -> str | None:
    """A string of a request's body.

    Raises:
        RequestRefused: 400 ``malformed``.
    """
    value = body.get(name)
    if value is None and optional:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= length_max:
        raise RequestRefused(
            400, "malformed", f"{name} is no string of 1 to {length_max} characters"
        )
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in value):
        raise RequestRefused(400, "malformed", f"{name} holds a control character")
    return value
