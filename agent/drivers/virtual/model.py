"""The virtual book printer itself: bytes and time in, bytes and ink out, no I/O.

The process behind the pty and the power-cut simulator both run this. It is faithful to the dangers
of real printers (PRINTERS.md section 9) rather than convenient:

- real-time commands act on reception, also in the middle of image data;
- a printer that lost its memory takes the rest of a page as text and images and prints them;
- a form feed without a book waits, and prints on whatever book comes;
- ``DLE ENQ 1`` ejects the book and goes on with the rest of the page on the next one;
- a book pulled out in the middle of a page makes the rest wait for the next one;
- replies that are not taken are held, and gone with the power.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.drivers.virtual.book import Book
from agent.drivers.virtual.decoder import Command, PayloadKind, decode
from agent.drivers.virtual.make import CompletionMoment, FlowControl, PrinterMake
from agent.drivers.virtual.mechanics import BookPlace, Mechanics, Step, StepKind
from agent.drivers.virtual.print_buffer import PrintBuffer
from agent.drivers.virtual.real_time import CLEAR_COMMAND, RealTime, RealTimeEar
from agent.drivers.virtual.replies import ReplyKind, ReplyQueue
from agent.drivers.virtual.status import Status, is_watched_change
from agent.errors import RequestRefused

__all__ = ["Book", "BookPlace", "Mode", "VirtualPrinter"]

CLEAR_REPLY = bytes.fromhex("372500")
COUNTER_RESETTABLE = 10  # serial impact head, PRINTERS.md section 1.7
COUNTER_CUMULATIVE = 138  # the same, never reset
BYTES_AT_ONCE_MAX = 256  # bytes of an image that one step of time takes
RUN_AHEAD_SECONDS = 1e-9  # below the resolution of any clock here: times are sums of floats

# Commands that a printer carries out while it still prints what came before them. All others wait
# until the mechanics stand still.
_BESIDE_PRINTING = {
    *(b"\x1dI", b"\x1dr", b"\x1da", b"\x1dg", b"\x1d(H", b"\x1bu", b"\0"),
    *(b"\x10\x04", b"\x10\x05", b"\x10\x14"),  # carried out on reception
}

# One object for one condition: it is looked at after every byte.
_status_of = functools.cache(Status)


class Mode(enum.StrEnum):
    """ESC L and ESC S."""

    STANDARD = "standard"
    PAGE = "page"


@dataclass(slots=True)
class Payload:
    """A command whose data are still arriving; ``unit`` bytes are handed over at a time."""

    command: Command
    remaining: int
    unit: int
    units_done: int = 0
    collected: bytearray = field(default_factory=bytearray)


class VirtualPrinter:
    """One printer with power on, no book in.

    Args:
        make: what kind of printer it is.
        nonvolatile: what survives the power (the counter); the caller keeps it.
        now: the time of power-on, seconds that only grow.
    """

    def __init__(
        self, make: PrinterMake, *, nonvolatile: dict[str, int] | None = None, now: float = 0.0
    ) -> None:
        self.nonvolatile: dict[str, int] = {} if nonvolatile is None else nonvolatile
        self._make = make
        self._mechanics = Mechanics(make, self.nonvolatile)
        self.powered = False
        self.cover_is_open = False
        self.jammed = False
        self._now = now
        self._lose_memory()
        self.power_on(now)

    # -- what people and time do to it ------------------------------------------------------------

    def power_on(self, now: float) -> None:
        """Starts with empty memory and automatic status as its switches say (usually off)."""
        self.advance(now)
        if self.powered:
            return
        self._lose_memory()
        self.powered = True
        self._accepts_at = now + self.make.start_seconds
        self._worked_until = self._accepts_at
        self._error = self.jammed
        self._set_automatic_status(self.make.automatic_status_mask)

    def power_off(self, now: float) -> None:
        """Everything in memory is gone: buffers, modes, settings, replies not sent. Ink stays."""
        self.advance(now)
        self.powered = False
        self._lose_memory()

    def insert_book(self, book: Book, now: float) -> None:
        """A person puts a book in.

        Raises:
            RequestRefused: there is a book already.
        """
        self.advance(now)
        if self.book is not None:
            raise RequestRefused(
                409, "not-allowed", f"book {self.book.number} is in the printer; take it out first"
            )
        self._mechanics.insert(book)
        self._changed(now)

    def put_back(self, book: Book, place: BookPlace) -> None:
        """Restores where a book lay when this printer's own process ended."""
        self._mechanics.insert(book)
        self._mechanics.place = place
        self._told = self._status()

    def remove_book(self, now: float) -> Book | None:
        """A person takes the book out, whatever the printer is doing; None where there is none."""
        self.advance(now)
        book = self._mechanics.remove()
        self._changed(now)
        return book

    def open_cover(self, now: float) -> None:
        """Offline; in the middle of a print it is an error that must be cleared."""
        self.advance(now)
        in_the_middle = self.printing and not self.waiting_for_book
        self.cover_is_open = True
        self._trouble(now, is_error=in_the_middle)

    def close_cover(self, now: float) -> None:
        """Online again, unless there is an error to clear."""
        self.advance(now)
        self.cover_is_open = False
        self._changed(now)

    def jam(self, now: float) -> None:
        """The mechanics are stuck: an error until its cause is gone and it is cleared."""
        self.advance(now)
        self.jammed = True
        self._trouble(now, is_error=True)

    def clear_jam(self, now: float) -> None:
        """The cause of a jam is gone; the error itself waits to be cleared."""
        self.advance(now)
        self.jammed = False
        self._changed(now)

    def receive(self, data: bytes, now: float) -> int:
        """Bytes from the line.

        Returns:
            How many were taken; the rest waits in the line and is offered again.
        """
        self.advance(now)
        if not self.powered or now < self._accepts_at:
            return 0
        taken = 0
        while taken < len(data):
            room = self.make.receive_buffer_size - len(self._received)
            if room > 0:
                taken += self._take(data[taken : taken + room], now)
                self._flow_changed()
                self._run(now)
                continue
            # Epson: real-time commands are heard although the receive buffer is full.
            size = self._ear.size_at_head(data[taken : taken + len(CLEAR_COMMAND)])
            if size == 0:
                break
            for byte in data[taken : taken + size]:
                self._hear(byte, now)
            taken += size
        return taken

    def advance(self, now: float) -> None:
        """Lets time pass: commands are taken from the buffer, rows are printed."""
        self._now = max(self._now, now)
        self._run(self._now)

    def next_change_at(self) -> float | None:
        """When something happens next by itself; None while it waits for bytes or people."""
        if not self.powered:
            return None
        due, command_due = self._mechanics.due, self._command_due()
        if due is None or (command_due is not None and command_due < due):
            due = command_due
        if self._now < self._accepts_at and (due is None or self._accepts_at < due):
            due = self._accepts_at
        return due

    def take_output(self, limit: int | None = None) -> bytes:
        """Whole replies that are due, oldest first, until the limit's size is reached."""
        return self._replies.take(limit)

    # -- what can be seen on it -------------------------------------------------------------------

    @property
    def make(self) -> PrinterMake:
        """What kind of printer it is; its times may be changed while it works."""
        return self._make

    @make.setter
    def make(self, make: PrinterMake) -> None:
        self._make = make
        self._mechanics.make = make

    @property
    def book(self) -> Book | None:
        """The book in it, or in its mouth."""
        return self._mechanics.book

    @property
    def place(self) -> BookPlace:
        """Where the book is."""
        return self._mechanics.place

    @property
    def offline(self) -> bool:
        """Cover open, jammed, or an error that was not cleared."""
        return self.cover_is_open or self.jammed or self._error

    @property
    def error(self) -> bool:
        """An error waits to be cleared."""
        return self._error

    @property
    def waiting_for_book(self) -> bool:
        """It has something to print or eject, and no book."""
        return self._mechanics.wants_book and not self.offline

    @property
    def printing(self) -> bool:
        """The mechanics are at work or wait to go on."""
        return self._mechanics.busy

    @property
    def mode(self) -> Mode:
        """Standard or page mode."""
        return Mode.STANDARD if self._buffer.page is None else Mode.PAGE

    @property
    def counter(self) -> int:
        """Inked rows as ``GS g 2`` 138 tells them now."""
        return self._mechanics.counter

    @property
    def received_size(self) -> int:
        """Bytes that wait in the receive buffer."""
        return len(self._received)

    # -- memory -----------------------------------------------------------------------------------

    def _lose_memory(self) -> None:
        self._received = bytearray()
        self._ear = RealTimeEar()
        self._replies = ReplyQueue(self.make.transmit_buffer_size)
        self._buffer = PrintBuffer(self.make)
        self._payload: Payload | None = None
        self._process_id: bytes | None = None
        self._enabled = True
        self._worked_until = self._now
        self._accepts_at = self._now
        self._error = False
        self._stopped_host = False
        self._status_mask = 0
        self._offline_response = 0
        self._mechanics.lose_memory(self._now)
        self._told = self._status()

    def _clear_buffers(self) -> None:
        """DLE DC4 fn 8, DLE ENQ 2 and 3: what was received or is half printed is thrown away."""
        self._received.clear()
        self._payload = None
        self._buffer.clear()
        self._mechanics.clear()
        self._process_id = None
        self._flow_changed()

    # -- reception --------------------------------------------------------------------------------

    def _take(self, data: bytes, now: float) -> int:
        """Puts bytes into the receive buffer, one at a time within a real-time command."""
        if not self._received:
            self._worked_until = max(self._worked_until, now)
        if not self._ear.in_the_middle:
            start = data.find(0x10)
            size = len(data) if start < 0 else start
            if size:
                self._received += data[:size]
                return size
        # The byte is in the buffer before the command that it ends is carried out, so that a
        # clear removes its own bytes too.
        self._received += data[:1]
        self._hear(data[0], now)
        return 1

    def _hear(self, byte: int, now: float) -> None:
        command = self._ear.hear(byte)
        if command is None:
            return
        self._run(now)
        match command[1]:
            case RealTime.STATUS:
                self._replies.add(self._status().real_time(command[2]))
            case RealTime.REQUEST:
                self._real_time_request(command[2], now)
            case _:
                self._real_time_clear(now)
        self._changed(now)

    def _real_time_clear(self, now: float) -> None:
        if self.make.page_language:
            self._clear_buffers()
            self._recover(now)
            self._replies.add(CLEAR_REPLY, ReplyKind.CLEARED)

    def _real_time_request(self, request: int, now: float) -> None:
        if request == 3:
            if self.waiting_for_book:
                self._clear_buffers()
        elif request in (1, 2) and self._error and not self.cover_is_open and not self.jammed:
            if request == 2:
                self._clear_buffers()
            # PRINTERS.md section 1.8: both put the slip out; after 1 the rest of the page is still
            # to be printed and goes on the next book.
            self._mechanics.put_out()
            self._recover(now)

    def _recover(self, now: float) -> None:
        if not self.cover_is_open and not self.jammed:
            self._error = False
            self._worked_until = max(self._worked_until, now)

    # -- status -----------------------------------------------------------------------------------

    def _status(self) -> Status:
        return _status_of(
            self.place, self.cover_is_open, self.jammed, self._error, self.waiting_for_book
        )

    def _tell_status(self) -> None:
        """Automatic status and offline response, where something changed that they watch."""
        before, status = self._told, self._status()
        if status is before:
            return
        self._told = status
        if is_watched_change(before, status, self._status_mask):
            self._replies.add(status.automatic())
        if status.offline and not before.offline and self._offline_response:
            response = status.offline_response(with_cause=self._offline_response == 2)
            self._replies.add(response, ReplyKind.OFFLINE)

    def _set_automatic_status(self, mask: int) -> None:
        self._status_mask = mask
        self._told = self._status()
        if mask:
            self._replies.add(self._told.automatic())

    def _flow_changed(self) -> None:
        if self.make.flow is not FlowControl.XONXOFF:
            return
        fill = len(self._received) / self.make.receive_buffer_size
        if not self._stopped_host and fill > 7 / 8:
            self._stopped_host = True
            self._replies.add(b"\x13")
        elif self._stopped_host and fill < 1 / 4:
            self._stopped_host = False
            self._replies.add(b"\x11")

    def _changed(self, now: float) -> None:
        """After anything that may have changed a status or let the work go on."""
        if self.powered:
            self._mechanics.ready(now)
            self._tell_status()
            self._run(now)

    def _trouble(self, now: float, *, is_error: bool) -> None:
        if self.powered and is_error:
            self._error = True
        self._mechanics.stop()
        self._changed(now)

    # -- the two workers: commands and mechanics --------------------------------------------------

    def _run(self, now: float) -> None:
        """Carries out, in the order of time, all commands and movements that are due."""
        latest = now + RUN_AHEAD_SECONDS
        while self.powered:
            if not self.offline:
                self._mechanics.start()
                self._tell_status()
            command_due = self._command_due()
            step_due = self._mechanics.due
            step_first = command_due is None or (step_due is not None and step_due <= command_due)
            if step_due is not None and step_due <= latest and step_first:
                self._finish_step(step_due)
                continue
            if command_due is None:
                self._worked_until = max(self._worked_until, now)
                return
            if command_due > latest:
                return
            self._work(command_due)
            self._flow_changed()

    def _finish_step(self, at: float) -> None:
        done = self._mechanics.finish()
        if done is StepKind.PRINTED:
            self._complete(CompletionMoment.PRINTED)
        if done is StepKind.EJECT:
            self._complete(CompletionMoment.EJECTED)
        self._tell_status()
        if not self._mechanics.busy:
            self._complete(self.make.completion_moment)
            self._worked_until = max(self._worked_until, at)

    def _complete(self, moment: CompletionMoment) -> None:
        """A process ID that was saved while its page was being printed falls due."""
        if self._process_id is not None and moment is self.make.completion_moment:
            self._replies.add(b"\x37\x22" + self._process_id + b"\0", ReplyKind.PROCESS_ID)
            self._process_id = None

    def _command_due(self) -> float | None:
        """When the next piece of the receive buffer has been worked; None while it must wait."""
        if not self._received or self.offline or self.waiting_for_book:
            return None
        if self._payload is not None:
            opcode, size = self._payload.command.opcode, self._payload_piece(self._payload)
        else:
            command = decode(self._received)
            if command is None:
                return None
            opcode, size = command.opcode, len(command.head)
        if self._mechanics.busy and opcode not in _BESIDE_PRINTING:
            return None
        return self._worked_until + size / self.make.bytes_per_second

    def _payload_piece(self, payload: Payload) -> int:
        to_unit_end = payload.unit - len(payload.collected)
        return min(payload.remaining, to_unit_end, len(self._received), BYTES_AT_ONCE_MAX)

    def _work(self, at: float) -> None:
        self._worked_until = at
        if self._payload is not None:
            self._work_payload(self._payload, at)
            return
        command = decode(self._received)
        if command is None:
            return
        del self._received[: len(command.head)]
        if command.payload is not PayloadKind.NONE:
            if command.payload_size:
                self._payload = Payload(command, command.payload_size, _payload_unit(command))
        elif command.opcode == b"\x1b=":
            self._enabled = bool(command.head[2] & 1)
        elif self._enabled:
            self._execute(command, at)

    def _work_payload(self, payload: Payload, at: float) -> None:
        size = self._payload_piece(payload)
        payload.collected += self._received[:size]
        del self._received[:size]
        payload.remaining -= size
        if len(payload.collected) < payload.unit and payload.remaining:
            return
        unit = bytes(payload.collected)
        payload.collected.clear()
        if payload.remaining == 0:
            self._payload = None
        if self._enabled:
            self._execute_payload(payload.command, unit, payload.units_done, at)
        payload.units_done += 1

    # -- commands ---------------------------------------------------------------------------------

    def _execute(self, command: Command, at: float) -> None:
        match command.opcode:
            case b"\x0c":
                in_page_mode = self._buffer.page is not None
                self._print(self._buffer.form_feed(), at, page_mode=in_page_mode)
            case b"\x1b\x0c":
                self._print(self._buffer.page_copy(), at, page_mode=True)
            case b"\x1b@":
                self._buffer.initialize()
            case b"\x1bv":
                self._replies.add(self._status().paper())
            case b"\x1bu":
                self._replies.add(b"\0")
            case b"\x1da":
                self._set_automatic_status(command.head[2])
            case b"\x1dI":
                self._identify(command.head[2])
            case b"\x1dr":
                self._queued_status(command.head[2])
            case b"\x1dg":
                self._maintenance_counter(command)
            case opcode if opcode[0] >= 0x20:
                self._print(self._buffer.character(opcode[0]), at)
            case _:
                self._print(self._buffer.execute(command), at)

    def _execute_payload(self, command: Command, unit: bytes, index: int, at: float) -> None:
        match command.payload:
            case PayloadKind.RASTER if self.make.page_language and command.head[3] in (0, 48):
                self._print(self._buffer.raster_row(command, unit, index), at)
            case PayloadKind.COLUMN:
                self._print(self._buffer.columns(command, unit), at)
            case PayloadKind.FUNCTION if command.opcode == b"\x1d(H" and self.make.page_language:
                self._request_response(unit)

    def _print(self, steps: Iterable[Step], at: float, *, page_mode: bool = False) -> None:
        steps = list(steps)
        if steps:
            self._mechanics.add(steps, at, page_mode=page_mode)

    def _identify(self, number: int) -> None:
        """GS I; only 1 to 3 on a printer like the TM-U295."""
        make = self.make
        numbers = {1: make.model_id, 2: 0x00, 3: 0x01, 49: make.model_id, 50: 0x00, 51: 0x01}
        texts = {
            65: make.firmware,
            66: make.maker,
            67: make.model_name,
            68: make.serial,
            69: "ENGLISH",
        }
        if number in numbers:
            self._replies.add(bytes([numbers[number]]))
        elif number in texts and make.page_language:
            self._replies.add(b"\x5f" + texts[number].encode("ascii") + b"\0")

    def _queued_status(self, number: int) -> None:
        """GS r: paper sensor, drawer, printable lines on the slip; there is no ink sensor."""
        match number:
            case 1 | 49:
                self._replies.add(self._status().paper())
            case 2 | 50:
                self._replies.add(b"\0")
            case 3 | 51:
                self._replies.add(bytes([6 if self.place is BookPlace.IN else 0]))
            case _:
                pass

    def _maintenance_counter(self, command: Command) -> None:
        """GS g 2 and GS g 0."""
        if not self.make.page_language:
            return
        number = command.word(4)
        values = {
            COUNTER_CUMULATIVE: self._mechanics.counter,
            COUNTER_RESETTABLE: self._mechanics.counter_since_reset,
        }
        if command.head[2] in (2, 50) and number in values:
            self._replies.add(b"\x5f" + str(values[number]).encode("ascii") + b"\0")
        elif command.head[2] in (0, 48) and number == COUNTER_RESETTABLE:
            self._mechanics.reset_counter()

    def _request_response(self, parameters: bytes) -> None:
        """GS ( H: fn 48 process ID response, fn 49 offline response."""
        if parameters[:2] == b"\x30\x30" and len(parameters) == 6:
            process_id = parameters[2:]
            if all(0x20 <= byte <= 0x7E for byte in process_id):
                self._process_id = process_id
                if not self._related_data_is_printing():
                    self._complete(self.make.completion_moment)
        elif parameters[:2] == b"\x31\x30" and len(parameters) == 3:
            self._offline_response = parameters[2] % 48

    def _related_data_is_printing(self) -> bool:
        if self.make.completion_moment is CompletionMoment.EJECTED:
            return self._mechanics.busy
        return self._mechanics.inking


def _payload_unit(command: Command) -> int:
    match command.payload:
        case PayloadKind.RASTER:
            return command.word(4)
        case PayloadKind.SKIP:
            return BYTES_AT_ONCE_MAX
        case _:
            return command.payload_size
