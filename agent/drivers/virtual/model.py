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
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.drivers.virtual.book import Book, InkPass
from agent.drivers.virtual.decoder import Command, PayloadKind, decode
from agent.drivers.virtual.glyph import GLYPH_WIDTH, glyph
from agent.drivers.virtual.make import CompletionMoment, CounterKept, FlowControl, PrinterMake
from agent.drivers.virtual.page_memory import PageMemory
from agent.errors import RequestRefused

__all__ = ["Book", "BookPlace", "VirtualPrinter"]

CLEAR_COMMAND = bytes.fromhex("10140801031401060208")
CLEAR_REPLY = bytes.fromhex("372500")
COUNTER_KEY = "inked_rows"
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

# Statuses that GS a n watches, by the byte of the block that shows them (PRINTERS.md section 1.4).
_WATCHED = {
    0x01: (0x04, 0, 0, 0),  # drawer
    0x02: (0x28, 0, 0, 0),  # online, cover
    0x04: (0, 0x6C, 0, 0),  # error
    0x20: (0, 0, 0x60, 0x03),  # slip
}


class BookPlace(enum.StrEnum):
    """Where the book is."""

    NONE = "none"
    IN = "in"  # under the head
    EJECTED = "ejected"  # put out, lies in the mouth until it is taken


class Mode(enum.StrEnum):
    """ESC L and ESC S."""

    STANDARD = "standard"
    PAGE = "page"


class StepKind(enum.Enum):
    """What the mechanics do next."""

    ROW = enum.auto()
    FEED = enum.auto()
    PRINTED = enum.auto()  # the last row is done: completion replies fall due
    EJECT = enum.auto()


@dataclass(slots=True)
class Step:
    """One movement; ``amount`` is the dots of a row or the number of rows to feed."""

    kind: StepKind
    amount: int = 0


class ReplyKind(enum.IntEnum):
    """Replies of which only the newest is kept, in order of priority; OTHER are all kept."""

    PROCESS_ID = 1
    OFFLINE = 2
    CLEARED = 3
    OTHER = 9


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
        self.make = make
        self.nonvolatile: dict[str, int] = {} if nonvolatile is None else nonvolatile
        self.book: Book | None = None
        self.place = BookPlace.NONE
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
        self._status_mask = self.make.automatic_status_mask
        self._status_changed(announce=True)

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
        self.book = book
        self.place = BookPlace.IN
        self._start_of_book()
        self._changed(now)

    def remove_book(self, now: float) -> Book | None:
        """A person takes the book out, whatever the printer is doing; None where there is none."""
        self.advance(now)
        book, self.book = self.book, None
        self.place = BookPlace.NONE
        self._stop_step()
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
            size = self._real_time_at_head(data[taken : taken + len(CLEAR_COMMAND)])
            if size == 0:
                break
            self._hear(data[taken : taken + size], now)
            taken += size
            self._run(now)
        return taken

    def advance(self, now: float) -> None:
        """Lets time pass: commands are taken from the buffer, rows are printed."""
        if now < self._now:
            now = self._now
        if self.powered:
            self._run(now)
        self._now = now

    def next_change_at(self) -> float | None:
        """When something happens next by itself; None while it waits for bytes or people."""
        if not self.powered:
            return None
        due = [at for at in (self._step_due, self._command_due()) if at is not None]
        if self._now < self._accepts_at:
            due.append(self._accepts_at)
        return min(due, default=None)

    def take_output(self, limit: int | None = None) -> bytes:
        """Replies that are due, oldest first; of the limit's size at most a whole reply more."""
        slots = [index for index, (kind, _) in enumerate(self._replies) if kind < ReplyKind.OTHER]
        ranked = sorted((self._replies[index] for index in slots), key=lambda reply: reply[0])
        for index, reply in zip(slots, ranked, strict=True):
            self._replies[index] = reply
        output = bytearray()
        while self._replies and (limit is None or len(output) < limit):
            output += self._replies.pop(0)[1]
        return bytes(output)

    # -- what can be seen on it -------------------------------------------------------------------

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
        return bool(self._plan) and self.place is not BookPlace.IN and not self.offline

    @property
    def printing(self) -> bool:
        """The mechanics are at work or wait to go on."""
        return bool(self._plan)

    @property
    def mode(self) -> Mode:
        """Standard or page mode."""
        return Mode.STANDARD if self._page is None else Mode.PAGE

    @property
    def counter(self) -> int:
        """Inked rows as ``GS g 2`` 138 tells them now."""
        return self._counter

    @property
    def received_size(self) -> int:
        """Bytes that wait in the receive buffer."""
        return len(self._received)

    # -- memory -----------------------------------------------------------------------------------

    def _lose_memory(self) -> None:
        self._received = bytearray()
        self._real_time = bytearray()
        self._replies: list[tuple[ReplyKind, bytes]] = []
        self._payload: Payload | None = None
        self._page: PageMemory | None = None
        self._plan: deque[Step] = deque()
        self._plan_is_page = False
        self._step_due: float | None = None
        self._mechanics_ready_at = self._now
        self._counted_ahead = False
        self._process_id: bytes | None = None
        self._start_of_book()
        self._worked_until = self._now
        self._accepts_at = self._now
        self._error = False
        self._stopped = False
        self._status_mask = 0
        self._status_told = self._status()
        self._offline_told = False
        self._offline_response = 0
        kept = self.make.counter_kept is not CounterKept.LOST
        self._counter = self.nonvolatile.get(COUNTER_KEY, 0) if kept else 0
        self._counter_reset_at = self._counter
        self._initialize()

    def _start_of_book(self) -> None:
        self._head_row = 0
        self._pass: InkPass | None = None

    def _initialize(self) -> None:
        """ESC @: print buffer and modes; automatic status and the offline response stay set."""
        self._line: list[int] = []
        self._line_width = 0
        self._leave_page_mode()
        self._enabled = True
        self._unit_x = self.make.dpi_x
        self._unit_y = self.make.dpi_y
        self._line_height = max(self.make.dpi_y // 6, 1)

    def _leave_page_mode(self) -> None:
        self._page = None

    def _clear_buffers(self) -> None:
        """DLE DC4 fn 8, DLE ENQ 2 and 3: what was received or is half printed is thrown away."""
        self._received.clear()
        self._payload = None
        self._line = []
        self._line_width = 0
        self._leave_page_mode()
        self._plan.clear()
        self._stop_step()
        self._counted_ahead = False
        self._process_id = None
        self._flow_changed()

    # -- reception --------------------------------------------------------------------------------

    def _take(self, data: bytes, now: float) -> int:
        """Puts bytes into the receive buffer, one at a time within a real-time command."""
        if not self._received:
            self._worked_until = max(self._worked_until, now)
        if not self._real_time:
            start = data.find(0x10)
            size = len(data) if start < 0 else start
            if size:
                self._received += data[:size]
                return size
        # The byte is in the buffer before the command that it ends is carried out, so that a
        # clear removes its own bytes too.
        self._received += data[:1]
        self._hear(data[:1], now)
        return 1

    def _hear(self, data: bytes, now: float) -> None:
        """Follows real-time commands through whatever they are hidden in."""
        for byte in data:
            heard = self._real_time
            heard.append(byte)
            while heard and not self._may_be_real_time(heard):
                start = heard.find(0x10, 1)
                del heard[: start if start > 0 else len(heard)]
            if self._is_real_time(heard):
                command = bytes(heard)
                heard.clear()
                self._run(now)
                self._carry_out_real_time(command, now)

    @staticmethod
    def _may_be_real_time(heard: bytearray) -> bool:
        if heard[0] != 0x10:
            return False
        if len(heard) == 1:
            return True
        if heard[1] == 0x14:
            return CLEAR_COMMAND.startswith(heard)
        if heard[1] == 0x04:
            return len(heard) == 2 or 1 <= heard[2] <= 5
        return heard[1] == 0x05 and (len(heard) == 2 or heard[2] <= 3)

    @staticmethod
    def _is_real_time(heard: bytearray) -> bool:
        if len(heard) == 3:
            return heard[1] in (0x04, 0x05)
        return heard == CLEAR_COMMAND

    def _real_time_at_head(self, data: bytes) -> int:
        """How many bytes at the head of the data complete a real-time command, else 0."""
        for begun in (self._real_time, bytearray()):
            for size in (3, len(CLEAR_COMMAND)):
                head = begun + data[: size - len(begun)]
                if len(head) == size and self._may_be_real_time(head) and self._is_real_time(head):
                    return size - len(begun)
        return 0

    def _carry_out_real_time(self, command: bytes, now: float) -> None:
        if command == CLEAR_COMMAND:
            if self.make.page_language:
                self._clear_buffers()
                self._recover(now)
                self._reply(CLEAR_REPLY, ReplyKind.CLEARED)
        elif command[1] == 0x04:
            self._reply(bytes([self._real_time_status(command[2])]))
        else:
            self._real_time_request(command[2], now)
        self._changed(now)

    def _real_time_request(self, request: int, now: float) -> None:
        if request == 3:
            if self.waiting_for_book:
                self._clear_buffers()
        elif request in (1, 2) and self._error and not self.cover_is_open and not self.jammed:
            if request == 2:
                self._clear_buffers()
            # PRINTERS.md section 1.8: both put the slip out; after 1 the rest of the page is still
            # to be printed and goes on the next book.
            self._put_out()
            self._recover(now)

    def _recover(self, now: float) -> None:
        if not self.cover_is_open and not self.jammed:
            self._error = False
            self._worked_until = max(self._worked_until, now)

    # -- status -----------------------------------------------------------------------------------

    def _sensors(self) -> int:
        """Bits 5 and 6, 1 = no paper: top of form, and bottom of form by the mouth."""
        return {BookPlace.NONE: 0x60, BookPlace.IN: 0x00, BookPlace.EJECTED: 0x20}[self.place]

    def _real_time_status(self, number: int) -> int:
        error = self.jammed or self._error
        return (
            0x12
            | {
                1: self.offline << 3,
                2: self.cover_is_open << 2 | error << 6,
                3: error << 2,
                4: 0,
                5: self.waiting_for_book << 3 | self._sensors(),
            }[number]
        )

    def _status(self) -> bytes:
        """The four bytes of automatic status."""
        error = self.jammed or self._error
        cannot_print = self.place is not BookPlace.IN
        return bytes(
            [
                0x10 | self.offline << 3 | self.cover_is_open << 5,
                error << 2,
                self._sensors(),
                cannot_print << 1,
            ]
        )

    def _paper_status(self) -> int:
        """ESC v and GS r 1: bit 0 no paper at bottom of form, bit 1 none at top of form."""
        sensors = self._sensors()
        return sensors >> 6 & 1 | sensors >> 4 & 2

    def _status_changed(self, *, announce: bool = False) -> None:
        status = self._status()
        watched = [0, 0, 0, 0]
        for bit, bytes_watched in _WATCHED.items():
            if self._status_mask & bit:
                watched = [old | new for old, new in zip(watched, bytes_watched, strict=True)]
        changed = any(
            (new ^ old) & mask
            for new, old, mask in zip(status, self._status_told, watched, strict=True)
        )
        self._status_told = status
        if self._status_mask and (changed or announce):
            self._reply(status)

    def _offline_changed(self) -> None:
        if self.offline and not self._offline_told and self._offline_response:
            cause = bytes([0x40 | self.cover_is_open | self.jammed << 2])
            self._reply(
                b"\x37\x23" + (cause if self._offline_response == 2 else b"") + b"\0",
                ReplyKind.OFFLINE,
            )
        self._offline_told = self.offline

    def _reply(self, data: bytes, kind: ReplyKind = ReplyKind.OTHER) -> None:
        if kind is not ReplyKind.OTHER:
            self._replies = [reply for reply in self._replies if reply[0] is not kind]
        held = sum(len(reply) for _, reply in self._replies)
        if kind is ReplyKind.OTHER and held + len(data) > self.make.transmit_buffer_size:
            return
        self._replies.append((kind, data))

    def _flow_changed(self) -> None:
        if self.make.flow is not FlowControl.XONXOFF:
            return
        fill = len(self._received) / self.make.receive_buffer_size
        if not self._stopped and fill > 7 / 8:
            self._stopped = True
            self._reply(b"\x13")
        elif self._stopped and fill < 1 / 4:
            self._stopped = False
            self._reply(b"\x11")

    def _changed(self, now: float) -> None:
        """After anything that may have changed a status or let the work go on."""
        if self.powered:
            if self._step_due is None:
                self._mechanics_ready_at = max(self._mechanics_ready_at, now)
            self._status_changed()
            self._offline_changed()
            self._run(now)

    def _trouble(self, now: float, *, is_error: bool) -> None:
        if self.powered and is_error:
            self._error = True
        self._stop_step()
        self._changed(now)

    # -- the two workers: commands and mechanics --------------------------------------------------

    def _run(self, now: float) -> None:
        """Carries out, in the order of time, all commands and movements that are due."""
        while self.powered:
            self._start_step()
            command_due = self._command_due()
            step_due = self._step_due
            latest = now + RUN_AHEAD_SECONDS
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

    def _command_due(self) -> float | None:
        """When the next piece of the receive buffer has been worked; None while it must wait."""
        if not self._received or self.offline or self.waiting_for_book:
            return None
        if self._payload is not None:
            if self._plan and self._payload.command.opcode not in _BESIDE_PRINTING:
                return None
            size = self._payload_piece(self._payload)
        else:
            command = decode(self._received)
            if command is None or (self._plan and command.opcode not in _BESIDE_PRINTING):
                return None
            size = len(command.head)
        return self._worked_until + size / self.make.bytes_per_second

    def _payload_piece(self, payload: Payload) -> int:
        to_unit_end = payload.unit - len(payload.collected)
        return min(payload.remaining, to_unit_end, len(self._received), BYTES_AT_ONCE_MAX)

    def _work(self, at: float) -> None:
        self._worked_until = at
        payload = self._payload
        if payload is not None:
            self._work_payload(payload, at)
            return
        command = decode(self._received)
        if command is None:
            return
        del self._received[: len(command.head)]
        if command.payload is PayloadKind.NONE:
            self._execute(command, at)
        elif command.payload_size:
            self._payload = Payload(command, command.payload_size, self._payload_unit(command))

    @staticmethod
    def _payload_unit(command: Command) -> int:
        match command.payload:
            case PayloadKind.RASTER:
                return command.word(4)
            case PayloadKind.SKIP:
                return BYTES_AT_ONCE_MAX
            case _:
                return command.payload_size

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

    # -- mechanics --------------------------------------------------------------------------------

    def _start_step(self) -> None:
        """Begins the next movement where nothing hinders it."""
        if self._step_due is not None or not self._plan or self.offline:
            return
        if self.place is not BookPlace.IN or self.book is None:
            return
        step = self._plan[0]
        if step.kind is StepKind.ROW and self._head_row >= self.book.height:
            # The book ends before the print does: it is let go, the rest waits for the next one.
            self._put_out()
            self._status_changed()
            return
        seconds = {
            StepKind.ROW: self.make.row_seconds,
            StepKind.FEED: self.make.feed_seconds * step.amount,
            StepKind.PRINTED: 0.0,
            StepKind.EJECT: self.make.eject_seconds,
        }[step.kind]
        if step.kind is StepKind.ROW and self.make.counter_kept is CounterKept.DURABLE:
            self._count_row()
        self._step_due = self._mechanics_ready_at + seconds

    def _stop_step(self) -> None:
        """The movement in progress is abandoned; it starts anew if the print goes on."""
        self._step_due = None

    def _finish_step(self, at: float) -> None:
        step = self._plan.popleft()
        self._step_due = None
        self._mechanics_ready_at = at
        match step.kind:
            case StepKind.ROW:
                self._ink_row(step.amount, at)
            case StepKind.FEED:
                self._head_row += step.amount
            case StepKind.PRINTED:
                self._completed(CompletionMoment.PRINTED)
            case StepKind.EJECT:
                self._put_out()
                self._completed(CompletionMoment.EJECTED)
                self._status_changed()
        if not self._plan:
            self._completed(None)
            self._worked_until = max(self._worked_until, at)

    def _ink_row(self, bits: int, at: float) -> None:
        book = self.book
        if book is None:
            return
        if self._pass is None:
            self._pass = InkPass(at, page_mode=self._plan_is_page)
            book.passes.append(self._pass)
        self._pass.rows += 1
        book.ink_row(self._head_row, bits, width=self.make.width)
        self._head_row += 1
        if self.make.counter_kept is CounterKept.DURABLE:
            self._counted_ahead = False
        else:
            self._count_row()

    def _count_row(self) -> None:
        if self._counted_ahead:
            return
        self._counter += 1
        match self.make.counter_kept:
            case CounterKept.DURABLE:
                self._counted_ahead = True
                self.nonvolatile[COUNTER_KEY] = self._counter
            case CounterKept.UNKNOWN:
                if self._counter % self.make.counter_save_rows == 0:
                    self.nonvolatile[COUNTER_KEY] = self._counter
            case CounterKept.LOST:
                pass

    def _put_out(self) -> None:
        if self.place is BookPlace.IN:
            self.place = BookPlace.EJECTED
        self._stop_step()

    def _completed(self, moment: CompletionMoment | None) -> None:
        """A process ID saved while its page was being printed falls due."""
        if self._process_id is None or moment not in (None, self.make.completion_moment):
            return
        self._reply(b"\x37\x22" + self._process_id + b"\0", ReplyKind.PROCESS_ID)
        self._process_id = None

    # -- commands ---------------------------------------------------------------------------------

    def _execute(self, command: Command, at: float) -> None:
        opcode = command.opcode
        if not self._enabled and opcode != b"\x1b=":
            return
        if opcode[0] == 0x1D:
            self._execute_gs(command, at)
        elif opcode[0] == 0x1B:
            self._execute_esc(command, at)
        elif opcode[0] >= 0x20:
            self._print_character(opcode[0], at)
        else:
            self._execute_control(opcode[0], at)

    def _execute_control(self, control: int, at: float) -> None:
        match control:
            case 0x0A:
                self._end_line(at)
            case 0x0C:
                self._form_feed(at)
            case 0x18 if self._page is not None:
                self._page.clear_area()

    def _execute_esc(self, command: Command, at: float) -> None:
        page = self._page
        match command.opcode[1:]:
            case b"@":
                self._initialize()
            case b"L" if page is None and not self._line:
                make = self.make
                self._page = PageMemory(make.width, make.height, line_height=self._line_height)
            case b"3":
                self._line_height = self._dots_y(command.head[2])
            case b"2":
                self._line_height = max(self.make.dpi_y // 6, 1)
            case b"J":
                self._end_line(at, feed=self._dots_y(command.head[2]))
            case b"d":
                self._end_line(at, feed=self._line_height * command.head[2])
            case b"=":
                self._enabled = bool(command.head[2] & 1)
            case b"q":
                self._start_print([*self._line_steps(), Step(StepKind.EJECT)], at)
            case b"v":
                self._reply(bytes([self._paper_status()]))
            case b"u":
                self._reply(b"\0")
            case _:
                if page is not None:
                    self._execute_in_page(page, command, at)

    def _execute_in_page(self, page: PageMemory, command: Command, at: float) -> None:
        match command.opcode:
            case b"\x1bS":
                self._leave_page_mode()
            case b"\x1b\x0c":
                self._start_print(self._page_steps(page), at, page_mode=True)
            case b"\x1bW":
                left, top = self._dots_x(command.word(2)), self._dots_y(command.word(4))
                width, height = self._dots_x(command.word(6)), self._dots_y(command.word(8))
                if width and height:
                    page.set_area(left, top, width, height)
            case b"\x1b$":
                page.x = self._dots_x(command.word(2))
            case b"\x1d$":
                page.y = self._dots_y(command.word(2))
            case _:
                pass  # settings of characters, and what this printer does not know

    def _execute_gs(self, command: Command, at: float) -> None:
        match command.opcode[1:]:
            case b"P":
                self._unit_x = command.head[2] or self.make.dpi_x
                self._unit_y = command.head[3] or self.make.dpi_y
            case b"a":
                self._status_mask = command.head[2]
                self._status_changed(announce=True)
            case b"I":
                self._identify(command.head[2])
            case b"r":
                self._queued_status(command.head[2])
            case b"g" if self.make.page_language:
                self._maintenance_counter(command)
            case _:
                if self._page is not None:
                    self._execute_in_page(self._page, command, at)

    def _execute_payload(self, command: Command, unit: bytes, index: int, at: float) -> None:
        match command.payload:
            case PayloadKind.RASTER if self.make.page_language and command.head[3] in (0, 48):
                self._draw_raster_row(command, unit, index, at)
            case PayloadKind.COLUMN:
                self._draw_columns(command, unit, at)
            case PayloadKind.FUNCTION if command.opcode == b"\x1d(H" and self.make.page_language:
                self._request_response(unit)

    def _dots_x(self, units: int) -> int:
        return units * self.make.dpi_x // self._unit_x

    def _dots_y(self, units: int) -> int:
        return units * self.make.dpi_y // self._unit_y

    # -- replies ----------------------------------------------------------------------------------

    def _identify(self, number: int) -> None:
        make = self.make
        if 48 < number <= 51:
            number -= 48
        if number in (1, 2, 3):
            self._reply(bytes([{1: make.model_id, 2: 0x00, 3: 0x01}[number]]))
            return
        texts = {
            65: make.firmware,
            66: make.maker,
            67: make.model_name,
            68: make.serial,
            69: "ENGLISH",
        }
        if make.page_language and number in texts:
            self._reply(b"\x5f" + texts[number].encode("ascii") + b"\0")

    def _queued_status(self, number: int) -> None:
        match number:
            case 1 | 49:
                self._reply(bytes([self._paper_status()]))
            case 2 | 50:
                self._reply(b"\0")
            case 3 | 51:
                self._reply(bytes([6 if self.place is BookPlace.IN else 0]))
            case _:
                pass  # ink and others: this printer has no such sensor

    def _maintenance_counter(self, command: Command) -> None:
        number = command.word(4)
        if command.head[2] in (2, 50):
            values = {
                COUNTER_CUMULATIVE: self._counter,
                COUNTER_RESETTABLE: self._counter - self._counter_reset_at,
            }
            if number in values:
                self._reply(b"\x5f" + str(values[number]).encode("ascii") + b"\0")
        elif command.head[2] in (0, 48) and number == COUNTER_RESETTABLE:
            self._counter_reset_at = self._counter

    def _request_response(self, parameters: bytes) -> None:
        """GS ( H: fn 48 process ID response, fn 49 offline response."""
        if parameters[:2] == b"\x30\x30" and len(parameters) == 6:
            process_id = parameters[2:]
            if all(0x20 <= byte <= 0x7E for byte in process_id):
                self._process_id = process_id
                if not self._related_data_is_printing():
                    self._completed(None)
        elif parameters[:2] == b"\x31\x30" and len(parameters) == 3:
            self._offline_response = parameters[2] % 48

    def _related_data_is_printing(self) -> bool:
        if self.make.completion_moment is CompletionMoment.EJECTED:
            return bool(self._plan)
        return any(step.kind is not StepKind.EJECT for step in self._plan)

    # -- what becomes ink -------------------------------------------------------------------------

    def _form_feed(self, at: float) -> None:
        page = self._page
        if page is None:
            self._start_print(
                [*self._line_steps(), Step(StepKind.PRINTED), Step(StepKind.EJECT)], at
            )
            return
        steps = self._page_steps(page)
        self._leave_page_mode()
        self._start_print([*steps, Step(StepKind.EJECT)], at, page_mode=True)

    def _start_print(self, steps: list[Step], at: float, *, page_mode: bool = False) -> None:
        if page_mode or not self._last_print_was_standard():
            self._pass = None
        self._plan_is_page = page_mode
        self._plan.extend(steps)
        self._mechanics_ready_at = max(self._mechanics_ready_at, at)

    def _last_print_was_standard(self) -> bool:
        return self._pass is not None and not self._pass.page_mode

    @staticmethod
    def _page_steps(page: PageMemory) -> list[Step]:
        steps: list[Step] = []
        white = 0
        for bits in page.rows:
            if not bits:
                white += 1
                continue
            if white:
                steps.append(Step(StepKind.FEED, white))
                white = 0
            steps.append(Step(StepKind.ROW, bits))
        return [*steps, Step(StepKind.PRINTED)]

    def _rows_steps(self, rows: list[int]) -> list[Step]:
        return [Step(StepKind.ROW, bits) if bits else Step(StepKind.FEED, 1) for bits in rows]

    def _draw_raster_row(self, command: Command, unit: bytes, index: int, at: float) -> None:
        width = command.word(4) * 8
        bits = int.from_bytes(unit, "big")
        if self._page is not None:
            page = self._page
            # Images are anchored by their lower left: the position is the row below the last.
            page.draw_row(page.y - command.word(6) + index, bits, width=width)
            return
        shift = self.make.width - width
        bits = bits << shift if shift >= 0 else bits >> -shift
        self._start_print([*self._line_steps(), *self._rows_steps([bits])], at)

    def _draw_columns(self, command: Command, data: bytes, at: float) -> None:
        bytes_a_column = 3 if command.head[2] in (32, 33) else 1
        width = command.word(3)
        rows = []
        for byte in range(bytes_a_column):
            for bit in range(7, -1, -1):
                digits = bytes(0x30 + (value >> bit & 1) for value in data[byte::bytes_a_column])
                rows.append(int(digits, 2))
        self._draw_cell(rows, width, at)

    def _draw_cell(self, rows: Sequence[int], width: int, at: float) -> None:
        """Puts a cell at the position of the page, or into the line that is printed at its end."""
        page = self._page
        if page is not None:
            for index, bits in enumerate(rows):
                page.draw_row(page.y - len(rows) + index, bits, width=width)
            page.x += width
            return
        if self._line_width and self._line_width + width > self.make.width:
            self._end_line(at)
        if not self._line:
            self._line_width = 0
        shift = self.make.width - self._line_width - width
        for index, bits in enumerate(rows):
            if index == len(self._line):
                self._line.append(0)
            self._line[index] |= bits << shift if shift >= 0 else bits >> -shift
        self._line_width += width

    def _print_character(self, character: int, at: float) -> None:
        scale = 2 if self.make.dpi_y >= 144 else 1
        self._draw_cell(glyph(character, scale), GLYPH_WIDTH * scale, at)

    def _line_steps(self) -> list[Step]:
        rows, self._line, self._line_width = self._line, [], 0
        return self._rows_steps(rows)

    def _end_line(self, at: float, feed: int | None = None) -> None:
        page = self._page
        height = self._line_height if feed is None else feed
        if page is not None:
            page.x = 0
            page.y += height
            return
        steps = self._line_steps()
        rest = height - len(steps)
        if rest > 0:
            steps.append(Step(StepKind.FEED, rest))
        self._start_print(steps, at)
