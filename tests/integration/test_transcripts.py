"""Recorded talks with printers, replayed against the real worker: a byte that it sends otherwise shows.

The virtual printer's are made anew by each run and compared; a real printer's are recorded by tools/record_transcript.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from printer_bench import FIRST, Bench, Over, Step

from agent.composer import ComposedPage
from agent.drivers.escpos import Garbage, ReplyParser, encode_page
from agent.live import PrinterState
from agent.model import Raster
from agent.queue.states import Phase
from tools import transcript
from tools.transcript import HOST, PRINTER, Spoken

FOLDER = Path(__file__).parents[1] / "transcripts"
# A page that can be read in a transcript: a frame around a diagonal.
SHOWN = 32  # bytes of a difference
TINY = {"width": 48, "height": 24}


def pattern(profile) -> ComposedPage:
    rows = [0] * profile.height
    for row in range(4, 20):
        rows[row] = 1 << (47 - 8) | 1 << (47 - 39) | 1 << (47 - 2 * row)
    rows[3] = rows[20] = (1 << 40) - (1 << 8)
    stride = (profile.width + 7) // 8
    data = b"".join(row.to_bytes(stride, "big") for row in rows)
    raster = Raster(profile.width, profile.height, profile.dpi_x, profile.dpi_y, data)
    return ComposedPage(encode_page(raster, profile), raster.inked_rows())


class ReplayedLine:
    """The printer's part of a talk; it answers only what was asked in the talk."""

    def __init__(self, talk: list[Spoken], bench: Bench) -> None:
        self._talk = talk
        self._bench = bench
        self._at = 0
        self._asked = b""  # what was sent of the piece that the host speaks now

    @property
    def left(self) -> list[Spoken]:
        """What of the talk was not reached."""
        return self._talk[self._at :]

    @property
    def _now(self) -> Spoken | None:
        return self._talk[self._at] if self._at < len(self._talk) else None

    def read(self, timeout_s: float) -> bytes:
        if timeout_s > 0:
            self._skip_left_out()
        if self._now is None:
            raise Over
        if self._now.speaker == PRINTER:
            self._at += 1
            return self._talk[self._at - 1].data or b""
        self._bench.time += timeout_s
        return b""

    def _skip_left_out(self) -> None:
        if self._now is not None and self._now == Spoken(HOST, None):
            after = self._talk[self._at + 1 : self._at + 2]
            if not after or after[0].speaker == PRINTER:
                self._at += 1

    def write_some(self, data: bytes, timeout_s: float) -> int:
        self._bench.time += 0.001
        if self._now == Spoken(HOST, None):
            follows = self._talk[self._at + 1].data or b""
            if self._talk[self._at + 1].speaker == PRINTER or not follows.startswith(data):
                return len(data)
            self._at += 1
        wanted = self._now.data if self._now is not None and self._now.speaker == HOST else b""
        self._asked += data
        if not wanted.startswith(self._asked):
            sent, has = self._asked[:SHOWN].hex(" "), wanted[:SHOWN].hex(" ")
            pytest.fail(f"piece {self._at}: sent {sent}, the talk has {has or self._now}")
        if wanted == self._asked:
            self._at += 1
            self._asked = b""
        return len(data)

    def discard_output(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass


def killed() -> None:
    raise Over


def cover(bench: Bench) -> None:
    bench.printer.open_cover(bench.time)
    bench.after(3.0, lambda: bench.printer.close_cover(bench.time))


# What a talk is about: the profile, what happens at which step, and what the journal says in the end.
TALKS = {
    "page-slip": ("page-slip", None, ["print-committed", "print-completed"]),
    "column-slip": ("column-slip", None, ["print-committed", "print-completed"]),
    "page-slip-agent-killed": (
        "page-slip",
        (Step.PRINTING, lambda bench: killed()),
        ["print-committed", "print-completed"],
    ),
    "page-slip-cover-opened": (
        "page-slip",
        (Step.PRINTING, cover),
        ["print-committed", "print-failed"],
    ),
    "column-slip-book-pulled": (
        "column-slip",
        (Step.PRINTING, Bench.remove),
        ["print-committed", "print-in-doubt"],
    ),
}
NEW_SESSION = "# the agent starts again"


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def bench_for(benches, profile: str) -> Bench:
    bench = benches(profile, overrides=TINY)
    bench.same_page = pattern(bench.profile)
    bench.submit_jobs(FIRST)
    return bench


def record(bench: Bench, event) -> str:
    """The talk of one job, to the moment when nothing more is to be done for it."""
    if event is not None:
        step, act = event
        bench.at(step, lambda: act(bench))
    told: list[str] = []

    def ended() -> bool:
        return (
            bench.phase()
            not in (
                Phase.WAITING,
                Phase.SELECTED,
                Phase.LOADING,
                Phase.LOADED,
                Phase.COMMITTED,
            )
            and bench.view().state is PrinterState.IDLE
        )

    bench.run(ended)
    while True:
        told += [line for piece in bench.line.talk for line in transcript.lines(*piece)]
        if ended():
            break
        told.append(NEW_SESSION)
        bench.line.talk.clear()
        bench.start_agent()
        bench.run(ended)
    return "".join(f"{line.rstrip()}\n" for line in told)


@pytest.mark.parametrize("name", TALKS)
def test_the_worker_says_what_it_said(benches, name):
    profile, _, events = TALKS[name]
    bench = bench_for(benches, profile)
    for number, talk in enumerate(text_of(name).split(NEW_SESSION)):
        if number:
            bench.start_agent()
        bench.replayed = ReplayedLine(transcript.read(talk), bench)
        with pytest.raises(Over):
            bench.worker.run()
        assert not bench.replayed.left
    assert bench.events()[1:] == events


@pytest.mark.parametrize("name", TALKS)
def test_the_virtual_printer_answers_what_it_answered(benches, name, tmp_path):
    profile, event, _ = TALKS[name]
    talk = record(bench_for(benches, profile), event)
    # Where a change is meant, this is the new file.
    (tmp_path / f"{name}.txt").write_text(talk, encoding="utf-8")
    assert talk == text_of(name), f"compare {tmp_path}/{name}.txt"


@pytest.mark.parametrize("name", TALKS)
def test_every_split_of_what_a_printer_said_gives_the_same_replies(name):
    talk = transcript.read(text_of(name))
    data = b"".join(piece.data for piece in talk if piece.speaker == PRINTER)
    whole = ReplyParser().feed(data)
    assert not any(isinstance(reply, Garbage) for reply in whole)
    for cut in range(len(data)):
        parser = ReplyParser()
        assert parser.feed(data[:cut]) + parser.feed(data[cut:]) == whole
    parser = ReplyParser()
    assert [reply for byte in data for reply in parser.feed(bytes((byte,)))] == whole


def test_a_byte_that_is_sent_otherwise_shows(benches):
    bench = bench_for(benches, "page-slip")
    bench.replayed = ReplayedLine(transcript.read(text_of("page-slip")), bench)
    bench.worker.profile = replace(bench.profile, automatic_mask=0x24)
    with pytest.raises(pytest.fail.Exception, match="1d 61 24, the talk has"):
        bench.worker.run()
