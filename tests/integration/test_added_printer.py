"""docs/add-a-printer.md, done: a third profile, a book printed with it, and the talk recorded on the way."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from desk_fixture import BOOK, JOB, submit, wait_for
from printer_bench import Over
from station_fixture import CONFIGURATION, await_healthy, serving
from test_transcripts import ReplayedLine

from agent.cli.client import Client
from agent.drivers.transport import FlowControl, SerialSettings
from agent.drivers.virtual.client import spawn
from tools import transcript
from tools.record_transcript import record

ROOT = Path(__file__).parents[2]
NAME = "wide-slip"


def profile_of_the_page():
    page = (ROOT / "docs/add-a-printer.md").read_text(encoding="utf-8")
    return next(
        block for block in re.findall("```toml\n(.*?)```", page, re.DOTALL) if "dpi_x" in block
    )


@contextlib.contextmanager
def recorded(port, folder):
    """The recorder between the agent and the printer."""
    stop = threading.Event()
    with (folder / "transcript.txt").open("w", encoding="utf-8") as talk:
        settings = SerialSettings(str(port), flow=FlowControl.NONE)
        thread = threading.Thread(target=record, args=(settings, folder, talk, stop.is_set))
        thread.start()
        wait_for((folder / "port").is_symlink)
        yield
        stop.set()
        thread.join()


@contextlib.contextmanager
def virtual_printer(folder, **make):
    with contextlib.closing(spawn(folder, speed=20.0, **make)) as printer:
        yield printer
        printer.quit()


@contextlib.contextmanager
def agent_of(package, configuration):
    with (package / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(configuration)],
            cwd=package,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(package)},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(60) == 0, (package / "log").read_text()


def test_a_profile_written_by_the_page_prints_a_book_and_its_talk_can_be_replayed(
    tmp_path, benches
):
    package = tmp_path / "package"
    shutil.copytree(ROOT / "agent", package / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    text = profile_of_the_page()
    profile = tomllib.loads(text)
    (package / f"agent/drivers/profiles/{NAME}.toml").write_text(text, encoding="utf-8")
    size = {key: profile[key] for key in ("dpi_x", "dpi_y", "width", "height")}
    make = size | {"counter_kept": profile["counter_kept"]}
    talk = tmp_path / "talk"
    talk.mkdir()
    printer = f'port = "{talk}/port"\nflow = "none"\nprofile = "{NAME}"\nbook_check = "none"'
    with serving(tmp_path) as client:
        submit(client)
    configuration = tmp_path / "station.toml"
    configuration.write_text(CONFIGURATION.format(printer=printer), encoding="utf-8")
    with (
        virtual_printer(tmp_path / "printer", **make) as desk,
        recorded(desk.port, talk),
        agent_of(package, configuration),
    ):
        client = Client(tmp_path / "s/a.sock")
        await_healthy(client)
        wait_for(lambda: "book-wanted" in client.get(f"/v1/jobs/{JOB}")["reasons"])
        desk.insert(BOOK)
        wait_for(lambda: desk.state().place == "ejected")
        desk.remove()
        wait_for(lambda: client.get(f"/v1/jobs/{JOB}")["state"] == "completed")
        (book,) = desk.books()
        assert len(book.passes) == 1
        printed = desk.raster(BOOK)
    bench = benches("page-slip", overrides=profile)
    bench.submit_jobs(JOB)
    assert printed == bench.raster(JOB)
    said = transcript.read((talk / "transcript.txt").read_text(encoding="utf-8"))
    bench.replayed = ReplayedLine(said, bench)
    with pytest.raises(Over):
        bench.worker.run()
    assert bench.events(JOB)[1:] == ["print-committed", "print-completed"]
