"""One door for every message, whatever brought it: verify, check, journal (CONTRACT section 3).

The checks keep the contract's order, so that a message has one answer. What is decided by the journal is
looked up first, so that bad messages are cheap, and decided again inside the write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from agent.clock import Clock
from agent.crypto import jose
from agent.crypto.documents import open_documents
from agent.crypto.keys import StationKeys, TrustStore
from agent.crypto.verifier import open_envelope, read_claims
from agent.errors import DiskFull, MessageRefused
from agent.model import Action, Authorization, Directive, Envelope
from agent.page.mrz import check_mrz
from agent.queue import intake_rules
from agent.queue.journal import Operation, Reader, Transaction

CHUNK_MESSAGES_MAX = 128  # messages of a batch in one commit: 1,000 in 8 commits
CHUNK_BYTES_MAX = 8 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sender is told of one message.

    Attributes:
        status: 201 accepted and durable, 200 known, else the refusal's HTTP status.
        type: The problem's URN, None where it was taken.
        job: The authorization's ``jti`` or the directive's ``job``.
        detail: Why it was refused, without holder data.
        jti: Known where the signature was good.
        seq: Likewise.
    """

    status: int
    type: str | None = None
    job: str | None = None
    detail: str | None = None
    jti: str | None = None
    seq: int | None = None

    @property
    def accepted(self) -> bool:
        return self.status in (200, 201)

    def row(self) -> dict[str, Any]:
        """The object of CONTRACT section 5."""
        return {"status": self.status, "type": self.type, "job": self.job}


class IntakeJournal(Protocol):
    """How intake reaches the journal: writes that may be refused on a full disk."""

    def submit_many(self, operations: Sequence[Operation[T]]) -> list[Future[T]]:
        """Queues operations that share a commit; their futures end when it is durable."""
        ...

    def read(self) -> Reader:
        """A reader for this thread."""
        ...

    def time_for_expiry(self) -> int:
        """The clock, or the known time while the clock is not trusted."""
        ...


@dataclass(frozen=True, slots=True)
class _Checked:
    """A message that passed every check that needs no lock."""

    envelope: Envelope
    content: Authorization | Directive
    trust: TrustStore

    @property
    def job(self) -> str | None:
        content = self.content
        return content.job if isinstance(content, Directive) else content.envelope.jti


def journaled_trust(reader: Reader) -> TrustStore:
    """The trust store of the last ``trust`` directive; there must have been one."""
    jwks = jose.parse_json(str(reader.station("trust")).encode())
    return TrustStore.from_jwks(jwks, version=int(reader.station("trust_version")))


def _changes_trust(checked: _Checked) -> bool:
    """Whether the messages after this one are to be judged by another trust store."""
    return isinstance(checked.content, Directive) and checked.content.action is Action.TRUST


class Intake:
    """Takes messages.

    Args:
        journal: Where accepted ones become durable.
        trust: The trust store in force.
        keys: The station's keys in force.
        station_id: ``aud`` of messages.
        authority_id: ``iss`` of messages.
        clock: Time.
        has_room: Whether the disk has room beyond the reserve.
        documents_days: How long an ended and acknowledged job's document is kept.
    """

    def __init__(
        self,
        journal: IntakeJournal,
        *,
        trust: Callable[[], TrustStore],
        keys: Callable[[], StationKeys],
        station_id: str,
        authority_id: str,
        clock: Clock,
        has_room: Callable[[], bool] = lambda: True,
        documents_days: int = 0,
    ) -> None:
        self._journal = journal
        self._trust = trust
        self._keys = keys
        self._station_id = station_id
        self._authority_id = authority_id
        self._clock = clock
        self._has_room = has_room
        self._documents_days = documents_days

    def take(self, raw: bytes) -> Answer:
        """The answer for one message; 201 only when it is durable."""
        for answer in self.take_many([raw]):
            return answer
        raise AssertionError("one message has one answer")

    def take_many(self, messages: Iterable[bytes]) -> Iterator[Answer]:
        """The answers in order; messages that are good share durable commits."""
        waiting: list[_Checked] = []
        size = 0
        for raw in messages:
            checked = self._check(raw, hurried=bool(waiting))
            if checked is None:
                # What it depends on is not written yet: settle that first, then it has one answer.
                yield from self._settle(waiting)
                waiting, size = [], 0
                checked = self._check(raw, hurried=False)
            if isinstance(checked, Answer):
                yield from self._settle(waiting)
                waiting, size = [], 0
                yield checked
                continue
            assert checked is not None
            waiting.append(checked)
            size += len(raw)
            if (
                len(waiting) >= CHUNK_MESSAGES_MAX
                or size >= CHUNK_BYTES_MAX
                or _changes_trust(checked)
            ):
                yield from self._settle(waiting)
                waiting, size = [], 0
        yield from self._settle(waiting)

    def _settle(self, waiting: Sequence[_Checked]) -> Iterator[Answer]:
        writes = self._journal.submit_many([self._acceptance(checked) for checked in waiting])
        for checked, done in zip(waiting, writes, strict=True):
            yield self._outcome(checked, done)

    def _outcome(self, checked: _Checked, done: Future[bool]) -> Answer:
        envelope = checked.envelope
        try:
            new = done.result()
        except MessageRefused as refused:
            return self._refusal(refused, envelope)
        except DiskFull as error:
            return self._refusal(MessageRefused(507, "disk-full", str(error)), envelope)
        return Answer(201 if new else 200, job=checked.job, jti=envelope.jti, seq=envelope.seq)

    def _check(self, raw: bytes, *, hurried: bool) -> _Checked | Answer | None:
        """Everything before the write; None where others of the batch must be settled first."""
        envelope = None
        trust = self._trust()
        try:
            envelope = open_envelope(
                raw, trust=trust, station_id=self._station_id, authority_id=self._authority_id
            )
            return self._check_content(envelope, trust)
        except MessageRefused as refused:
            if hurried:
                return None
            return self._refusal(refused, envelope)

    def _check_content(self, envelope: Envelope, trust: TrustStore) -> _Checked | Answer:
        reader = self._journal.read()
        if intake_rules.known_answer(reader, envelope):
            return Answer(200, job=self._job_named(envelope), jti=envelope.jti, seq=envelope.seq)
        intake_rules.check_not_retired(reader, envelope)
        intake_rules.check_not_expired(envelope, now=self._journal.time_for_expiry())
        content = read_claims(envelope)
        if isinstance(content, Directive):
            intake_rules.check_trust_version(content, current=trust.version)
        else:
            intake_rules.check_books_free(reader, content)
            open_documents(content, self._keys(), now=self._clock.now(), check_mrz=check_mrz)
            self._check_room()
        return _Checked(envelope, content, trust)

    def _check_room(self) -> None:
        """Only for authorizations: what stops a job, or lets its document go, may come while there is any room at all."""
        if not self._has_room():
            raise MessageRefused(
                507, "disk-full", "the station's disk is full: free some room, then send it again"
            )

    @staticmethod
    def _job_named(envelope: Envelope) -> str | None:
        job = envelope.claims.get("job") if "action" in envelope.claims else envelope.jti
        return job if isinstance(job, str) else None

    def _acceptance(self, checked: _Checked) -> Operation[bool]:
        """The write: decides again what others may have changed since; True when it is new."""
        envelope, content = checked.envelope, checked.content

        def operation(tx: Transaction) -> bool:
            self._check_still_trusted(tx, checked)
            if intake_rules.known_answer(tx, envelope):
                return False
            intake_rules.check_not_retired(tx, envelope)
            if isinstance(content, Directive):
                intake_rules.check_trust_version(content, current=self._trust_version(tx))
                intake_rules.accept_directive(tx, content, documents_days=self._documents_days)
            else:
                intake_rules.check_books_free(tx, content)
                intake_rules.accept_authorization(tx, content)
            return True

        return operation

    @staticmethod
    def _check_still_trusted(tx: Transaction, checked: _Checked) -> None:
        """A trust update that was committed since the signature was checked counts for the message too.

        Raises:
            MessageRefused: 401 ``bad-signature``.
        """
        if tx.station("trust_version") in (None, checked.trust.version):
            return
        kid = checked.envelope.kid
        key = journaled_trust(tx).keys.get(kid)
        if key is None or key.jwk != checked.trust.keys[kid].jwk:
            raise MessageRefused(
                401, "bad-signature", "The kid's key has just left the trust store: sign it anew."
            )

    def _trust_version(self, tx: Transaction) -> int:
        journaled = tx.station("trust_version")
        return (
            self._trust().version
            if journaled is None
            else max(int(journaled), self._trust().version)
        )

    @staticmethod
    def _refusal(refused: MessageRefused, envelope: Envelope | None) -> Answer:
        return Answer(
            refused.status,
            type=f"urn:print-agent:{refused.name}",
            detail=refused.detail,
            jti=refused.jti if envelope is None else envelope.jti,
            seq=refused.seq if envelope is None else envelope.seq,
        )
