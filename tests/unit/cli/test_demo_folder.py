"""`print-agent demo` deletes what an earlier demo left, and nothing else."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent.cli.demo import Day, DemoFailed


def day(directory: Path) -> Day:
    return Day(directory, books=1, speed=40.0)


@pytest.mark.parametrize("name", ["notes.txt", "journal.db"])
def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path, name: str):
    (tmp_path / "station").mkdir()
    (tmp_path / "station" / "kept").write_text("x")
    (tmp_path / name).write_text("precious")
    with pytest.raises(DemoFailed, match=rf"holds what no demo made \({name}\).*--directory"):
        day(tmp_path).prepare()
    assert (tmp_path / name).read_text() == "precious"
    assert (tmp_path / "station" / "kept").exists()


def test_a_demo_that_runs_is_not_deleted_and_an_old_one_is(tmp_path: Path):
    first = day(tmp_path)
    first.prepare()
    left = tmp_path / "station" / "left"
    left.write_text("x")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(first.socket))
        agent.listen()
        with pytest.raises(DemoFailed, match="a demo runs in"):
            day(tmp_path).prepare()
    assert left.exists()
    day(tmp_path).prepare()
    assert not left.exists()
