"""The virtual printer as a process: ``python -m agent.drivers.virtual.process --directory DIR``.

It outlives the station that started it, and ends by the command ``quit``, by SIGTERM, or when its
directory is removed. In the directory: ``port`` (a link to the line), ``control.sock``, ``pid``,
``lock``, ``books/`` and ``printer.json``.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import select
import signal
import socket
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.drivers.virtual import control
from agent.drivers.virtual.book import Book
from agent.drivers.virtual.line import Line
from agent.drivers.virtual.make import PrinterKind, PrinterMake, printer_make
from agent.drivers.virtual.model import BookPlace, VirtualPrinter
from agent.drivers.virtual.operator import start_operator
from agent.drivers.virtual.picture import picture_png
from agent.drivers.virtual.shelf import Shelf
from agent.errors import RequestRefused, StationBusy
from agent.privacy import keep_memory_private

OUTPUT_AT_ONCE_MAX = 256  # bytes of replies handed to the line; the rest stays in the printer
HOUSEKEEPING_SECONDS = 2.0  # how soon the end of the directory, or of a killed station, is seen
SAVE_SECONDS = 0.5  # how much printing a kill of this process may forget
WAIT_MILLISECONDS_MIN = 1
START_SECONDS_MAX = 20.0
_WITHOUT_FIGURES = {"counter": 0, "received_size": 0, "stalled_size": 0}  # they move all the time


@dataclasses.dataclass(slots=True)
class Caller:
    """One connection to the control socket."""

    connection: socket.socket
    received: bytearray = dataclasses.field(default_factory=bytearray)
    unsent: bytearray = dataclasses.field(default_factory=bytearray)
    awaits: str | None = None  # "version" or "scene": the number that it waits to grow
    after: int = -1


@dataclasses.dataclass(slots=True)
class Trip:
    """The power goes off by itself after so many more inked rows or received bytes."""

    rows: int | None
    size: int | None
    hang_up: bool


class VirtualPrinterProcess:
    """The model, its line, its books and its control socket in one loop.

    Args:
        directory: an existing directory for this printer alone.
        make: what kind of printer.
        speed: how many times faster than the make's own times.
    """

    def __init__(self, directory: Path, make: PrinterMake, *, speed: float) -> None:
        self._directory = directory
        self._inode = os.stat(directory).st_ino
        self._clock = SystemClock()
        self._own_make = make
        self._speed = speed
        self._shelf = Shelf(directory, width=make.width, height=make.height)
        kept = self._shelf.load_printer()
        now = self._clock.monotonic()
        self.printer = VirtualPrinter(
            _scaled(make, speed), nonvolatile=dict(kept.get("nonvolatile", {})), now=now
        )
        if kept.get("book"):
            self.printer.put_back(self._shelf.book(kept["book"]), BookPlace(kept["place"]))
        self._line: Line | None = Line(directory)
        self._line_back_at: float | None = None
        self._listener = control.listen(directory)
        self._callers: dict[int, Caller] = {}
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._watched_line: tuple[int, int] | None = None
        self._state: dict[str, Any] = {}
        self._version = 0
        self._scene = 0
        self._trip: Trip | None = None
        self._save_due: float | None = None
        self._ending = False
        self._commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "state": lambda _: {"state": self._describe()},
            "insert": self._insert,
            "remove": self._remove,
            "power-off": self._power_off,
            "power-on": self._power_on,
            "cover-open": lambda _: self._act(self.printer.open_cover),
            "cover-close": lambda _: self._act(self.printer.close_cover),
            "jam": lambda _: self._act(self.printer.jam),
            "jam-clear": lambda _: self._act(self.printer.clear_jam),
            "books": lambda _: {"books": [self._book_facts(n) for n in self._shelf.numbers()]},
            "book": lambda request: {"book": self._book_facts(_text(request, "number"))},
            "ink": self._ink,
            "dots": self._dots,
            "speed": self._set_speed,
            "hang-up": self._hang_up,
            "trip": self._set_trip,
            "quit": self._quit,
        }

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Serves until the end."""
        stop_reader, stop_writer = os.pipe()
        os.set_blocking(stop_writer, False)
        signal.set_wakeup_fd(stop_writer)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, lambda *_: None)
        self._poll.register(stop_reader, select.POLLIN)
        housekeeping_at = 0.0
        while not self._ending:
            now = self._clock.monotonic()
            if now >= housekeeping_at:
                housekeeping_at = now + HOUSEKEEPING_SECONDS
                if not self._housekeep():
                    break
            self._step(now)
            for fd, _ in self._poll.poll(self._timeout_ms(now, housekeeping_at)):
                if fd == stop_reader:
                    self._ending = True
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd in self._callers:
                    self._serve(self._callers[fd])
                elif self._line is not None and fd == self._line.fd:
                    self._line.fetch()
        self._end()

    def _timeout_ms(self, now: float, housekeeping_at: float) -> int:
        due = [housekeeping_at]
        due += [
            at
            for at in (self.printer.next_change_at(), self._line_back_at, self._save_due)
            if at is not None
        ]
        return max(int((min(due) - now) * 1000) + 1, WAIT_MILLISECONDS_MIN)

    def _step(self, now: float) -> None:
        """Time, line, files and watchers, once."""
        self._advance(now)
        if self._line is None and self._line_back_at is not None and now >= self._line_back_at:
            self._line_back_at = None
            self._line = Line(self._directory)
        if self._line is not None:
            self._exchange(self._line, now)
        self._save(now)
        self._tell_watchers()

    def _advance(self, now: float) -> None:
        trip = self._trip
        if trip is None or trip.rows is None:
            self.printer.advance(now)
            return
        while self._trip is trip:
            at = self.printer.next_change_at()
            before = self.printer.counter
            moment = now if at is None else min(at, now)
            self.printer.advance(moment)
            trip.rows -= self.printer.counter - before
            if trip.rows <= 0:
                # Not a moment later: the next row must not come out of the time this took.
                self._lose_power(moment, hang_up=trip.hang_up)
            elif at is None or at > now:
                return

    def _exchange(self, line: Line, now: float) -> None:
        waiting = line.waiting
        trip = self._trip
        if trip is not None and trip.size is not None:
            waiting = waiting[: trip.size]
        taken = self.printer.receive(waiting, now) if waiting else 0
        line.waiting = line.waiting[taken:]
        line.pace()
        if not line.sends:
            line.send(self.printer.take_output(OUTPUT_AT_ONCE_MAX))
        else:
            line.send()
        if trip is not None and trip.size is not None:
            trip.size -= taken
            if trip.size <= 0:
                self._lose_power(now, hang_up=trip.hang_up)
                return
        wanted = select.POLLIN | (select.POLLOUT if line.sends else 0)
        if self._watched_line != (line.fd, wanted):
            self._poll.register(line.fd, wanted)
            self._watched_line = (line.fd, wanted)

    def _housekeep(self) -> bool:
        """Whether there is still a directory to serve."""
        try:
            if os.stat(self._directory).st_ino != self._inode:
                return False
        except OSError:
            return False
        if self._line is not None:
            self._line.release()
        return True

    def _save(self, now: float) -> None:
        """Writes what changed: the counter at once, the ink now and then while it is laid."""
        printer = self.printer
        book = printer.book
        if book is not None:
            if not printer.printing:
                self._shelf.save(book, with_picture=True)
                self._save_due = None
            elif self._save_due is None:
                self._save_due = now + SAVE_SECONDS
            elif now >= self._save_due:
                self._shelf.save(book, with_picture=False)
                self._save_due = now + SAVE_SECONDS
        self._shelf.save_printer(
            {
                "nonvolatile": printer.nonvolatile,
                "book": None if book is None else book.number,
                "place": printer.place,
            }
        )

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            if self.printer.book is not None:
                self._shelf.save(self.printer.book, with_picture=False)
        with contextlib.suppress(OSError):
            for name in (control.SOCKET_NAME, "pid"):
                (self._directory / name).unlink(missing_ok=True)
        if self._line is not None:
            self._line.close()
        self._listener.close()
        for caller in list(self._callers.values()):
            caller.connection.close()

    # -- the control socket -----------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            connection.settimeout(0.0)
            self._callers[connection.fileno()] = Caller(connection)
            self._poll.register(connection, select.POLLIN)

    def _hang_up_caller(self, caller: Caller) -> None:
        fd = caller.connection.fileno()
        self._poll.unregister(fd)
        del self._callers[fd]
        caller.connection.close()

    def _serve(self, caller: Caller) -> None:
        try:
            data = caller.connection.recv(65536)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"" or len(caller.received) > control.LINE_SIZE_MAX:
            self._hang_up_caller(caller)
            return
        caller.received += data or b""
        self._step(self._clock.monotonic())
        while (end := caller.received.find(b"\n")) >= 0:
            line = bytes(caller.received[:end])
            del caller.received[: end + 1]
            answer = self._answer(caller, line)
            if answer is not None:
                caller.unsent += json.dumps(answer).encode("ascii") + b"\n"
        self._send(caller)

    def _send(self, caller: Caller) -> None:
        try:
            while caller.unsent:
                del caller.unsent[: caller.connection.send(caller.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up_caller(caller)
            return
        wanted = select.POLLIN | (select.POLLOUT if caller.unsent else 0)
        self._poll.modify(caller.connection, wanted)

    def _answer(self, caller: Caller, line: bytes) -> dict[str, Any] | None:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise RequestRefused(400, "malformed", "a request is a JSON object on one line")
            name = _text(request, "command")
            if name == "next-state":
                caller.awaits = "scene" if request.get("scene") else "version"
                caller.after = int(request.get("after", -1))
                self._tell_watchers()
                return None
            if name not in self._commands:
                known = ", ".join([*self._commands, "next-state"])
                raise RequestRefused(400, "malformed", f"no command {name!r}; there are {known}")
            return {"ok": True, **self._commands[name](request)}
        except RequestRefused as error:
            return {"ok": False, "error": error.detail}
        except (ValueError, TypeError) as error:
            return {"ok": False, "error": f"malformed request: {error}"}

    def _tell_watchers(self) -> None:
        """Answers those who wait for another state than the one they know."""
        watchers = [one for one in self._callers.values() if one.awaits is not None]
        if not watchers:
            return
        state = self._describe()
        for caller in watchers:
            if caller.awaits is not None and state[caller.awaits] > caller.after:
                caller.awaits = None
                caller.unsent += json.dumps({"ok": True, "state": state}).encode("ascii") + b"\n"
                self._send(caller)

    def _describe(self) -> dict[str, Any]:
        printer = self.printer
        state = {
            "powered": printer.powered,
            "place": printer.place,
            "book": None if printer.book is None else printer.book.number,
            "cover_open": printer.cover_is_open,
            "jammed": printer.jammed,
            "error": printer.error,
            "offline": printer.offline,
            "waiting_for_book": printer.waiting_for_book,
            "printing": printer.printing,
            "mode": printer.mode,
            "counter": printer.counter,
            "received_size": printer.received_size,
            "stalled_size": 0 if self._line is None else len(self._line.waiting),
            "line_up": self._line is not None,
            "speed": self._speed,
            "kind": printer.make.kind,
            "serial": printer.make.serial,
        }
        if state != self._state:
            scenes = [{**one, **_WITHOUT_FIGURES} for one in (state, self._state)]
            self._scene += scenes[0] != scenes[1]
            self._state = state
            self._version += 1
        return {"version": self._version, "scene": self._scene, **state}

    # -- commands ---------------------------------------------------------------------------------

    def _act(self, act: Callable[[float], object]) -> dict[str, Any]:
        now = self._clock.monotonic()
        self._advance(now)  # a trip of the power that is due comes first
        act(now)
        return {"state": self._describe()}

    def _insert(self, request: dict[str, Any]) -> dict[str, Any]:
        book = self._shelf.book(_text(request, "number"))
        return self._act(lambda now: self.printer.insert_book(book, now))

    def _remove(self, _: dict[str, Any]) -> dict[str, Any]:
        book = self.printer.remove_book(self._clock.monotonic())
        if book is not None:
            self._shelf.save(book, with_picture=True)
        self._save_due = None
        return {"number": None if book is None else book.number, "state": self._describe()}

    def _power_off(self, request: dict[str, Any]) -> dict[str, Any]:
        self._lose_power(self._clock.monotonic(), hang_up=bool(request.get("hang_up")))
        return {"state": self._describe()}

    def _lose_power(self, at: float, *, hang_up: bool) -> None:
        self._trip = None
        self.printer.power_off(at)
        if self._line is not None:
            self._line.forget_replies()
        if hang_up:
            self._drop_line()

    def _power_on(self, _: dict[str, Any]) -> dict[str, Any]:
        if self._line is None:
            self._line_back_at = self._clock.monotonic()
        return self._act(self.printer.power_on)

    def _drop_line(self) -> None:
        if self._line is not None:
            if self._watched_line is not None:
                self._poll.unregister(self._watched_line[0])
                self._watched_line = None
            self._line.close()
            self._line = None

    def _hang_up(self, request: dict[str, Any]) -> dict[str, Any]:
        seconds = float(request.get("seconds", 0.0))
        self._drop_line()
        self._line_back_at = self._clock.monotonic() + seconds
        return {"state": self._describe()}

    def _set_speed(self, request: dict[str, Any]) -> dict[str, Any]:
        factor = float(request["factor"]) if "factor" in request else 0.0
        if not 0 < factor <= 1e6:
            raise RequestRefused(400, "malformed", "factor is above 0 and at most 1000000")
        self._speed = factor
        self.printer.make = _scaled(self._own_make, factor)
        return {"state": self._describe()}

    def _set_trip(self, request: dict[str, Any]) -> dict[str, Any]:
        rows, size = request.get("rows"), request.get("size")
        if (rows is None) == (size is None) or int(rows or size or 0) < 1:
            raise RequestRefused(400, "malformed", "trip takes rows or size, at least 1")
        self._trip = Trip(rows, size, hang_up=bool(request.get("hang_up")))
        return {}

    def _quit(self, _: dict[str, Any]) -> dict[str, Any]:
        self._ending = True
        return {}

    def _known_book(self, request: dict[str, Any]) -> Book:
        number = _text(request, "number")
        if number not in self._shelf.numbers():
            raise RequestRefused(404, "unknown-book", f"no book {number} was ever in this printer")
        return self._shelf.book(number)

    def _book_facts(self, number: str) -> dict[str, Any]:
        book = self._known_book({"number": number})
        return {
            "number": number,
            "inked": book.inked(),
            "inked_rows": book.inked_rows(),
            "passes": [dataclasses.asdict(one) for one in book.passes],
            "sha256": hashlib.sha256(bytes(book.rows)).hexdigest(),
        }

    def _ink(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"png": base64.b64encode(picture_png(self._known_book(request))).decode("ascii")}

    def _dots(self, request: dict[str, Any]) -> dict[str, Any]:
        book = self._known_book(request)
        make = self.printer.make
        return {
            "width": book.width,
            "height": book.height,
            "dpi_x": make.dpi_x,
            "dpi_y": make.dpi_y,
            "rows": base64.b64encode(bytes(book.rows)).decode("ascii"),
        }


def _scaled(make: PrinterMake, speed: float) -> PrinterMake:
    return dataclasses.replace(
        make,
        bytes_per_second=make.bytes_per_second * speed,
        row_seconds=make.row_seconds / speed,
        feed_seconds=make.feed_seconds / speed,
        eject_seconds=make.eject_seconds / speed,
    )


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise RequestRefused(400, "malformed", f"{name} is missing or no text")
    return value


def make_from_settings(kind: str, settings: list[str]) -> PrinterMake:
    """The make that the command line names: ``--set counter_kept=durable``.

    Raises:
        ValueError: no such field, or a value that it cannot have.
    """
    hints = typing.get_type_hints(PrinterMake)
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in hints or name == "kind":
            raise ValueError(f"--set {setting}: takes NAME=VALUE with one of {', '.join(hints)}")
        changes[name] = hints[name](text)
    return printer_make(kind, **changes)


def lock_directory(directory: Path) -> int:
    """The lock that makes a directory one printer's; the descriptor keeps it.

    Raises:
        StationBusy: another virtual printer runs here.
    """
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise StationBusy(f"a virtual printer runs in {directory} already") from None
    return fd


def _detach() -> int | None:
    """Leaves the caller's session; returns, in the new process, the pipe on which to say ready.

    The old process waits for that word and ends: nobody is left with a child to wait for.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        ready, _, _ = select.select([reader], [], [], START_SECONDS_MAX)
        os._exit(0 if ready and os.read(reader, 1) == b"+" else 1)
    os.close(reader)
    os.setsid()
    return writer


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 at a proper end, 1 where the directory is taken."""
    parser = argparse.ArgumentParser(prog="python -m agent.drivers.virtual.process")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--kind", choices=[kind.value for kind in PrinterKind], default="page-slip")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--detach", action="store_true", help="go on in a session of its own")
    parser.add_argument("--agent-socket", type=Path, help="play the operator of this station too")
    parser.add_argument("--printer", default="main", help="the printer's name at that station")
    parser.add_argument("--presents", action="store_true", help="the operator also scans books")
    options = parser.parse_args(arguments)
    keep_memory_private()
    try:
        make = make_from_settings(options.kind, options.settings)
    except ValueError as error:
        parser.error(str(error))
    directory: Path = options.directory.resolve()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ready = _detach() if options.detach else None
    try:
        lock_directory(directory)
        process = VirtualPrinterProcess(directory, make, speed=options.speed)
    except StationBusy as error:
        sys.stderr.write(f"{error}\n")
        return 1
    (directory / "pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    if ready is not None:
        os.write(ready, b"+")
        os.close(ready)
    if options.agent_socket is not None:
        start_operator(directory, options.agent_socket, options.printer, presents=options.presents)
    process.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
