"""Messages in any order of arrival: the same end, each gap told once and once when it is filled, nothing taken twice."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.model import Action, base64url
from agent.queue.states import ENDED, Phase
from tests.unit.queue.intake_bench import IntakeBench

HOLDS = [Action.HOLD, Action.RELEASE]
MEMORY = Path("/dev/shm")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for one journal; in memory, where the system has such a place, since hundreds of them are synced."""
    return tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)


def gaps_told(bench: IntakeBench) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The runs of ``sequence-gap`` and of ``sequence-filled`` receipts."""
    told: dict[str, list[tuple[int, int]]] = {"sequence-gap": [], "sequence-filled": []}
    for receipt in bench.receipts():
        if receipt["event"] in told:
            told[receipt["event"]].append((receipt["evidence"]["from"], receipt["evidence"]["to"]))
    return told["sequence-gap"], told["sequence-filled"]


@given(actions=st.lists(st.sampled_from(HOLDS), min_size=1, max_size=6), data=st.data())
def test_of_holds_and_releases_the_highest_seq_counts_in_whatever_order_they_arrive(
    actions: list[Action], data: st.DataObject
) -> None:
    with scratch() as folder:
        bench = IntakeBench(Path(folder))
        messages = [bench.authorization(), *(bench.order(action) for action in actions)]
        for raw in data.draw(st.permutations(messages)):
            bench.accept(raw)
        held = actions[-1] is Action.HOLD
        assert bench.job().phase is (Phase.HELD if held else Phase.WAITING)
        told, filled = gaps_told(bench)
        assert sorted(told) == sorted(filled)
        bench.close()


ALL = [Action.REVOKE, Action.TRANSFER, *HOLDS]


@given(actions=st.lists(st.sampled_from(ALL), min_size=1, max_size=6), data=st.data())
def test_directives_in_advance_end_as_they_would_have_in_the_order_of_their_seq(
    actions: list[Action], data: st.DataObject
) -> None:
    ends = []
    for shuffled in (False, True):
        with scratch() as folder:
            bench = IntakeBench(Path(folder))
            authorization = bench.authorization()
            orders = [bench.order(action) for action in actions]
            if shuffled:
                for raw in data.draw(st.permutations(orders)):
                    bench.accept(raw)
            bench.accept(authorization)
            if not shuffled:
                for raw in orders:
                    bench.accept(raw)
            ends.append(bench.shown())
            bench.close()
    assert ends[0] == ends[1]


class Sequence(RuleBasedStateMachine):
    """A station that gets 12 messages in any order, some again, some bent, and is killed in between."""

    @initialize()
    def begin(self) -> None:
        self.folder = scratch()
        self.bench = IntakeBench(Path(self.folder.name))
        self.messages: dict[int, bytes] = {}
        self.taken: set[int] = set()
        for number in range(1, 13):
            job = f"job-{(number + 2) // 3}"
            if number % 3 == 1:
                raw = self.bench.authorization(job, f"C{number:07}", seq=number)
            else:
                raw = self.bench.order(HOLDS[(number + 1) % 3], job, seq=number)
            self.messages[number] = raw

    @precondition(lambda self: len(self.taken) < len(self.messages))
    @rule(data=st.data())
    def take(self, data: Any) -> None:
        missing = sorted(set(self.messages) - self.taken)
        seq = data.draw(st.sampled_from(missing))
        assert self.bench.take(self.messages[seq]).status == 201
        self.taken.add(seq)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def take_again(self, data: Any) -> None:
        seq = data.draw(st.sampled_from(sorted(self.taken)))
        assert self.bench.take(self.messages[seq]).status == 200

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def reuse_a_seq(self, data: Any) -> None:
        seq = data.draw(st.sampled_from(sorted(self.taken)))
        answer = self.bench.take(self.bench.authorization("other", "X1", seq=seq))
        assert (answer.status, answer.type) == (409, "urn:print-agent:conflict")

    @rule(data=st.data())
    def refuse(self, data: Any) -> None:
        seq = data.draw(st.sampled_from(sorted(self.messages)))
        bent = self.messages[seq][:-4] + b"AAAA"
        assert self.bench.take(bent).status in (400, 401)

    @rule()
    def start_again(self) -> None:
        self.bench.close()
        self.bench = IntakeBench(Path(self.folder.name))

    @invariant()
    def every_run_of_missing_numbers_was_told(self) -> None:
        told, filled = gaps_told(self.bench)
        assert len(set(told)) == len(told)
        assert len(set(filled)) == len(filled)
        open_runs = set(told) - set(filled)
        missing = set(range(1, max(self.taken, default=0) + 1)) - self.taken
        covered = {seq for first, last in open_runs for seq in range(first, last + 1)}
        assert missing <= covered
        # A run is told as filled with the last of its numbers, and not before.
        assert all(missing & set(range(first, last + 1)) for first, last in open_runs)
        assert not any(missing & set(range(first, last + 1)) for first, last in filled)

    @invariant()
    def a_job_is_there_once_its_authorization_was_taken_and_its_highest_order_counts(self) -> None:
        rows = {row["id"]: row for row in self.bench.read().rows("SELECT * FROM jobs")}
        assert set(rows) == {f"job-{(seq + 2) // 3}" for seq in self.taken if seq % 3 == 1}
        for job in rows:
            first = (int(job.removeprefix("job-")) - 1) * 3 + 1
            highest = max(
                (seq for seq in (first + 1, first + 2) if seq in self.taken), default=None
            )
            held = highest == first + 1
            assert self.bench.job(job).phase is (Phase.HELD if held else Phase.WAITING)

    def teardown(self) -> None:
        prev = None
        texts = list(self.bench.journal.receipts_after(self.bench.read(), 0, 10_000))
        for receipt, (seq, text) in zip(self.bench.receipts(), texts, strict=True):
            assert receipt["seq"] == seq
            assert prev is None or receipt["prev"] == prev
            prev = self.bench.journal.signer.hash_of(text)
        self.bench.close()
        self.folder.cleanup()


TestSequence = Sequence.TestCase
# One example is a whole life of a journal.
TestSequence.settings = settings(
    max_examples=settings.default.max_examples // 2, stateful_step_count=30
)


def test_a_gap_of_nearly_all_numbers_is_one_row(tmp_path: Path) -> None:
    bench = IntakeBench(tmp_path)
    bench.authorize(seq=2**53 - 1)
    assert gaps_told(bench) == ([(1, 2**53 - 2)], [])
    bench.authorize("job-2", "C0000002", seq=5)
    assert gaps_told(bench) == ([(1, 2**53 - 2)], [])
    bench.close()


def test_a_refused_message_leaves_its_jti_and_seq_to_a_mended_one(tmp_path: Path) -> None:
    bench = IntakeBench(tmp_path)
    bent = bench.authorization(seq=3, books=[{"number": "C0000001", "document": "no JWE"}])
    assert bench.take(bent).status == 422
    assert bench.events() == []
    bench.authorize(seq=3)
    receipt = bench.receipts()[-1]
    assert receipt["event"] == "job-accepted"
    assert receipt["evidence"]["seq"] == 3
    assert len(receipt["evidence"]["sha256"]) == len(base64url(bytes(32)))
    assert bench.job().phase not in ENDED
    bench.close()
