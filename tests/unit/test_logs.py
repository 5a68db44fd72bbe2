"""What the log tells, what it never tells, and that nobody waits for it."""

from __future__ import annotations

import io
import json
import logging
import os
import threading

import pytest

from agent import logs
from agent.logs import EVENTS_A_MINUTE_MAX, start_log

log = logging.getLogger("agent.somewhere")


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(logs, "SystemClock", lambda: clock)
    return clock


@pytest.fixture
def said(clock):
    """Writes to a log and gives its lines once it is closed."""
    level = logging.getLogger("agent").level
    stream = io.StringIO()
    handler = start_log(stream)

    def lines():
        handler.close()
        return stream.getvalue().splitlines()

    yield lines
    handler.close()
    logging.getLogger().removeHandler(handler)
    logging.getLogger("agent").setLevel(level)


def test_a_line_is_json_with_its_events_name_and_fields(said):
    log.warning("print-in-doubt", extra={"job": "a-1", "seq": 7})
    (line,) = map(json.loads, said())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "print-in-doubt", "level": "warning", "job": "a-1", "seq": 7}


def test_a_field_that_is_not_known_does_not_leave_the_process(said):
    log.info("verified", extra={"job": "a-1", "surname": "ERIKSSON"})
    (line,) = said()
    assert "ERIKSSON" not in line


def test_the_text_of_a_library_or_of_an_error_does_not_leave_the_process(said):
    logging.getLogger("somelib").warning("cannot decode %s", "ERIKSSON")
    try:
        raise ValueError("ERIKSSON")
    except ValueError:
        log.exception("broken")
    lines = said()
    assert "ERIKSSON" not in "".join(lines)
    library, broken = map(json.loads, lines)
    assert (library["event"], library["part"]) == ("library", "somelib")
    assert broken["sentence"].startswith("ValueError at test_logs.py:")


def test_an_event_that_comes_too_often_is_counted(said, clock):
    for _ in range(EVENTS_A_MINUTE_MAX + 50):
        log.info("job-accepted")
    log.info("another")
    clock.seconds = 60.0
    log.info("job-accepted")
    lines = [json.loads(line) for line in said()]
    assert len(lines) == EVENTS_A_MINUTE_MAX + 2
    assert lines[-1]["suppressed"] == 50
    assert "suppressed" not in lines[-2]


def test_nobody_waits_for_a_pipe_that_nobody_reads(clock):
    reading, writing = os.pipe()
    handler = start_log(os.fdopen(writing, "w"))
    said = 20_000
    done = threading.Event()

    def talk():
        for number in range(said):
            clock.seconds = number * 60.0
            log.info("printer-state", extra={"sentence": "x" * 100})
        done.set()

    threading.Thread(target=talk, daemon=True).start()
    assert done.wait(60)
    # Once somebody reads again, it is told how many lines are missing.
    lines = []
    with os.fdopen(reading) as pipe:
        reader = threading.Thread(target=lambda: lines.extend(pipe))
        reader.start()
        while handler._lost:
            clock.seconds += 60.0
            log.info("later")
            said += 1
        logging.getLogger().removeHandler(handler)
        handler.close()
        handler._thread.join()
        handler._stream.close()
        reader.join()
    lost = sum(json.loads(line).get("lost", 0) for line in lines)
    assert lost > 1_000
    assert len(lines) + lost == said


def test_a_closed_stream_is_no_reason_to_fail(clock):
    stream = io.StringIO()
    handler = start_log(stream)
    stream.close()
    log.info("serving")
    handler.close()
    logging.getLogger().removeHandler(handler)
    assert stream.closed


def test_journald_learns_the_level(said, monkeypatch):
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    stream = io.StringIO()
    handler = start_log(stream)
    log.warning("print-in-doubt")
    handler.close()
    logging.getLogger().removeHandler(handler)
    assert stream.getvalue().startswith('<4>{"event": "print-in-doubt"')


def test_a_person_at_a_terminal_reads_words(clock, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    handler = start_log(stream)
    log.warning("self-test", extra={"part": "printer", "sentence": "plug it in"})
    handler.close()
    logging.getLogger().removeHandler(handler)
    text = stream.getvalue()
    assert "{" not in text
    assert "plug it in" in text
