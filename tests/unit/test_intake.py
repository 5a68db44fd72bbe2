"""Trust that changes while messages are under way, and messages that come together."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.crypto.keys import TrustStore
from agent.intake import CHUNK_MESSAGES_MAX, Answer
from agent.model import TYP_DIRECTIVE, Action
from agent.queue.group_commit import BATCH_MAX, GroupCommit
from tests.unit.crypto.crypto_samples import (
    ISSUER,
    NOW,
    ROOT,
    TRUST_JWKS,
    claims,
    directive,
    public_jwk,
    sign,
    trust_update,
)
from tests.unit.queue.intake_bench import EXP, IntakeBench, entries

NEW_ISSUER = Ed25519PrivateKey.from_private_bytes(b"the next issuer key of the tests")
NEW_ROOT = Ed25519PrivateKey.from_private_bytes(b"the next root key of these tests")
WITHOUT_ISSUER = {"keys": [public_jwk(NEW_ISSUER, "issuer-2"), public_jwk(ROOT, "root", "root")]}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[IntakeBench]:
    found = IntakeBench(tmp_path)
    yield found
    found.close()


def update(jwks: Any, *, version: int, seq: int, **over: Any) -> bytes:
    return trust_update(jwks, version=version, seq=seq, jti=f"trust-{seq}", exp=EXP, **over)


def authorization(seq: int, *, key: Ed25519PrivateKey = ISSUER, kid: str = "issuer") -> bytes:
    job, book = f"job-{seq}", f"C000000{seq}"
    body = claims(jti=job, seq=seq, exp=EXP, books=entries(book))
    return sign(body, key=key, kid=kid)


def status(answer: Answer) -> tuple[int, str | None]:
    return answer.status, (answer.type or "").rpartition(":")[2] or None


# Trust updates


def test_a_trust_update_is_told_and_the_journal_outranks_the_file_from_then_on(
    bench: IntakeBench, tmp_path: Path
):
    assert status(bench.take(update(WITHOUT_ISSUER, version=3, seq=1))) == (201, None)
    receipt = bench.receipts()[-1]
    assert (receipt["event"], receipt["evidence"]["version"]) == ("trust-updated", 3)
    bench.close()
    # After a restart, and whatever version the file of the day claims.
    file = TrustStore.from_jwks(TRUST_JWKS | {"version": 9})
    again = IntakeBench(tmp_path, trust=file)
    assert status(again.take(authorization(2))) == (401, "bad-signature")
    fresh = authorization(3, key=NEW_ISSUER, kid="issuer-2")
    assert status(again.take(fresh)) == (201, None)
    assert status(again.take(update(TRUST_JWKS, version=3, seq=4))) == (409, "conflict")
    assert status(again.take(update(TRUST_JWKS, version=4, seq=4))) == (201, None)
    again.close()
    bench.journal = again.journal


@pytest.mark.parametrize("version", [0, 2, 3])
def test_an_older_version_never_comes_back(bench: IntakeBench, version: int):
    bench.accept(update(WITHOUT_ISSUER, version=3, seq=1))
    assert status(bench.take(update(TRUST_JWKS, version=version, seq=2))) == (409, "conflict")
    assert status(bench.take(authorization(3))) == (401, "bad-signature")


def test_the_file_s_version_counts_for_the_first_update(tmp_path: Path):
    bench = IntakeBench(tmp_path, trust=TrustStore.from_jwks(TRUST_JWKS | {"version": 5}))
    assert status(bench.take(update(TRUST_JWKS, version=5, seq=1))) == (409, "conflict")
    assert status(bench.take(update(TRUST_JWKS, version=6, seq=1))) == (201, None)
    bench.close()


@pytest.mark.parametrize(
    "jwks",
    [
        {"keys": [public_jwk(NEW_ISSUER, "issuer-2")]},
        {"keys": []},
        {"keys": [public_jwk(ROOT, "root", "root"), public_jwk(NEW_ROOT, "root", "root")]},
        {"keys": [public_jwk(ROOT, "root", "root") | {"d": "AAAA"}]},
        {"keys": [{"kty": "oct", "k": "AAAA", "kid": "root", "role": "root"}]},
    ],
    ids=["no root left", "no key", "a kid twice", "private", "symmetric"],
)
def test_a_trust_store_that_must_not_be_is_malformed_and_changes_nothing(
    bench: IntakeBench, jwks: Any
):
    assert status(bench.take(update(jwks, version=1, seq=1))) == (400, "malformed")
    assert status(bench.take(authorization(1))) == (201, None)


def test_an_issuer_signs_no_trust_update_and_a_replaced_root_none_either(bench: IntakeBench):
    body = {"action": "trust", "version": 1, "jwks": TRUST_JWKS, "jti": "t", "exp": EXP}
    assert status(bench.take(directive(**body, seq=1))) == (401, "bad-signature")
    both = {"keys": [public_jwk(NEW_ISSUER, "issuer-2"), public_jwk(NEW_ROOT, "root-2", "root")]}
    bench.accept(update(both, version=1, seq=1))
    assert status(bench.take(update(TRUST_JWKS, version=2, seq=2))) == (401, "bad-signature")
    renewed = sign(
        claims(action="trust", version=2, jwks=TRUST_JWKS, jti="t-2", seq=2, exp=EXP),
        key=NEW_ROOT,
        kid="root-2",
        typ=TYP_DIRECTIVE,
    )
    assert status(bench.take(renewed)) == (201, None)


def test_a_key_that_became_a_root_signs_no_authorization_any_more(bench: IntakeBench):
    swapped = {"keys": [public_jwk(ISSUER, "issuer", "root"), public_jwk(ROOT, "root")]}
    bench.accept(update(swapped, version=1, seq=1))
    assert status(bench.take(authorization(2))) == (401, "bad-signature")
    assert status(bench.take(authorization(2, key=ROOT, kid="root"))) == (201, None)


def test_one_content_signed_anew_after_the_update_is_known(bench: IntakeBench):
    bench.accept(authorization(1))
    bench.accept(update(WITHOUT_ISSUER, version=1, seq=2))
    assert status(bench.take(authorization(1))) == (401, "bad-signature")
    anew = authorization(1, key=NEW_ISSUER, kid="issuer-2")
    assert status(bench.take(anew)) == (200, None)


class Overtaking:
    """The journal's writer, where a trust update is committed while a message waits to be written."""

    def __init__(self, bench: IntakeBench, raw: bytes) -> None:
        self._bench = bench
        self._update: bytes | None = raw
        self._submit = bench.submit_many

    def __call__(self, operations: Any) -> Any:
        raw, self._update = self._update, None
        if raw is not None:
            self._bench.accept(raw)
        return self._submit(operations)


@pytest.mark.parametrize(
    ("jwks", "answer"),
    [
        (WITHOUT_ISSUER, (401, "bad-signature")),
        (
            {"keys": [public_jwk(NEW_ISSUER, "issuer"), public_jwk(ROOT, "root", "root")]},
            (401, "bad-signature"),
        ),
        (
            {"keys": [public_jwk(ISSUER, "issuer", "root"), public_jwk(ROOT, "root", "root")]},
            (401, "bad-signature"),
        ),
        (TRUST_JWKS, (201, None)),
    ],
    ids=["key gone", "another key under its kid", "another role", "key kept"],
)
def test_a_message_in_flight_is_held_against_the_trust_at_its_commit(
    bench: IntakeBench, monkeypatch: pytest.MonkeyPatch, jwks: Any, answer: tuple[int, str | None]
):
    raw = authorization(2)
    monkeypatch.setattr(bench, "submit_many", Overtaking(bench, update(jwks, version=1, seq=1)))
    assert status(bench.take(raw)) == answer
    assert bench.events().count("job-accepted") == (answer[0] == 201)


# Messages that come together


@pytest.fixture
def commits(bench: IntakeBench, monkeypatch: pytest.MonkeyPatch) -> Iterator[GroupCommit]:
    """The writer's own thread, as the service has it."""
    failures: list[BaseException] = []
    commits = GroupCommit(bench.journal, failed=failures.append)
    commits.start()
    monkeypatch.setattr(bench, "submit_many", commits.submit_many)
    yield commits
    commits.stop()
    assert failures == []


def test_each_line_of_a_batch_has_the_answer_that_it_would_have_alone(
    bench: IntakeBench, commits: GroupCommit
):
    lines = [
        authorization(1),
        authorization(1),
        bench.order(Action.HOLD, "job-1", seq=2),
        b"nonsense",
        authorization(3),
        sign(claims(jti="again", seq=3, exp=EXP, books=entries("C0000007"))),
        sign(claims(jti="job-4", seq=4, exp=EXP, books=entries("C0000001"))),
        update(WITHOUT_ISSUER, version=1, seq=5),
        authorization(6),
        authorization(6, key=NEW_ISSUER, kid="issuer-2"),
        sign(claims(jti="job-7", seq=7, exp=NOW - 1), key=NEW_ISSUER, kid="issuer-2"),
    ]
    found = [status(answer) for answer in bench.intake.take_many(lines)]
    assert found == [
        (201, None),
        (200, None),
        (201, None),
        (400, "malformed"),
        (201, None),
        (409, "conflict"),
        (409, "conflict"),
        (201, None),
        (401, "bad-signature"),
        (201, None),
        (410, "expired"),
    ]
    assert bench.shown("job-1") == ("pending-held", ["job-hold"])


def test_many_senders_of_one_message_make_one_job(bench: IntakeBench, commits: GroupCommit):
    raws = [authorization(1), sign(claims(jti="other", seq=1, exp=EXP, books=entries("C0000002")))]
    gate = threading.Barrier(8)
    answers: list[tuple[int, str | None]] = []

    def send(raw: bytes) -> None:
        gate.wait(20)
        answers.append(status(bench.take(raw)))

    threads = [threading.Thread(target=send, args=(raws[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [(200, None)] * 3 + [(201, None)] + [(409, "conflict")] * 4
    assert bench.events().count("job-accepted") == 1


@pytest.fixture
def commit_sizes(bench: IntakeBench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many operations each commit had."""
    sizes: list[int] = []
    write_many = bench.journal.write_many

    def counted(operations: Sequence[Any]) -> list[Any]:
        sizes.append(len(operations))
        return write_many(operations)

    monkeypatch.setattr(bench.journal, "write_many", counted)
    return sizes


def test_a_batch_of_a_thousand_costs_a_commit_for_each_chunk(
    bench: IntakeBench, commits: GroupCommit, commit_sizes: list[int]
):
    lines = [bench.order(Action.HOLD, f"job-{number}") for number in range(1_000)]
    assert {answer.status for answer in bench.intake.take_many(lines)} == {201}
    assert commit_sizes == [CHUNK_MESSAGES_MAX] * 7 + [1_000 - 7 * CHUNK_MESSAGES_MAX]


def test_what_is_handed_over_together_shares_one_commit(
    commits: GroupCommit, commit_sizes: list[int]
):
    done = commits.submit_many([lambda tx: tx.now] * (BATCH_MAX + 1))
    assert {future.result() for future in done} == {NOW}
    assert commit_sizes == [BATCH_MAX + 1]


# A disk that fills


def test_on_a_disk_that_fills_no_job_is_taken_and_each_can_still_be_stopped(bench: IntakeBench):
    bench.authorize("job-1", "C0000001")
    bench.has_room = False
    refused = bench.take(bench.authorization("job-2", "C0000002"))
    assert status(refused) == (507, "disk-full")
    for action in (Action.HOLD, Action.RELEASE, Action.REVOKE, Action.ACKNOWLEDGE):
        bench.direct(action)
    assert bench.shown() == ("canceled", ["revoked"])
