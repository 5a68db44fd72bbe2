"""Acknowledged documents are gone from the database's pages and from its log; what proves the past stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from agent.errors import RequestRefused
from agent.model import Action
from agent.queue import acts
from agent.queue.group_commit import GroupCommit
from agent.queue.states import Phase
from tests.unit.crypto.crypto_samples import NOW
from tests.unit.queue.intake_bench import EXP, IntakeBench

OTHER_HEAD = "A" * 43


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[IntakeBench]:
    found = IntakeBench(tmp_path)
    found.journal.checkpoint()
    yield found
    found.close()


def on_disk(bench: IntakeBench) -> bytes:
    """Every byte of the database and its log."""
    return b"".join(path.read_bytes() for path in sorted(bench.path.parent.glob("journal.db*")))


def pieces(raw: bytes) -> list[bytes]:
    """The ciphertext in pieces that no page boundary can hide all of."""
    body = raw.split(b".")[1]
    return [body[at : at + 48] for at in range(0, len(body) - 48, 48)]


def left_of(bench: IntakeBench, raw: bytes) -> int:
    data = on_disk(bench)
    return sum(piece in data for piece in pieces(raw))


def acknowledged(bench: IntakeBench, raw: bytes) -> None:
    """Accepts, ends and acknowledges a job; its document is in the log."""
    bench.accept(raw)
    bench.bring_to(Phase.COMPLETED)
    bench.direct(Action.ACKNOWLEDGE)
    assert bench.events()[-1] == "documents-erased"


def test_no_byte_of_an_erased_document_is_left_in_database_or_log(bench):
    raw = bench.authorization("job-1", "C0000001", "C0000002", "C0000003", "C0000004")
    bench.accept(raw)
    assert left_of(bench, raw) > 0.8 * len(pieces(raw))
    bench.bring_to(Phase.COMPLETED)
    bench.direct(Action.ACKNOWLEDGE)
    assert bench.journal.checkpoint()
    assert left_of(bench, raw) == 0


def test_a_document_that_was_in_the_database_file_is_overwritten_there(bench):
    raw = bench.authorization()
    bench.accept(raw)
    bench.journal.checkpoint()
    assert pieces(raw)[9] in bench.path.read_bytes()
    bench.bring_to(Phase.COMPLETED)
    bench.direct(Action.ACKNOWLEDGE)
    bench.journal.checkpoint()
    assert left_of(bench, raw) == 0


def test_a_reader_that_looks_at_the_log_only_puts_the_cut_off(bench):
    raw = bench.authorization()
    acknowledged(bench, raw)
    reading = apsw.Connection(str(bench.path), flags=apsw.SQLITE_OPEN_READONLY)
    rows = reading.execute("SELECT * FROM events")
    next(rows)
    assert not bench.journal.checkpoint()
    assert left_of(bench, raw) > 0
    reading.close(True)
    assert bench.journal.checkpoint()
    assert left_of(bench, raw) == 0


def test_what_a_killed_station_had_erased_is_cut_off_at_the_next_start(bench, tmp_path):
    raw = bench.authorization()
    acknowledged(bench, raw)
    killed = tmp_path / "killed"
    killed.mkdir()
    for path in bench.path.parent.glob("journal.db*"):
        (killed / path.name).write_bytes(path.read_bytes())
    again = IntakeBench(killed)
    assert left_of(again, raw) > 0
    stopped = threading.Event()
    commits = GroupCommit(again.journal, failed=lambda _: stopped.set())
    commits.start()
    commits.stop()
    assert left_of(again, raw) == 0
    again.close()
    assert not stopped.is_set()


def test_only_ended_and_acknowledged_jobs_are_erased(bench):
    open_job, ended, later = (
        bench.authorization(f"job-{number}", f"C000000{number}") for number in (1, 2, 3)
    )
    for raw in (open_job, ended, later):
        bench.accept(raw)
    bench.act(acts.cancel, "job-2")
    acknowledge = bench.order(Action.ACKNOWLEDGE)
    bench.act(acts.cancel, "job-3")
    bench.accept(acknowledge)
    kept = {row["job"] for row in bench.read().rows("SELECT job FROM documents")}
    assert kept == {"job-1", "job-3"}
    assert bench.receipts()[-1]["evidence"]["jobs"] == 1
    bench.direct(Action.ACKNOWLEDGE)
    kept = {row["job"] for row in bench.read().rows("SELECT job FROM documents")}
    assert kept == {"job-1"}


def test_an_acknowledge_tells_no_more_than_its_head_and_its_through_say(bench):
    """The authority may hold more of the chain than it acknowledges; it cannot acknowledge more than it holds."""
    heads = []
    for number in (1, 2, 3):
        bench.authorize(f"job-{number}", f"C000000{number}")
        heads.append(bench.journal.durable_head(bench.read()))
    (first, _), (second, second_hash), (last, _) = heads
    bench.direct(Action.ACKNOWLEDGE, through=first, head=second_hash)
    assert bench.read().station("acknowledged") == first
    bench.direct(Action.ACKNOWLEDGE, through=last, head=second_hash)
    assert bench.read().station("acknowledged") == second
    assert not bench.read().station("rolled_back")
    bench.direct(Action.ACKNOWLEDGE, through=first, head="A" * 43)
    assert bench.read().station("rolled_back")


def test_an_acknowledge_that_erases_nothing_writes_no_receipt_and_an_older_one_takes_nothing_back(
    bench,
):
    older = bench.order(Action.ACKNOWLEDGE)
    bench.authorize()
    with bench.told() as told:
        bench.direct(Action.ACKNOWLEDGE)
        bench.accept(older)
    assert told == ["sequence-filled"]
    assert bench.read().station("acknowledged") == 2


def test_an_authority_that_has_stored_nothing_yet_says_so_by_the_chain_s_start(bench):
    bench.direct(Action.ACKNOWLEDGE, through=0, head=bench.journal.signer.first_prev("sambas-01"))
    assert not bench.read().station("rolled_back")
    bench.direct(Action.ACKNOWLEDGE, through=0, head=OTHER_HEAD)
    assert bench.read().station("rolled_back")


def test_an_erased_job_is_known_for_ever_and_never_printed_again(bench):
    raw = bench.authorization(exp=NOW + 60)
    bench.accept(raw)
    bench.pass_time(NOW + 61)
    bench.direct(Action.ACKNOWLEDGE)
    bench.clock.time = NOW + 59
    assert bench.take(raw).status == 200
    assert bench.take(bench.authorization("job-1", "C0000009")).status == 409
    with pytest.raises(RequestRefused):
        bench.act(acts.replay)
    assert bench.shown() == ("aborted", ["expired"])
    bench.clock.time = EXP + 1
    assert bench.take(raw).status == 200
