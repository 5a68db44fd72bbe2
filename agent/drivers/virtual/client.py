"""Who stands beside a virtual printer: puts books in, pulls its plug, looks at the ink."""

from __future__ import annotations

import base64
import contextlib
import json
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from agent import model
from agent.clock import SystemClock, sleep
from agent.drivers.virtual import control
from agent.errors import LineUnavailable, NoAnswer, RequestRefused

START_SECONDS_MAX = 30.0
START_TRIES_MAX = 20
START_PAUSE_SECONDS = 0.1
ANSWER_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class PrinterState:
    """What can be seen on a virtual printer.

    ``version`` grows with every change, ``scene`` with those that are more than a moving figure.
    """

    version: int
    scene: int
    powered: bool
    place: str
    book: str | None
    cover_open: bool
    jammed: bool
    error: bool
    offline: bool
    waiting_for_book: bool
    printing: bool
    mode: str
    counter: int
    received_size: int
    stalled_size: int
    line_up: bool
    speed: float
    kind: str
    serial: str


@dataclass(frozen=True, slots=True)
class BookInk:
    """What a look at a book tells; a pass is one print's (start, in page mode, inked rows)."""

    number: str
    inked: bool
    inked_rows: int
    passes: tuple[tuple[float, bool, int], ...]
    sha256: str


class VirtualPrinterClient:
    """Talks to the virtual printer that runs in a directory; one thread at a time.

    Raises:
        LineUnavailable: none runs there, or it ended (from every method).
        RequestRefused: it cannot do that now (from every method).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._clock = SystemClock()
        self._rest = bytearray()
        try:
            self._connection: socket.socket = control.connect(directory)
        except OSError as error:
            raise self._gone() from error

    def close(self) -> None:
        """Ends the conversation; the printer goes on."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> Path:
        """The serial port that a station opens; a link that is made anew with every new line."""
        return self.directory / "port"

    def state(self) -> PrinterState:
        """What can be seen now."""
        return _state(self._ask("state")["state"])

    def insert(self, number: str) -> None:
        """Puts a book in; a number never seen is a new blank book."""
        self._ask("insert", number=number)

    def remove(self) -> str | None:
        """Takes the book out; its number, None where there was none."""
        number: str | None = self._ask("remove")["number"]
        return number

    def power_off(self, *, hang_up: bool = False) -> None:
        """Pulls the plug; with ``hang_up`` the line goes too, as on USB."""
        self._ask("power-off", hang_up=hang_up)

    def power_on(self) -> None:
        """Switches on, with empty memory; a line that went with the power comes back."""
        self._ask("power-on")

    def open_cover(self) -> None:
        """Opens the cover."""
        self._ask("cover-open")

    def close_cover(self) -> None:
        """Closes the cover."""
        self._ask("cover-close")

    def jam(self) -> None:
        """Jams the mechanics."""
        self._ask("jam")

    def clear_jam(self) -> None:
        """Takes away what jams; the error itself is the station's to clear."""
        self._ask("jam-clear")

    def hang_up(self, seconds: float = 0.0) -> None:
        """Unplugs the cable and plugs it in again after so many seconds."""
        self._ask("hang-up", seconds=seconds)

    def set_speed(self, factor: float) -> None:
        """So many times faster than the real printer."""
        self._ask("speed", factor=factor)

    def trip_after_rows(self, rows: int, *, hang_up: bool = False) -> None:
        """Pulls the plug once so many more rows are inked."""
        self._ask("trip", rows=rows, hang_up=hang_up)

    def trip_after_bytes(self, size: int, *, hang_up: bool = False) -> None:
        """Pulls the plug once so many more bytes have arrived."""
        self._ask("trip", size=size, hang_up=hang_up)

    def books(self) -> list[BookInk]:
        """All books that ever were in this printer, by number."""
        return [_book(facts) for facts in self._ask("books")["books"]]

    def book(self, number: str) -> BookInk:
        """A look at one book."""
        return _book(self._ask("book", number=number)["book"])

    def picture_png(self, number: str) -> bytes:
        """A book's page as PNG, marked SPECIMEN."""
        return base64.b64decode(self._ask("ink", number=number)["png"])

    def raster(self, number: str) -> model.Raster:
        """The ink of a book's page, dot for dot."""
        answer = self._ask("dots", number=number)
        rows = base64.b64decode(answer["rows"])
        return model.Raster(
            answer["width"], answer["height"], answer["dpi_x"], answer["dpi_y"], rows
        )

    def quit(self) -> None:
        """Ends the printer's process, and returns when it has let go of its directory."""
        self._ask("quit")
        with contextlib.suppress(OSError):
            while self._connection.recv(4096):
                pass

    def wait_for(
        self, condition: Callable[[PrinterState], bool], timeout_s: float = ANSWER_SECONDS_MAX
    ) -> PrinterState:
        """Waits until the printer shows what the condition asks.

        Raises:
            NoAnswer: not within the time.
        """
        deadline = self._clock.monotonic() + timeout_s
        state = self.state()
        while not condition(state):
            left = deadline - self._clock.monotonic()
            try:
                state = _state(self._ask("next-state", left, after=state.version)["state"])
            except NoAnswer:
                # The question stands unanswered on this connection: a new one starts clean.
                self._connection.close()
                self._rest.clear()
                self._connection = control.connect(self.directory)
                raise
        return state

    def watch_scene(self, after: int) -> None:
        """Asks to be told when the scene is past ``after``; then only ``seen_scene`` may follow."""
        self._send("next-state", after=after, scene=True)

    def fileno(self) -> int:
        """To wait for the answer to ``watch_scene`` beside other things."""
        return self._connection.fileno()

    def seen_scene(self) -> PrinterState:
        """The answer to ``watch_scene``."""
        return _state(self._receive(ANSWER_SECONDS_MAX)["state"])

    def _ask(
        self, command: str, timeout_s: float = ANSWER_SECONDS_MAX, **arguments: object
    ) -> dict[str, Any]:
        self._send(command, **arguments)
        return self._receive(timeout_s)

    def _send(self, command: str, **arguments: object) -> None:
        request = json.dumps({"command": command, **arguments}).encode("ascii") + b"\n"
        try:
            self._connection.sendall(request)
        except OSError as error:
            raise self._gone() from error

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._read_line(timeout_s)
        except OSError as error:
            raise self._gone() from error
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise RequestRefused(409, "not-allowed", answer["error"])
        return answer

    def _read_line(self, timeout_s: float) -> bytes:
        deadline = self._clock.monotonic() + timeout_s
        while (end := self._rest.find(b"\n")) < 0:
            left = max(deadline - self._clock.monotonic(), 0.0)
            if not select.select([self._connection], [], [], left)[0]:
                raise NoAnswer(f"the virtual printer in {self.directory} did not answer in time")
            data = self._connection.recv(1 << 20)
            if not data:
                raise self._gone()
            self._rest += data
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    def _gone(self) -> LineUnavailable:
        return LineUnavailable(f"no virtual printer runs in {self.directory}; start one")


def _state(answer: dict[str, Any]) -> PrinterState:
    return PrinterState(**{field.name: answer[field.name] for field in fields(PrinterState)})


def _book(facts: dict[str, Any]) -> BookInk:
    passes = tuple((one["started_at"], one["page_mode"], one["rows"]) for one in facts["passes"])
    return BookInk(facts["number"], facts["inked"], facts["inked_rows"], passes, facts["sha256"])


def spawn(
    directory: Path,
    *,
    kind: str = "page-slip",
    speed: float = 1.0,
    agent_socket: Path | None = None,
    printer: str = "main",
    presents: bool = False,
    **settings: object,
) -> VirtualPrinterClient:
    """The virtual printer of a directory, started where it does not run; it outlives the caller.

    Args:
        directory: made where it is missing.
        kind: ``page-slip`` or ``column-slip``.
        speed: how many times faster than a real printer.
        agent_socket: the station's HTTP socket; with it an operator moves the books.
        printer: this printer's name at that station.
        presents: the operator also presents the number of the next waiting job's book.
        settings: fields of ``PrinterMake``, e.g. ``counter_kept="durable"``.

    Raises:
        LineUnavailable: it did not start.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "agent.drivers.virtual.process", "--detach"]
    command += ["--directory", str(directory), "--kind", kind, "--speed", str(speed)]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    if agent_socket is not None:
        command += ["--agent-socket", str(agent_socket), "--printer", printer]
    if presents:
        command.append("--presents")
    for _ in range(START_TRIES_MAX):
        with contextlib.suppress(LineUnavailable):
            return _answering(directory)
        with (directory / "log").open("ab") as log:
            started = subprocess.run(  # noqa: S603 - this product's own module, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                timeout=START_SECONDS_MAX,
                check=False,
            )
        if started.returncode:
            # The lock is taken: by one that starts at the same time, or by one that is just ending.
            sleep(START_PAUSE_SECONDS)
    return _answering(directory)


def _answering(directory: Path) -> VirtualPrinterClient:
    client = VirtualPrinterClient(directory)
    try:
        client.state()
    except LineUnavailable:
        client.close()
        raise
    return client
