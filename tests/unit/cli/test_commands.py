"""The commands against a real station over its real socket, and against its journal once it has stopped."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from station_fixture import VECTORS, FixedClock, index, serving

from agent.cli import main
from agent.cli.message_commands import claims_of
from agent.queue.damage import checked_vfs

MESSAGES = VECTORS / "messages"
ERIKSSON = "valid-ed25519"  # its job's id is the same
BOOK = "L898902C3"


@dataclass(frozen=True, slots=True)
class Result:
    """What a command gave."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch, capsys) -> Run:
    def call(*arguments: str, stdin: str = "") -> Result:
        monkeypatch.setattr(sys, "argv", ["print-agent", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = main()
        shown = capsys.readouterr()
        return Result(code, shown.out, shown.err)

    return call


@pytest.fixture
def station(tmp_path, monkeypatch) -> Iterator[Path]:
    """A station that runs; its folder."""
    monkeypatch.setenv("PRINT_AGENT_CONFIG", str(tmp_path / "station.toml"))
    with serving(tmp_path, clock=FixedClock(index()["now"])):
        yield tmp_path


def submitted(run: Run, *names: str) -> Result:
    return run("submit", *(str(MESSAGES / f"{name}.jws") for name in names))


def test_a_message_is_accepted_and_known_again(run, station):
    assert submitted(run, ERIKSSON).out.endswith(f"\t201\taccepted job {ERIKSSON}\n")
    again = submitted(run, ERIKSSON)
    assert again.code == 0
    assert again.out.endswith(f"\t200\tknown already job {ERIKSSON}\n")


def test_one_refused_message_of_many_fails_and_the_others_are_told(run, station):
    done = submitted(run, ERIKSSON, "action-unknown", "valid-es256")
    assert done.code == 1
    assert [line.split("\t")[1] for line in done.out.splitlines()] == ["201", "400", "201"]
    assert "refused: malformed: " in done.out
    assert done.err == "print-agent: one message was refused\n"


def test_a_sequence_gives_a_line_for_each_message(run, station, tmp_path):
    sequence = tmp_path / "day.jose-seq"
    good = (MESSAGES / f"{ERIKSSON}.jws").read_text().strip()
    sequence.write_text(f"{good}\n\nnonsense\n")
    done = run("submit", str(sequence))
    assert done.code == 1
    assert done.out.splitlines() == [
        f"{sequence}#1\t201\taccepted job {ERIKSSON}",
        f"{sequence}#2\t400\trefused: malformed: it is malformed",
    ]


def test_nothing_is_sent_while_a_file_name_is_mistyped(run, station):
    done = run("submit", str(MESSAGES / f"{ERIKSSON}.jws"), str(station / "none.jws"))
    assert (done.code, done.out) == (1, "")
    assert "none.jws: there is no such file; nothing was submitted" in done.err
    assert run("jobs").out == "no jobs\n"


def test_jobs_are_shown_for_people_and_for_programs(run, station):
    submitted(run, ERIKSSON, "valid-es256")
    found = json.loads(run("jobs", "--json").out)
    assert [job["id"] for job in found] == [ERIKSSON, "valid-es256"]
    table = run("jobs").out
    assert table.splitlines()[0].split()[:3] == ["JOB", "BOOK", "STATE"]
    assert "\x1b" not in table
    assert "no printer is ready" in table
    assert json.loads(run("jobs", "--state", "completed", "--json").out) == []
    one = run("job", ERIKSSON)
    assert BOOK in one.out
    assert f"print-agent present {BOOK}" in one.out


def test_acts_change_the_job_and_repeat_quietly(run, station):
    submitted(run, ERIKSSON)
    for _ in range(2):
        held = run("hold", ERIKSSON)
        assert (held.code, held.out) == (
            0,
            f"job {ERIKSSON}, book {BOOK}: pending-held (on hold)\n",
        )
    assert run("release", ERIKSSON).code == 0
    assert run("request-transfer", ERIKSSON, "--to", "sambas-02").code == 0
    canceled = run("cancel", ERIKSSON, "--reason", "wrong office")
    assert canceled.out == f"job {ERIKSSON}, book {BOOK}: canceled (canceled by a technician)\n"
    refused = run("hold", ERIKSSON)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("print-agent: ")
    assert refused.err.count("\n") == 1


def test_a_spoiled_blank_is_taken_out_of_the_queue(run, station):
    submitted(run, ERIKSSON)
    wrong = run("resolve", ERIKSSON, "--outcome", "spoiled", "--book", "X1")
    assert wrong.code == 1
    done = run("resolve", ERIKSSON, "--outcome", "spoiled", "--book", BOOK)
    assert "aborted (its last book was spoiled)" in done.out


def test_an_unknown_job_and_an_unknown_printer_are_refused(run, station):
    assert "there is no job 'nix'" in run("job", "nix").err
    assert "there is no printer 'nix'" in run("present", BOOK, "--printer", "nix").err


def test_the_mrz_comes_on_standard_input_and_is_never_shown(run, station):
    submitted(run, ERIKSSON)
    lines = index()["vectors"][0]["mrz"]
    # The job is not printed, so that the station refuses; what was read stays unsaid.
    done = run("verify", ERIKSSON, "--mrz", "-", stdin="\n".join(lines))
    assert done.code == 1
    assert "ERIKSSON" not in done.err + done.out
    short = run("verify", ERIKSSON, "--mrz", "-", stdin=lines[0])
    assert (short.code, short.err.count("\n")) == (1, 1)
    assert "two lines" in short.err
    assert "ERIKSSON" not in short.err


def test_a_technician_s_token_stands_alone_and_once(run, station):
    token = run("technician", "add", "Budi").out
    assert len(token.strip()) >= 32
    assert token.count("\n") == 1
    listed = run("technician", "list")
    assert "Budi" in listed.out
    assert token.strip() not in listed.out
    assert run("technician", "remove", "Budi").code == 0
    assert json.loads(run("technician", "list", "--json").out) == []
    assert run("technician", "remove", "Ani").code == 1


def test_printers_and_status_name_what_is_wrong(run, station):
    shown = json.loads(run("printers", "--json").out)
    assert [printer["name"] for printer in shown] == ["main"]
    assert "stopped" in run("printers").out
    status = run("status")
    assert "station   sambas-01, authority imigrasi-jakarta" in status.out
    assert "printer   main: stopped" in status.out
    assert json.loads(run("status", "--json").out)["jobs"]["pending"] == 0


def test_accepting_a_clock_that_is_trusted_changes_nothing(run, station):
    assert run("clock", "accept", "--reason", "checked").out == "the clock is trusted\n"


def test_the_receipts_are_the_chain(run, station):
    submitted(run, ERIKSSON)
    lines = run("receipts").out.splitlines()
    claims = [json.loads(line) for line in run("receipts", "--json").out.splitlines()]
    assert [claims_of(line) for line in lines] == claims
    assert [row["seq"] for row in claims] == list(range(1, len(claims) + 1))
    assert run("receipts", "--after", str(len(claims) - 1)).out.splitlines() == lines[-1:]


def test_the_journal_tells_the_same_once_the_agent_has_stopped(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PRINT_AGENT_CONFIG", str(tmp_path / "station.toml"))
    with serving(tmp_path, clock=FixedClock(index()["now"])):
        submitted(run, ERIKSSON, "valid-es256", "valid-sex-f")
        run("hold", "valid-es256")
        run("cancel", "valid-sex-f", "--reason", "x")
        jobs = json.loads(run("jobs", "--json").out)
        receipts = run("receipts").out
        status = json.loads(run("status", "--json").out)
    journal = (tmp_path / "s" / "journal.db").read_bytes()
    told = run("jobs", "--json")
    assert "the agent does not run; this is what the journal says" in told.err
    # What only lives (stopped printers) is in no journal.
    assert [job | {"reasons": []} for job in json.loads(told.out)] == [
        job | {"reasons": []} for job in jobs
    ]
    assert run("receipts").out == receipts
    assert json.loads(run("status", "--json").out)["jobs"] == status["jobs"]
    assert json.loads(run("jobs", "--state", "canceled", "--json").out)[0]["id"] == "valid-sex-f"
    assert json.loads(run("job", "valid-es256", "--json").out)["reasons"] == ["job-hold"]
    assert "does not run" in run("printers").out
    assert "there is no job 'nix'" in run("job", "nix").err
    acted = run("hold", ERIKSSON)
    assert acted.code == 1
    assert "the agent does not run (no answer at" in acted.err
    assert run("journal", "verify").code == 0
    assert (tmp_path / "s" / "journal.db").read_bytes() == journal


def test_a_journal_that_is_not_whole_fails(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PRINT_AGENT_CONFIG", str(tmp_path / "station.toml"))
    with serving(tmp_path, clock=FixedClock(index()["now"])):
        submitted(run, ERIKSSON)
    # With the right checksums, as an intruder would write it.
    connection = apsw.Connection(str(tmp_path / "s" / "journal.db"), vfs=checked_vfs())
    connection.execute("UPDATE jobs SET priority = 99")
    connection.close()
    done = run("journal", "verify")
    assert done.code == 1
    assert "priority" in done.out
    assert "journal salvage" in done.err
    assert json.loads(run("journal", "verify", "--json").out)["faults"]


def test_a_file_that_is_no_journal_is_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PRINT_AGENT_CONFIG", str(tmp_path / "station.toml"))
    with serving(tmp_path, clock=FixedClock(index()["now"])):
        pass
    for name in ("journal.db-wal", "journal.db-shm"):
        (tmp_path / "s" / name).unlink(missing_ok=True)
    (tmp_path / "s" / "journal.db").write_bytes(b"no journal at all" * 1_000)
    for arguments in (
        ["jobs"],
        ["status"],
        ["receipts"],
        ["journal", "verify"],
        ["keys", "rotate"],
    ):
        done = run(*arguments)
        assert done.code == 1, arguments
        assert "journal.db" in done.err.splitlines()[-1]


def test_keys_are_made_once_and_shown_without_their_secret(run, tmp_path, monkeypatch):
    config = tmp_path / "station.toml"
    config.write_text(
        '[station]\nid = "a"\nstate_dir = "new"\n[authority]\nid = "b"\n[printers.main]\ndriver = "virtual"\n'
    )
    assert run("keys", "init", "--config", str(config)).code == 0
    file = tmp_path / "new" / "station.jwks"
    before = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    again = run("keys", "init", "--config", str(config))
    assert (again.code, file.read_bytes()) == (1, before)
    shown = json.loads(run("keys", "show", "--config", str(config)).out)
    assert [key["use"] for key in shown["keys"]] == ["sig", "enc"]
    assert all("d" not in key for key in shown["keys"])


def test_a_rotation_that_is_not_announced_yet_is_not_lost_by_another(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PRINT_AGENT_CONFIG", str(tmp_path / "station.toml"))
    with serving(tmp_path, clock=FixedClock(index()["now"])):
        pass
    file = tmp_path / "s" / "station.jwks"
    first = file.read_bytes()
    assert run("keys", "rotate").code == 0
    second = file.read_bytes()
    assert second != first
    again = run("keys", "rotate")
    assert again.code == 1
    assert "not announced yet" in again.err
    assert file.read_bytes() == second
