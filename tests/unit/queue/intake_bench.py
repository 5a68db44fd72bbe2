"""A station's intake and journal without threads, links and printers: messages in, jobs and receipts out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from agent.crypto import jose
from agent.crypto.keys import TrustStore
from agent.crypto.receipts import ReceiptSigner
from agent.intake import Answer, Intake
from agent.model import Action, PrinterIdentity, Reason
from agent.queue import acts, attempts, intake_rules, jobs, start
from agent.queue.attempts import Attempt
from agent.queue.jobs import Job
from agent.queue.journal import Journal, Operation, Reader, Transaction
from agent.queue.states import Phase, state_of
from agent.service import TrustInForce
from tests.unit.crypto.crypto_samples import (
    AUTHORITY,
    KEYS,
    NOW,
    STATION,
    TRUST,
    claims,
    directive,
    document,
    seal,
    sign,
)

EXP = NOW + 100_000
PRINTER = "main"
SERIAL = PrinterIdentity(serial="SN-1", model="slip")
TECHNICIAN = "technician:ani"


class StandingClock:
    """A wall clock that stands where it is put; the monotonic one goes with it, so it never jumps."""

    def __init__(self, now: int = NOW) -> None:
        self.time = now

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return float(self.time)


@cache
def sealed(number: str) -> str:
    """The JWE of a document for this book; made once, as each costs a key agreement."""
    return seal(document(number))


def entries(*numbers: str) -> list[dict[str, str]]:
    """The claim ``books``."""
    return [{"number": number, "document": sealed(number)} for number in numbers]


class IntakeBench:
    """A journal in a folder, and an intake that writes each message in a commit of its own.

    Args:
        folder: Where the journal lies; an existing one is opened again.
        trust: The trust store of the file.
    """

    def __init__(
        self, folder: Path, *, trust: TrustStore = TRUST, clock: StandingClock | None = None
    ) -> None:
        self.clock = clock or StandingClock()
        self.path = folder / "journal.db"
        signer = ReceiptSigner(KEYS.signing)
        self.journal = Journal.open(
            self.path, signer=signer, station_id=STATION, authority_id=AUTHORITY, clock=self.clock
        )
        start.take_signer(self.journal, signer, public_jwks=KEYS.public_jwks())
        self.trust = TrustInForce(trust, self.journal.read)
        self.intake = Intake(
            self,
            trust=self.trust,
            keys=lambda: KEYS,
            station_id=STATION,
            authority_id=AUTHORITY,
            clock=self.clock,
            has_room=lambda: self.has_room,
        )
        self.has_room = True
        self.seq = int(self.read().value("SELECT coalesce(max(seq), 0) FROM messages"))

    def close(self) -> None:
        self.journal.close()

    # What intake asks of the journal's writer

    def submit_many(self, operations: Sequence[Operation[Any]]) -> list[Future[Any]]:
        return [self._write_now(operation) for operation in operations]

    def _write_now(self, operation: Operation[Any]) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(self.journal.write(operation))
        except Exception as error:  # noqa: BLE001 - as the writer's thread hands it on
            done.set_exception(error)
        return done

    def read(self) -> Reader:
        return self.journal.read()

    def time_for_expiry(self) -> int:
        return self.journal.time_for_expiry()

    # Messages

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def authorization(self, job: str = "job-1", *numbers: str, **over: Any) -> bytes:
        """A signed authorization with the next ``seq``."""
        body = {"jti": job, "exp": EXP, "books": entries(*(numbers or ("C0000001",)))}
        return sign(claims(**(body | {"seq": over.pop("seq", None) or self.next_seq()} | over)))

    def order(self, action: Action | str, job: str | None = "job-1", **over: Any) -> bytes:
        """A signed directive with the next ``seq``; ``reason`` and ``to`` are given where it has them."""
        seq = over.pop("seq", None) or self.next_seq()
        body: dict[str, Any] = {"jti": f"order-{seq}", "seq": seq, "exp": EXP, "action": action}
        match action:
            case Action.REVOKE | Action.HOLD | Action.RELEASE:
                body |= {"job": job, "reason": "a reason"}
            case Action.TRANSFER:
                body |= {"job": job, "to": "sambas-02"}
            case Action.RETIRE:
                body |= {"reason": "moved"}
            case Action.ACKNOWLEDGE:
                seq_acknowledged, head = self.journal.durable_head(self.read())
                body |= {"through": seq_acknowledged, "head": head}
            case Action.RESUME:
                seq_known, head = self.journal.durable_head(self.read())
                body |= {"through": seq_known, "head": head, "printed": [job] if job else []}
        return directive(**(body | over))

    def take(self, raw: bytes) -> Answer:
        return self.intake.take(raw)

    def accept(self, raw: bytes) -> Answer:
        """Takes a message that must be new and good."""
        answer = self.take(raw)
        assert answer.status == 201, answer.detail
        return answer

    def authorize(self, job: str = "job-1", *numbers: str, **over: Any) -> None:
        self.accept(self.authorization(job, *numbers, **over))

    def direct(self, action: Action, job: str | None = "job-1", **over: Any) -> None:
        self.accept(self.order(action, job, **over))

    # What happened

    def job(self, job: str = "job-1") -> Job:
        return jobs.require(self.read(), job)

    def shown(self, job: str = "job-1") -> tuple[str, list[str]]:
        """State and reasons, as the borders show them."""
        found = self.job(job)
        return state_of(found.phase).value, jobs.reasons_of(found)

    def receipts(self) -> list[dict[str, Any]]:
        """The claims of all receipts."""
        texts = self.journal.receipts_after(self.read(), 0, 100_000)
        return [json.loads(jose.decode_base64url(text.split(".")[1].encode())) for _, text in texts]

    def events(self) -> list[str]:
        return [receipt["event"] for receipt in self.receipts()]

    @contextmanager
    def told(self) -> Iterator[list[str]]:
        """The events of the receipts that are written inside."""
        before = len(self.events())
        found: list[str] = []
        yield found
        found += self.events()[before:]

    def fate(self, number: str = "C0000001") -> list[str]:
        rows = self.read().rows("SELECT fate FROM books WHERE number = ? ORDER BY id", (number,))
        return [row["fate"] for row in rows]

    # What printers and people do

    def write(self, operation: Operation[Any]) -> Any:
        return self.journal.write(operation)

    def attempt(self, job: str = "job-1") -> Attempt:
        found = attempts.latest(self.read(), self.job(job))
        assert found is not None
        return found

    def select(self, job: str = "job-1") -> None:
        self.write(lambda tx: attempts.select(tx, job, printer=PRINTER))

    def load(self, job: str = "job-1") -> None:
        self.write(
            lambda tx: attempts.begin_load(
                tx, job, printer=PRINTER, run=1, boot="boot", identity=SERIAL, counter=500
            )
        )

    def prove_load(self, job: str = "job-1") -> None:
        attempt = self.attempt(job)
        self.write(lambda tx: attempts.prove_load(tx, attempt))

    def commit(self, job: str = "job-1") -> None:
        attempt = self.attempt(job)
        self.write(lambda tx: attempts.commit(tx, attempt, inked_rows=400))

    def complete(self, job: str = "job-1", *, read_back: str = "none") -> None:
        attempt = self.attempt(job)
        self.write(
            lambda tx: attempts.complete(
                tx, attempt, read_back=read_back, serial="SN-1", counter=900, evidence={}
            )
        )

    def no_ink(self, job: str = "job-1") -> None:
        attempt = self.attempt(job)
        self.write(lambda tx: attempts.no_ink(tx, attempt, serial="SN-1", counter=500, evidence={}))

    def doubt(self, job: str = "job-1") -> None:
        """In doubt, its printer proven clear and counted: a person may decide."""
        attempt = self.attempt(job)
        self.write(lambda tx: attempts.doubt(tx, attempt, evidence={}, note="look"))
        self.write(lambda tx: attempts.note_counted(tx, attempt, serial="SN-1", counter=700))

    def fail(self, job: str = "job-1") -> None:
        attempt = self.attempt(job)
        self.write(lambda tx: attempts.fail(tx, attempt, evidence={}, note="jam"))
        self.write(lambda tx: attempts.note_counted(tx, attempt, serial="SN-1", counter=700))

    def take_back(self, job: str = "job-1") -> None:
        self.write(lambda tx: attempts.take_back(tx, job, printer=PRINTER))

    def resolve(
        self, outcome: acts.Outcome, job: str = "job-1", *, book: str | None = None
    ) -> None:
        self.write(
            lambda tx: acts.resolve(
                tx,
                job,
                outcome=outcome,
                book=book or jobs.require(tx, job).book,
                attempt_number=None,
                actor=TECHNICIAN,
            )
        )

    def act(self, act: Callable[..., Job], job: str = "job-1") -> None:
        """One of ``acts.cancel``, ``hold``, ``release``, ``replay``."""
        self.write(lambda tx: act(tx, job, actor=TECHNICIAN, reason=None))

    def pass_time(self, to: int) -> None:
        self.clock.time = to
        self.write(intake_rules.let_time_pass)

    def crash_while_loading(self, job: str = "job-1") -> None:
        """Its load ends the agent twice: the job is set aside."""

        def operation(tx: Transaction) -> None:
            attempts.count_crash(tx, job)
            attempts.count_crash(tx, job)
            attempts.take_back(tx, job, printer=PRINTER)

        self.write(operation)

    def bring_to(self, phase: Phase, job: str = "job-1") -> None:
        """Takes an accepted, waiting job to a phase, by the steps that lead there."""
        for step in _WAY[phase]:
            step(self, job)
        assert self.job(job).phase is phase


def _abort(bench: IntakeBench, job: str) -> None:
    bench.write(
        lambda tx: jobs.move(
            tx, jobs.require(tx, job), jobs.Event.EXPIRE, end_reason=Reason.EXPIRED.value
        )
    )


_Step = Callable[[IntakeBench, str], None]
_LOADED: list[_Step] = [IntakeBench.select, IntakeBench.load, IntakeBench.prove_load]
_COMMITTED = [*_LOADED, IntakeBench.commit]
_VERIFY_WANTED = [*_COMMITTED, lambda bench, job: bench.complete(job, read_back="mrz")]
_WAY: dict[Phase, list[_Step]] = {
    Phase.WAITING: [],
    Phase.HELD: [lambda bench, job: bench.act(acts.hold, job)],
    Phase.SET_ASIDE: [IntakeBench.select, IntakeBench.load, IntakeBench.crash_while_loading],
    Phase.SELECTED: [IntakeBench.select],
    Phase.LOADING: _LOADED[:2],
    Phase.LOADED: _LOADED,
    Phase.COMMITTED: _COMMITTED,
    Phase.VERIFY_WANTED: _VERIFY_WANTED,
    Phase.IN_DOUBT: [*_COMMITTED, IntakeBench.doubt],
    Phase.FAILED: [*_COMMITTED, IntakeBench.fail],
    Phase.VERIFY_FAILED: [
        *_VERIFY_WANTED,
        lambda bench, job: bench.write(
            lambda tx: acts.verify(tx, job, matches=False, actor=TECHNICIAN)
        ),
    ],
    Phase.COMPLETED: [*_COMMITTED, IntakeBench.complete],
    Phase.CANCELED: [lambda bench, job: bench.act(acts.cancel, job)],
    Phase.ABORTED: [_abort],
}
