from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigurationInvalid
from agent.links import inbox as inbox_module
from agent.links import refused_folder
from agent.links.inbox import ACCEPTED_DAYS, CLEAR_S, RETRY_S, SETTLE_S, Inbox
from agent.links.refused_folder import RefusedFolder
from agent.links.sequence import MESSAGE_STREAM_MAX
from agent.model import BATCH_LINES_MAX, BATCH_SIZE_MAX, MESSAGE_SIZE_MAX
from tests.unit.links.station_double import StationDouble


class ClockDouble:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> int:
        return int(self.time)

    def monotonic(self) -> float:
        return self.time


class Bench:
    """An inbox whose looks the test makes itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.station = StationDouble()
        self.clock = ClockDouble()
        directory.mkdir()
        self.inbox = Inbox(self.station, directory, clock=self.clock)  # type: ignore[arg-type]  # the double has what is asked

    def put(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def look(self, *, settled: bool = True) -> float:
        wait_s = self.inbox.scan()
        if settled:
            self.clock.time += SETTLE_S
            wait_s = self.inbox.scan()
        return wait_s

    def names(self, folder: str = "") -> list[str]:
        place = self.directory / folder
        if not place.exists():
            return []
        return sorted(entry.name for entry in place.iterdir() if not entry.is_dir())

    def problem(self, name: str) -> Any:
        return json.loads((self.directory / "refused" / f"{name}.problem.json").read_text())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "inbox")


def test_a_good_message_goes_to_accepted_at_once(bench: Bench):
    bench.put("x.jws", b"good-1\n")
    bench.look(settled=False)
    assert bench.names() == []
    assert bench.names("accepted") == ["x.jws"]
    assert bench.names("refused") == []


def test_a_known_message_is_accepted_too_under_a_name_of_its_own(bench: Bench):
    for _ in range(3):
        bench.put("x.jws", b"good-1")
        bench.look()
    assert bench.names("accepted") == ["x.jws", "x.jws.1", "x.jws.2"]


def test_a_refused_message_lies_beside_its_problem(bench: Bench):
    bench.put("x.jws", b"bad")
    bench.look()
    assert bench.names() == []
    assert bench.names("refused") == ["x.jws", "x.jws.problem.json"]
    problem = bench.problem("x.jws")
    assert problem["type"] == "urn:print-agent:malformed"
    assert (problem["status"], problem["detail"]) == (400, "no JWS")
    assert problem["title"]
    assert bench.station.refusals == [(400, b"bad")]


def test_a_second_refused_one_of_the_name_keeps_both(bench: Bench):
    for content in (b"bad-1", b"bad-2"):
        bench.put("x.jws", content)
        bench.look()
    assert bench.names("refused") == [
        "x.jws",
        "x.jws.1",
        "x.jws.1.problem.json",
        "x.jws.problem.json",
    ]
    assert (bench.directory / "refused" / "x.jws.1").read_bytes() == b"bad-2"


def test_a_sequence_is_taken_whole(bench: Bench):
    bench.put("x.jose-seq", b"good-1\r\n\r\ngood-2")
    bench.look()
    assert bench.names("accepted") == ["x.jose-seq"]
    assert list(bench.station.intake.known) == [b"good-1", b"good-2"]


def test_a_sequence_with_a_refused_line_is_refused_whole_and_its_good_lines_stay(bench: Bench):
    bench.put("x.jose-seq", b"good-1\nbad\n\ngood-2\n")
    bench.look()
    assert bench.names("accepted") == []
    assert bench.names("refused") == ["x.jose-seq", "x.jose-seq.problem.json"]
    rows = bench.problem("x.jose-seq")
    assert [set(row) for row in rows] == [{"status", "type", "job"}] * 3
    # Also what the first look accepted, before the file was settled.
    assert [row["status"] for row in rows] == [201, 400, 201]
    assert rows[0]["job"] == "good-1"
    assert list(bench.station.intake.known) == [b"good-1", b"good-2"]
    assert bench.station.refusals == [(400, b"bad")]


def test_what_was_known_before_a_refused_sequence_or_comes_twice_in_it_is_known(bench: Bench):
    bench.put("known.jws", b"good-1")
    bench.look()
    bench.put("x.jose-seq", b"good-1\nbad\ngood-2\ngood-2\n")
    bench.look()
    assert [row["status"] for row in bench.problem("x.jose-seq")] == [200, 400, 201, 200]


def test_a_line_over_the_limit_is_told_though_nothing_of_it_is_left(bench: Bench):
    bench.put("x.jose-seq", b"x" * (MESSAGE_SIZE_MAX + 1) + b"\ngood-1\n")
    bench.look()
    assert [row["status"] for row in bench.problem("x.jose-seq")] == [413, 201]
    assert bench.station.refusals == [(413, None)]


def test_a_sequence_of_too_many_lines_is_one_problem(bench: Bench):
    bench.put("x.jose-seq", b"good\n" * (BATCH_LINES_MAX + 1))
    bench.look()
    assert bench.problem("x.jose-seq")["status"] == 413


def test_a_huge_file_is_refused_by_its_size_without_being_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    for name, size in (("x.jws", MESSAGE_STREAM_MAX), ("y.jose-seq", BATCH_SIZE_MAX)):
        with bench.put(name, b"").open("r+b") as file:
            file.truncate(size + 1)

    def never(*_: Any) -> Iterator[bytes]:
        raise AssertionError("it was read")

    monkeypatch.setattr(inbox_module, "_pieces", never)
    bench.look()
    assert bench.problem("x.jws")["type"] == "urn:print-agent:too-large"
    assert bench.problem("y.jose-seq")["type"] == "urn:print-agent:too-large"
    assert bench.names() == []


@pytest.mark.parametrize("name", ["x.jws.part", ".x.jws", "x.JWS", "x.json", "jws", "x.jws~"])
def test_a_name_that_is_not_final_does_not_count(bench: Bench, name: str):
    bench.put(name, b"good-1")
    bench.look()
    assert bench.names() == [name]
    assert bench.station.intake.known == {}


def test_links_folders_and_special_files_are_left_alone(bench: Bench, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"good-outside")
    (bench.directory / "link.jws").symlink_to(outside)
    (bench.directory / "dangling.jws").symlink_to(tmp_path / "nothing")
    (bench.directory / "folder.jws").mkdir()
    os.mkfifo(bench.directory / "pipe.jws")
    bench.put("x.jws", b"good-1")
    bench.look()
    assert list(bench.station.intake.known) == [b"good-1"]
    assert {"link.jws", "dangling.jws", "pipe.jws"} == set(bench.names())
    assert (bench.directory / "folder.jws").is_dir()
    assert outside.read_bytes() == b"good-outside"


def test_a_second_name_of_a_file_that_lies_elsewhere_is_left_alone(bench: Bench, tmp_path: Path):
    outside = tmp_path / "outside.jws"
    outside.write_bytes(b"good-outside")
    (bench.directory / "x.jws").hardlink_to(outside)
    bench.look()
    assert bench.names() == ["x.jws"]
    assert bench.station.intake.known == {}
    outside.unlink()
    bench.look()
    assert bench.names("accepted") == ["x.jws"]


@pytest.mark.parametrize(
    "name",
    [
        b"x\n2026-01-01 accepted y.jws",
        b"x\r.jws",
        b"\x1b[2J.jws",
        b"\xff\xfe.jws",
        b"-rf *.jws",
        b"$(reboot).jws",
        b"x.jws.problem.json.jws",
        "\u202egnp.jws".encode(),
    ],
)
def test_a_name_is_only_a_name(bench: Bench, name: bytes, caplog: pytest.LogCaptureFixture):
    directory = os.fsencode(bench.directory)
    for content, folder in ((b"good-1", b"accepted"), (b"bad", b"refused")):
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content)
        bench.look()
        assert name in os.listdir(os.path.join(directory, folder))
    assert bench.names() == []
    assert name + b".problem.json" in os.listdir(os.path.join(directory, b"refused"))
    assert caplog.text == ""


@pytest.mark.parametrize("folder", ["accepted", "refused"])
def test_a_folder_that_became_a_link_leads_nothing_out_of_the_inbox(
    bench: Bench, tmp_path: Path, folder: str
):
    outside = tmp_path / "outside"
    outside.mkdir()
    (bench.directory / folder).symlink_to(outside)
    bench.put("x.jws", b"good-1" if folder == "accepted" else b"bad")
    bench.look()
    assert list(outside.iterdir()) == []
    assert bench.names() == ["x.jws"]
    with pytest.raises(ConfigurationInvalid):
        bench.inbox.start()


def test_a_file_that_took_the_name_meanwhile_is_not_moved_unread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    path = bench.put("x.jws", b"good-1")
    take = bench.station.intake.take

    def take_and_swap(raw: bytes) -> Any:
        answer = take(raw)
        if raw == b"good-1":
            other = bench.put("other", b"good-2")
            other.rename(path)
        return answer

    monkeypatch.setattr(bench.station.intake, "take", take_and_swap)
    bench.look()
    assert list(bench.station.intake.known) == [b"good-1", b"good-2"]
    kept = bench.directory / "accepted"
    assert [file.read_bytes() for file in kept.iterdir()] == [b"good-2"]


def test_a_file_that_is_still_written_is_not_refused(bench: Bench):
    path = bench.put("x.jws", b"")
    assert bench.look(settled=False) == SETTLE_S
    path.write_bytes(b"go")
    bench.clock.time += SETTLE_S
    assert bench.look(settled=False) == SETTLE_S
    path.write_bytes(b"good-1")
    bench.look(settled=False)
    assert bench.names("accepted") == ["x.jws"]
    assert bench.names("refused") == []
    assert bench.station.refusals == []


def test_a_file_that_grows_while_it_is_read_is_read_to_the_limit_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    path = bench.put("x.jws", b"bad")
    read = 0
    pieces = inbox_module._pieces

    def growing(file: Any, size_max: int) -> Iterator[bytes]:
        nonlocal read
        with path.open("r+b") as more:
            more.truncate(10 * 1024**3)
        for piece in pieces(file, size_max):
            read += len(piece)
            yield piece

    monkeypatch.setattr(inbox_module, "_pieces", growing)
    bench.look(settled=False)
    assert read <= MESSAGE_STREAM_MAX + inbox_module.PIECE_SIZE
    assert bench.names() == ["x.jws"]


def test_a_sequence_that_grew_while_it_was_taken_is_taken_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    path = bench.put("x.jose-seq", b"good-1\n")
    take_many = bench.station.intake.take_many

    def take_and_grow(lines: Any) -> Iterator[Any]:
        yield from take_many(lines)
        monkeypatch.undo()
        with path.open("ab") as file:
            file.write(b"good-2\n")

    monkeypatch.setattr(bench.station.intake, "take_many", take_and_grow)
    assert bench.look(settled=False) == SETTLE_S
    assert bench.names() == ["x.jose-seq"]
    bench.look()
    assert list(bench.station.intake.known) == [b"good-1", b"good-2"]
    assert bench.names("accepted") == ["x.jose-seq"]


def test_an_empty_sequence_is_accepted_once_it_stays_empty(bench: Bench):
    bench.put("x.jose-seq", b"\n")
    bench.look(settled=False)
    assert bench.names() == ["x.jose-seq"]
    bench.look()
    assert bench.names("accepted") == ["x.jose-seq"]


@pytest.mark.parametrize("name", ["x.jws", "x.jose-seq"])
def test_on_a_full_disk_the_file_stays_and_is_tried_again(bench: Bench, name: str):
    bench.station.intake.full = True
    bench.put(name, b"good-1")
    assert bench.look() == RETRY_S
    assert bench.names() == [name]
    bench.station.intake.full = False
    bench.look()
    assert bench.names("accepted") == [name]
    assert bench.station.refusals == []


def test_a_disk_that_is_full_when_the_file_is_moved_stops_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    bench.put("x.jws", b"bad")
    with monkeypatch.context() as patched:
        patched.setattr(RefusedFolder, "_write", full)
        assert bench.look() == RETRY_S
    assert bench.names() == ["x.jws"]
    bench.look()
    assert bench.names("refused") == ["x.jws", "x.jws.problem.json"]


def test_killed_between_commit_and_move_the_message_is_known_and_moved(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    class KilledError(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    bench.put("x.jws", b"good-1")
    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "_move", killed)
        with pytest.raises(KilledError):
            bench.look()
    assert bench.names() == ["x.jws"]
    bench.look()
    assert bench.names("accepted") == ["x.jws"]
    assert list(bench.station.intake.known) == [b"good-1"]


def test_killed_between_problem_and_move_leaves_one_pair(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    bench.put("x.jws", b"bad")
    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "_move", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.look()
    bench.look()
    assert bench.names("refused") == ["x.jws", "x.jws.problem.json"]


def test_the_move_is_synced_in_both_folders(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    bench.put("x.jws", b"good-1")
    bench.look()
    accepted = bench.directory / "accepted"
    assert synced == [accepted.stat().st_ino, bench.directory.stat().st_ino]


def test_refused_is_bounded_and_the_oldest_go_with_their_problems(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(refused_folder, "REFUSED_FILES_MAX", 6)
    for number in range(5):
        bench.put(f"{number}.jws", b"bad")
        bench.look()
    assert bench.names("refused") == [
        f"{number}.jws{ending}" for number in (2, 3, 4) for ending in ("", ".problem.json")
    ]


def test_a_long_name_is_shortened_rather_than_stuck(bench: Bench):
    bench.put("x" * 250 + ".jws", b"bad")
    bench.look()
    assert bench.names() == []
    assert len(bench.names("refused")) == 2


def test_a_message_of_another_way_is_kept_beside_its_problem(bench: Bench):
    bench.inbox.refused_folder.keep("mqtt-1.jws", b"raw", {"status": 400})
    assert (bench.directory / "refused" / "mqtt-1.jws").read_bytes() == b"raw"
    assert bench.problem("mqtt-1.jws") == {"status": 400}


def test_a_folder_that_vanished_stops_nothing(bench: Bench):
    bench.directory.rmdir()
    bench.look()
    assert bench.station.failures == []


def test_a_bug_ends_the_process_rather_than_the_thread_alone(tmp_path: Path):
    told = threading.Event()
    station = StationDouble()
    station.failed = lambda error: (station.failures.append(error), told.set())[1]
    station.intake.bug = bug = ValueError("a bug")
    (tmp_path / "x.jws").write_bytes(b"good")
    inbox = Inbox(station, tmp_path)  # type: ignore[arg-type]  # the double has what is asked
    inbox.start()
    assert told.wait(20)
    inbox.stop()
    assert station.failures == [bug]


def test_what_is_renamed_in_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbox_module, "RESCAN_S", 600.0)
    taken = threading.Event()
    station = StationDouble()
    take = station.intake.take

    def take_and_tell(raw: bytes) -> Any:
        taken.set()
        return take(raw)

    monkeypatch.setattr(station.intake, "take", take_and_tell)
    inbox = Inbox(station, tmp_path / "inbox")  # type: ignore[arg-type]  # the double has what is asked
    inbox.start()
    try:
        # The thread has had its first look once it took the first file.
        for number, from_inside in enumerate((False, True, False)):
            taken.clear()
            source = (tmp_path / "inbox" if from_inside else tmp_path) / "writing.part"
            source.write_bytes(b"good-%d" % number)
            source.rename(tmp_path / "inbox" / f"{number}.jws")
            assert taken.wait(20)
    finally:
        inbox.stop()
    assert len(station.intake.known) == 3


def test_the_files_of_accepted_messages_go_after_their_days(bench: Bench):
    bench.put("x.jws", b"good-1")
    bench.look()
    (bench.directory / "accepted" / "folder").mkdir()
    came = (bench.directory / "accepted" / "x.jws").stat().st_ctime
    bench.clock.time = came + ACCEPTED_DAYS * 86_400 - 60
    bench.look()
    assert bench.names("accepted") == ["x.jws"]
    bench.put("y.jws", b"good-2")
    bench.clock.time += CLEAR_S
    bench.look()
    assert bench.names("accepted") == ["y.jws"]
    assert (bench.directory / "accepted" / "folder").is_dir()
