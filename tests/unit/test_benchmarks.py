"""Each benchmark measures something, at a size that takes no time; what is exact must reach its goal."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import __main__ as bench
from benchmarks import acceptance, idle, journal, page, printing
from benchmarks.figure import Figure


def test_a_batch_shares_commits_and_one_message_costs_one_sync():
    figures = list(acceptance.measure(batch=200, singles=8, rounds=1))
    assert len(figures) == 5
    assert all(figure.measured > 0 for figure in figures)
    syncs = {figure.unit: figure for figure in figures}
    assert syncs["fsyncs"].measured <= 8  # two commits, and what a checkpoint in between may cost
    assert syncs["fdatasyncs"].met


def test_a_page_costs_no_more_bytes_than_its_ink():
    figures = list(page.measure(people=2))
    assert len(figures) == 4
    assert all(figure.met for figure in figures if "bytes" in figure.what)


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param(lambda: journal.measure(printed=4, ended=20, rounds=1), id="journal"),
        pytest.param(lambda: printing.measure(books=3), id="printing"),
        pytest.param(lambda: idle.measure(jobs=20, settle_s=0.0, seconds=1.5), id="idle"),
    ],
)
def test_every_figure_is_measured(figures):
    found = list(figures())
    assert len(found) == 2
    assert all(figure.measured > 0 for figure in found)


def test_the_table_tells_what_was_missed_and_machines_get_it_too(tmp_path, capsys, monkeypatch):
    figures = [Figure("good", 0.5, 1.0, "x", "two halves"), Figure("bad", 3.0, 2.0, "ms")]
    monkeypatch.setattr(bench, "BENCHMARKS", {"some": lambda: iter(figures)})
    monkeypatch.setattr(sys, "argv", ["bench", "some", "--json", str(tmp_path / "figures.json")])
    bench.main()
    rows = capsys.readouterr().out.splitlines()
    assert any("good" in row and "50%" in row and "met" in row for row in rows)
    assert any("bad" in row and "150%" in row and "MISSED" in row for row in rows)
    told = json.loads((tmp_path / "figures.json").read_text())
    assert [(each["what"], each["met"]) for each in told] == [("good", True), ("bad", False)]


def test_a_benchmark_that_does_not_exist_is_wrong_usage(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "nothing"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2
    assert "acceptance, journal, page, printing, idle" in capsys.readouterr().err


def test_what_could_not_be_measured_is_an_error():
    with pytest.raises(ValueError, match="could not be measured"):
        Figure("broken", float("nan"), 1.0, "x")
