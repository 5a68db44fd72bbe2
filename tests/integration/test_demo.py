"""`print-agent demo` from its first line to its last, and once more in the same place."""

from __future__ import annotations

import subprocess
import sys

from agent.cli.demo import LEFT, Day


def test_a_day_ends_well_and_what_it_leaves_gives_way_to_the_next(tmp_path):
    directory = tmp_path / "demo"
    command = [sys.executable, "-m", "agent", "demo", "--books", "3", "--speed", "200"]
    done = subprocess.run(
        [*command, "--directory", str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "accepted 3, printed 3" in done.stdout
    assert "doubled = 0, lost = 0" in done.stdout
    assert {entry.name for entry in directory.iterdir()} == LEFT
    Day(directory, books=3, speed=200.0).prepare()
    assert not (directory / "contact-sheet.png").exists()
