"""`print-agent takeover`: nothing scanned is lost, nothing is signed unasked, and the receipt says who counted."""

from __future__ import annotations

import fcntl
import io
import sys
from pathlib import Path

import pytest
from station_fixture import ABSENT, prepare, serving

from agent.cli import main
from agent.cli.message_commands import claims_of

SPARE, DEAD = "sambas-01", "dead-01"
BOOKS = (
    f"# {DEAD}\nA1\topen\tpending\tjob-1\nA2\topen\tpending\tjob-1\nE1\tended\tcompleted\tjob-2\n"
)


class Counter:
    """Runs the command with what a person types and scans."""

    def __init__(self, folder: Path, monkeypatch, capsys) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        self.books = folder / "books"
        self.books.write_text(BOOKS)
        self.draft = folder / "draft"
        monkeypatch.setenv("PRINT_AGENT_CONFIG", str(folder / "station.toml"))

    def __call__(self, *arguments: str, typed: str = "") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["print-agent", *arguments])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = main()
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def count(self, *lines: str, dead: str = DEAD) -> tuple[int, str, str]:
        options = ["--books", str(self.books), "--draft", str(self.draft)]
        return self("takeover", dead, *options, typed="".join(f"{line}\n" for line in lines))

    def signed(self) -> list[dict]:
        receipts = [claims_of(line) for line in self("receipts")[1].split()]
        return [claims for claims in receipts if claims["event"] == "inventory-taken"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    return Counter(tmp_path, monkeypatch, capsys)


@pytest.fixture
def station(tmp_path):
    with serving(tmp_path, printer=ABSENT):
        yield


@pytest.mark.usefixtures("station")
def test_a_count_is_signed_as_a_receipt_of_the_one_who_counted(run):
    code, out, _ = run.count("A1", "p", "E1", "e", "sign")
    assert code == 0
    (receipt,) = run.signed()
    assert f"Signed: receipt {receipt['seq']} of {SPARE}" in out
    assert receipt["actor"].startswith("technician:")
    assert receipt["evidence"] == {
        "of": DEAD,
        "books": {"blank": ["A1"], "printed": ["E1"], "damaged": [], "missing": ["A2"]},
    }
    # The same count again is the same receipt.
    assert run.count("e", "sign")[0] == 0
    assert len(run.signed()) == 1


@pytest.mark.usefixtures("station")
@pytest.mark.parametrize("last", [[], ["q"], ["e"], ["e", "A2"], ["e", "A2", "sign"], ["sign"]])
def test_nothing_is_signed_but_by_the_word_right_after_the_sum(run, last):
    code, out, _ = run.count("A1", *last)
    assert code == 0
    assert "Nothing is signed" in out
    assert run.signed() == []


@pytest.mark.usefixtures("station")
def test_an_empty_count_cannot_be_signed(run):
    assert "Nothing is signed" in run.count("e", "sign")[1]
    assert run.signed() == []


@pytest.mark.usefixtures("station")
def test_a_count_goes_on_after_a_power_cut_in_the_middle_of_a_line(run):
    run.count("A1", "d", "A2")
    with run.draft.open("a") as file:
        file.write("E1 bla")
    code, out, _ = run.count("l", "e", "sign")
    assert code == 0
    assert "1 blank, 0 printed, 1 damaged, 0 missing" in out
    assert run.signed()[0]["evidence"]["books"]["damaged"] == ["A2"]
    assert "E1" not in run.draft.read_text()


@pytest.mark.usefixtures("station")
def test_each_scan_is_on_disk_before_it_is_shown(run, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.cli.takeover.os.fsync", fail)
    code, out, err = run.count("A1")
    assert code == 1
    assert "1/2  A1" not in out
    assert "No space left" in err


@pytest.mark.usefixtures("station")
def test_a_draft_of_another_count_is_left_alone(run):
    run.draft.write_text("# other-02 counted at sambas-01\nA1 blank\n")
    code, _, err = run.count("A1")
    assert code == 1
    assert "name another --draft" in err
    run.draft.write_text(f"# {DEAD} counted at {SPARE}\nA1 torn\n")
    assert "line 2 is damaged" in run.count("A1")[2]
    assert run.draft.read_text().endswith("A1 torn\n")


@pytest.mark.usefixtures("station")
def test_two_windows_do_not_count_into_one_draft(run):
    with run.draft.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        code, _, err = run.count("A1")
    assert code == 1
    assert "another window counts these books" in err


@pytest.mark.usefixtures("station")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "its first line is not"),
        ("# other-09\nA1\topen\n", "its first line is not"),
        (f"# {DEAD}\nA1\topen\nA2\n", "line 3 is no line of a list"),
        (f"# {DEAD}\nA1 open\n", "line 2 is no line of a list"),
    ],
)
def test_a_list_of_something_else_is_refused_before_the_first_scan(run, text, told):
    run.books.write_text(text)
    code, _, err = run.count("A1")
    assert code == 1
    assert told in err
    assert not run.draft.exists()


def test_whoever_must_sign_is_asked_for_before_the_first_scan(run):
    prepare(run.folder, ABSENT)
    code, _, err = run.count("A1")
    assert code == 1
    assert "the agent does not run" in err
    assert not run.draft.exists()
    assert "this is sambas-01 itself" in run.count("A1", dead=SPARE)[2]


@pytest.mark.usefixtures("station")
def test_a_count_is_kept_in_the_state_directory_of_the_one_who_counts(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    code, out, _ = run("takeover", DEAD, typed="A1\nA1\nX-1\nm\nA9\ne\nsign\n")
    assert code == 0
    assert "!! that is no book number" in out
    kept = tmp_path / "home/print-agent" / f"takeover-{DEAD}.txt"
    assert kept.read_text() == f"# {DEAD} counted at {SPARE}\nA1 blank\nA9 missing\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    books = run.signed()[0]["evidence"]["books"]
    assert (books["blank"], books["missing"]) == (["A1"], ["A9"])
