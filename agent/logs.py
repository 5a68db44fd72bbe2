"""The log: events with stable names and known fields, JSON lines for a machine, readable on a terminal.

Any module logs with ``logging``: the message is the event's name, ``extra`` its fields. Here it is decided what leaves
the process: no field that is not known, no text of a library or of an error, so that no holder data can get out; and
no more than a journal can take. Nobody ever waits for the log: a pipe that nobody reads must not stop a printer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from typing import Any, TextIO

import structlog

from agent.clock import SystemClock
from agent.privacy import place_of

# What an event may tell. Ids and numbers of jobs, books and receipts are no holder data; sentences are our own words.
FIELDS = (
    *("part", "printer", "reader", "job", "seq", "state", "reasons"),
    *("condition", "problem", "count", "version", "sentence"),
)
LINES_WAITING_MAX = 1_000
EVENTS_A_MINUTE_MAX = 100  # of one name; a thousand accepted messages are told by their receipts
FLUSH_TIMEOUT_S = 2.0

# sd-daemon(3): how journald learns a line's level.
_JOURNALD_LEVELS = {"info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}


class _Limit:
    """How many events of one name may still be told."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[int, int]] = {}

    def suppressed(self, name: str, minute: int) -> int | None:
        """None where this one is one too many; else how many were suppressed in the window before."""
        begun, count = self._windows.get(name, (minute, 0))
        if begun != minute:
            self._windows[name] = (minute, 1)
            return max(count - EVENTS_A_MINUTE_MAX, 0)
        self._windows[name] = (begun, count + 1)
        return 0 if count < EVENTS_A_MINUTE_MAX else None


class _Handler(logging.Handler):
    """Takes records of any thread, and has them written by one of its own."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_WAITING_MAX)
        self._limit = _Limit()
        self._lost = 0
        self._clock = SystemClock()
        self._levels = _JOURNALD_LEVELS if "JOURNAL_STREAM" in os.environ else {}
        if stream.isatty():
            time = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
            render: structlog.typing.Processor = structlog.dev.ConsoleRenderer(
                sort_keys=False, pad_level=False, pad_event_to=20, repr_native_str=False
            )
        else:
            time = structlog.processors.TimeStamper(fmt="iso", utc=True)
            render = structlog.processors.JSONRenderer()
        self._processors = (structlog.processors.add_log_level, time, render)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.partition(".")[0] == "agent"
        event = record.getMessage() if ours else "library"
        said = {name: getattr(record, name, None) for name in FIELDS}
        fields = {name: value for name, value in said.items() if value is not None}
        if not ours:
            fields["part"] = record.name
        if record.exc_info:
            fields["sentence"] = place_of(record.exc_info[1])
        suppressed = self._limit.suppressed(event, int(self._clock.monotonic() // 60))
        if suppressed is None:
            return
        if suppressed:
            fields["suppressed"] = suppressed
        if self._lost:
            fields["lost"] = self._lost
        try:
            self._lines.put_nowait(self._line(record.levelname.lower(), event, fields))
            self._lost = 0
        except queue.Full:
            self._lost += 1

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> str:
        line: Any = {"event": event, **fields}
        for processor in self._processors:
            line = processor(None, level, line)
        return f"{self._levels.get(level, '')}{line}\n"

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(line)
                self._stream.flush()

    def close(self) -> None:
        """Writes what waits, as far as somebody reads it."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=FLUSH_TIMEOUT_S)
            self._thread.join(FLUSH_TIMEOUT_S)
        super().close()


def start_log(stream: TextIO) -> logging.Handler:
    """From now on events go to this stream; gives the handler, whose ``close`` writes what waits."""
    handler = _Handler(stream)
    logging.getLogger().addHandler(handler)
    logging.getLogger("agent").setLevel(logging.INFO)
    return handler
