"""The printer on its desk, the books around it and the line to the PC: the virtual printer's own model, no pty."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from agent.drivers.virtual.make import PrinterMake, printer_make
from agent.drivers.virtual.model import Book, BookPlace, VirtualPrinter
from agent.errors import LineLost, LineUnavailable, WriteStalled
from tests.simulation.plan import Office
from tests.simulation.world import Ended, World

PAGE_WIDTH, PAGE_HEIGHT = 40, 12  # dots: small, so that runs are fast
HOST_BUFFER_BYTES = 128  # what the PC's own end takes beyond the printer's buffer
FORM_FEED = b"\x0c"
BYTE_S = 1 / 11_520
OPERATION_S = 0.0002
LATENCY_S = 0.002


class ObservedPrinter(VirtualPrinter):
    """The printer, and what a host cannot know for sure: when it was told to report by itself.

    Attributes:
        armed_at: When ``GS a`` was last switched on; None since the power went.
    """

    armed_at: float | None = None
    _owed = 0

    def power_off(self, now: float) -> None:
        super().power_off(now)
        self.armed_at, self._owed = None, 0

    def _set_automatic_status(self, mask: int) -> None:
        super()._set_automatic_status(mask)
        if mask:
            self.armed_at = self._now
            self._owed += 1

    def explains_status(self) -> bool:
        """Whether the next automatic status is the answer to ``GS a``; asked once for each."""
        if not self._owed:
            return False
        self._owed -= 1
        return True


class Desk:
    """One printer with power and cable, and every book of the office.

    Args:
        world: Time.
        office: How it is fitted out.
    """

    def __init__(self, world: World, office: Office) -> None:
        self.world = world
        self.office = office
        self.books: dict[str, Book] = {}
        self.printer = ObservedPrinter(self._make("VIRTUAL0001"), now=world.now)
        self._spare = ObservedPrinter(self._make("VIRTUAL0002"), now=world.now)
        self._spare.power_off(world.now)
        self.cable_in = True
        self.line_stalls_until = 0.0
        self.late_by = 0.0
        self.lose_replies = 0
        self.double_replies = 0
        self.outgoing = bytearray()  # left the agent, not yet in the printer
        self.incoming: deque[tuple[float, bytes]] = deque()  # left the printer, not yet read
        self.transport: SimulatedTransport | None = None
        self.torn: str | None = None  # a book pulled out in the middle of its print
        self.torn_onto: set[str] = set()  # the books that got the rest of such a print
        self.torn_unseen: set[str] = (
            set()
        )  # those of which nobody alive knows: the replies that told it are lost
        self.disturbed_at: list[float] = []  # when something happened to it that can end a print
        self.on_open: Callable[[], None] = lambda: None
        self.on_sent: Callable[[bytes], None] = lambda data: None
        self.on_heard: Callable[[bytes], None] = lambda data: None
        self.on_load_disturbed: Callable[[], None] = lambda: None
        world.machine_due = self._due
        world.machine_moves = self.moves

    def _make(self, serial: str) -> PrinterMake:
        return printer_make(
            self.office.profile,
            width=PAGE_WIDTH,
            height=PAGE_HEIGHT,
            serial=serial,
            counter_kept=self.office.counter_kept,
            completion_moment=self.office.completion,
            receive_buffer_size=self.office.buffer_bytes,
            bytes_per_second=float("inf"),
            row_seconds=0.08,
            counter_save_rows=3,
        )

    def book(self, number: str) -> Book:
        """The book of that number; blank when it is first asked for."""
        if number not in self.books:
            self.books[number] = Book(number, PAGE_WIDTH, PAGE_HEIGHT)
        return self.books[number]

    # The machine

    def _due(self) -> float | None:
        return self.printer.next_change_at()

    def moves(self) -> None:
        """The printer works up to now, takes what the line brings and says what it has to say."""
        due = self.printer.next_change_at()
        if due is not None and due <= self.world.now:
            self.printer.advance(self.world.now)
        self._drain()
        self._collect()

    def _drain(self) -> None:
        if not self.outgoing or not self.cable_in or self.world.now < self.line_stalls_until:
            return
        taken = self.printer.receive(bytes(self.outgoing), self.world.now)
        del self.outgoing[:taken]

    def _collect(self) -> None:
        listening = self.transport is not None
        if not self.cable_in or (self.office.holds_replies and not listening):
            return
        said = self.printer.take_output()
        if not said or not listening:
            return  # without flow control nobody keeps what nobody reads
        if self.lose_replies:
            self.lose_replies -= 1
            self._torn_unseen()
            return
        last = self.incoming[-1][0] if self.incoming else 0.0
        due = max(last, self.world.now + LATENCY_S + self.late_by)
        self.incoming.append((due, said))
        if self.double_replies and said[:1] == b"\x37":
            self.double_replies -= 1
            self.incoming.append((due, said))

    def _torn_unseen(self) -> None:
        self.torn_unseen |= self.torn_onto | {self.torn or ""}

    @property
    def reachable(self) -> bool:
        """Whether the line can be opened."""
        return self.cable_in and (self.printer.powered or not self.office.drops_line)

    # What happens to it

    def power_off(self) -> None:
        """The printer forgets everything but the ink."""
        self.disturbed()
        self.printer.power_off(self.world.now)
        self.torn = None
        if self.office.drops_line:
            self.line_lost()

    def disturbed(self) -> None:
        """A print may end here, and not by the agent."""
        self.disturbed_at.append(self.world.now)

    def power_on(self) -> None:
        """It starts with empty memory."""
        self.printer.power_on(self.world.now)

    def cable_out(self) -> None:
        """What is on its way is gone."""
        self.cable_in = False
        self.line_lost()

    def line_lost(self) -> None:
        """The open line hangs up; what came before can still be read."""
        self.outgoing.clear()
        self.on_load_disturbed()
        if self.transport is not None:
            self.transport.lost = True

    def process_gone(self) -> None:
        """Nobody has the line open: what the kernel had for the printer may still go out."""
        self.transport = None
        self._torn_unseen()
        if not self.office.holds_replies:
            self.incoming.clear()

    def host_off(self, rng: Random) -> None:
        """The PC's own buffers are gone; some bytes may have been on the wire already."""
        del self.outgoing[rng.randint(0, len(self.outgoing)) :]
        self._drain()
        self.outgoing.clear()
        self.incoming.clear()

    def replace_printer(self) -> None:
        """Another one of the same kind stands there now, switched off."""
        self.take_out()
        self.power_off()
        self.printer, self._spare = self._spare, self.printer

    def insert(self, number: str) -> None:
        """A person puts a book in."""
        if self.printer.book is None:
            if self.torn is not None and self.printer.printing:
                self.disturbed()
                self.torn_onto |= {self.torn, number}
            self.torn = None
            self.on_load_disturbed()
            self.printer.insert_book(self.book(number), self.world.now)
            self.world.tell(f"book {number} is put in")

    def take_out(self) -> str | None:
        """A person takes the book out; gives its number."""
        in_the_middle = self.printer.printing and self.printer.place is BookPlace.IN
        if in_the_middle:
            self.disturbed()
        book = self.printer.remove_book(self.world.now)
        if book is None:
            return None
        if in_the_middle and book.inked():
            self.torn = book.number
        self.world.tell(f"book {book.number} is taken out")
        return book.number

    # The line

    def open(self) -> SimulatedTransport:
        """The agent opens the line.

        Raises:
            LineUnavailable: There is nothing at its end.
        """
        self.world.point("open the line")
        self.world.pass_time(OPERATION_S)
        if not self.reachable:
            raise LineUnavailable("the printer's port is not there")
        self.transport = SimulatedTransport(self)
        self.on_open()
        self.moves()
        return self.transport


class SimulatedTransport:
    """The agent's end of the line, in simulated time."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._world = desk.world
        self.lost = False
        self._woken = False

    @property
    def _mine(self) -> bool:
        return self._desk.transport is self

    def read(self, timeout_s: float) -> bytes:
        """Bytes as soon as there are some."""
        world, desk = self._world, self._desk
        deadline = world.now + timeout_s
        world.point("read from the line")
        world.pass_time(OPERATION_S)
        while True:
            self._refuse_dead()
            if desk.incoming and desk.incoming[0][0] <= world.now:
                said = b""
                while desk.incoming and desk.incoming[0][0] <= world.now:
                    said += desk.incoming.popleft()[1]
                desk.on_heard(said)
                return said
            if self.lost:
                raise LineLost("the line is gone")
            if self._woken or world.now >= deadline:
                self._woken = False
                return b""
            moments = [deadline, world.next_act_at(), desk.line_stalls_until]
            if desk.incoming:
                moments.append(desk.incoming[0][0])
            change = desk.printer.next_change_at()
            if change is not None:
                moments.append(change)
            world.advance_to(min(moment for moment in moments if moment > world.now))

    def write(self, data: bytes, timeout_s: float) -> None:
        """Writes all the data, with a point before, within and after."""
        desk, world = self._desk, self._world
        desk.on_sent(data)
        commits = data[:1] == FORM_FEED
        middle = 1 if commits else len(data) // 2
        for part in (data[:middle], data[middle:]):
            world.point("commit on the line" if commits else "write to the line")
            self._refuse_dead()
            if self.lost:
                raise LineLost("the line is gone")
            desk.outgoing += part
            world.pass_time(OPERATION_S + len(part) * BYTE_S)
        deadline = world.now + timeout_s
        while len(desk.outgoing) > HOST_BUFFER_BYTES:
            if self.lost:
                raise LineLost("the line is gone")
            if world.now >= deadline:
                unsent = len(desk.outgoing) - HOST_BUFFER_BYTES
                del desk.outgoing[HOST_BUFFER_BYTES:]
                raise WriteStalled("the printer takes no bytes", written=len(data) - unsent)
            world.advance_to(min(deadline, world.now + 0.05))
            self._refuse_dead()
        world.point("written to the line")

    def write_some(self, data: bytes, timeout_s: float) -> int:
        """Writes what goes in time."""
        try:
            self.write(data, timeout_s)
        except WriteStalled as stalled:
            return stalled.written
        return len(data)

    def wake(self) -> None:
        """Ends a read early."""
        self._woken = True

    def discard_output(self) -> None:
        """Drops what has not left the host."""
        self._refuse_dead()
        if self.lost:
            raise LineLost("the line is gone")
        self._desk.outgoing.clear()

    def close(self) -> None:
        """Gives the line back; output that was not sent is dropped."""
        if self._mine:
            self._desk.outgoing.clear()
            self._desk.transport = None

    def _refuse_dead(self) -> None:
        if not self._mine:
            raise Ended
