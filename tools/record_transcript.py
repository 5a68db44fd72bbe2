"""Stands between an agent and a printer and writes down what they say: python -m tools.record_transcript PORT FOLDER.

The agent is given ``FOLDER/port`` as the printer's port with flow = "none"; the talk lies in ``FOLDER/transcript.txt``.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from agent.drivers.transport import FlowControl, SerialSettings
from agent.drivers.transport_serial import open_serial
from agent.drivers.virtual.line import Line
from agent.errors import PrinterFault
from tools import transcript

LISTEN_S = 0.01
WRITE_S = 30.0


def record(
    settings: SerialSettings, folder: Path, talk: TextIO, stopped: Callable[[], bool]
) -> None:
    """Passes on every byte, and writes it down, until it is stopped.

    Raises:
        PrinterFault: the printer's line is gone, or cannot be opened.
    """
    with (
        contextlib.closing(open_serial(settings)) as device,
        contextlib.closing(Line(folder)) as line,
    ):
        while not stopped():
            said = device.read(LISTEN_S)
            if said:
                _tell(talk, transcript.PRINTER, said)
                line.send(said)
            line.fetch()
            asked, line.waiting = line.waiting, b""
            if asked:
                _tell(talk, transcript.HOST, asked)
                device.write(asked, WRITE_S)


def _tell(talk: TextIO, speaker: str, data: bytes) -> None:
    talk.writelines(f"{line.rstrip()}\n" for line in transcript.lines(speaker, data))
    talk.flush()


def main() -> int:
    """The command line; 0 when it was stopped, 1 when the printer's line is gone."""
    parser = argparse.ArgumentParser(prog="python -m tools.record_transcript")
    parser.add_argument("port", help="the printer's port")
    parser.add_argument("folder", type=Path, help="for the agent's port and the transcript")
    parser.add_argument("--baudrate", type=int, default=115_200)
    parser.add_argument("--flow", choices=[flow.value for flow in FlowControl], default="rtscts")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = SerialSettings(options.port, options.baudrate, FlowControl(options.flow))
    options.folder.mkdir(exist_ok=True)
    try:
        with (options.folder / "transcript.txt").open("a", encoding="utf-8") as talk:
            record(settings, options.folder, talk, stop.is_set)
    except PrinterFault as fault:
        parser.exit(1, f"{fault}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
