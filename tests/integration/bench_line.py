"""A pty between a real serial transport and a virtual printer, in virtual time, and what lines do to bytes.

The agent's end is a real port: its writes are short when the kernel has no room, its reads end with a real
hang-up. Only its waiting is the bench's: where it would wait for the kernel, the world goes on instead.
"""

from __future__ import annotations

import array
import fcntl
import select
import termios
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from agent.drivers.transport import SerialSettings
from agent.drivers.transport_serial import SerialTransport, open_serial
from agent.drivers.virtual.line import Line
from agent.drivers.virtual.model import VirtualPrinter

KERNEL_MS = 5_000  # real time in which the kernel must have carried bytes through a pty
XON, XOFF = b"\x11", b"\x13"

Arrival = tuple[float, bytes]  # seconds after it was said, and what arrives


def unspoilt(reply: bytes) -> list[Arrival]:
    """A line that does its work."""
    return [(0.0, reply)]


class BenchLine:
    """The cable with both of its ends.

    Args:
        folder: Where the port is linked.
        printer: Who is at the far end.
        moment: The virtual time.
        wait: Lets virtual time pass until something is ready: what to ask, and seconds at most.
        heard: Told of the bytes that the agent is about to send; it may change this line before they go.
        answered: Told of each reply before it goes.

    Attributes:
        room: How many more bytes the agent's kernel takes; None: as many as come.
        taken_at_once: The most that one write of the agent moves.
        stuck: Whether nothing gets through to the printer.
        late_s: By how much every reply is late.
        spoil: What arrives instead of a reply.
        holds_replies: Whether the printer keeps its replies while no cable is in.
        paces: Whether a full printer stops the agent's kernel, as CTS does; it would undo an XOFF.
    """

    def __init__(
        self,
        folder: Path,
        printer: VirtualPrinter,
        *,
        moment: Callable[[], float],
        wait: Callable[[Callable[[], Any], float], Any],
        heard: Callable[[bytes], None],
        answered: Callable[[bytes], None],
    ) -> None:
        self.printer = printer
        self.room: int | None = None
        self.taken_at_once: int | None = None
        self.stuck = False
        self.late_s = 0.0
        self.spoil: Callable[[bytes], list[Arrival]] = unspoilt
        self.holds_replies = False
        self.paces = True
        self.sent = bytearray()  # all that the agent's kernel took
        self.talk: list[tuple[str, bytes]] = []  # the same, and what arrived at the agent
        self._folder = folder
        self._moment = moment
        self._wait = wait
        self._heard = heard
        self._answered = answered
        self._line: Line | None = Line(folder)
        self._underway: deque[Arrival] = deque()  # when it arrives, and what
        self._in_kernel = 0  # bytes that left the agent and were not fetched yet

    # The cable

    def pull(self) -> None:
        """The cable comes out; what is in it is lost."""
        if self._line is not None:
            self._line.close()
            self._line = None
        self._underway.clear()
        self._in_kernel = 0

    def plug(self) -> None:
        """The cable is in again: a new port of the same name."""
        if self._line is None:
            self._line = Line(self._folder)

    def block(self) -> None:
        """Nothing more is taken from the agent, and nothing gets through to the printer."""
        self.room, self.stuck = 0, True

    def unblock(self) -> None:
        """The line flows again."""
        self.room, self.stuck = None, False

    def forget_sent(self) -> None:
        """What the printer has not taken yet is gone, as without flow control."""
        self._fetch()
        if self._line is not None:
            self._line.waiting = b""

    # The agent's end

    def open(self, settings: SerialSettings) -> SerialTransport:
        """The agent's port, whose waiting is done by the world."""
        transport = open_serial(settings)
        write_now, discard, close = (
            transport._write_now,
            transport.discard_output,
            transport.close,
        )

        def write(data: memoryview) -> int:
            self._heard(bytes(data))
            limits = [limit for limit in (self.room, self.taken_at_once) if limit is not None]
            part = data[: min(limits)] if limits else data
            count = write_now(part) if part else 0
            self._in_kernel += count
            self.sent += part[:count]
            self.talk.append(("host", bytes(part[:count])))
            if self.room is not None:
                self.room -= count
            return count

        def drop(act: Callable[[], None]) -> None:
            """What the printer has not taken yet is still the host's."""
            self.move()
            act()
            self._fetch()
            if self._line is not None:
                self._line.waiting = b""
                if self.paces:
                    self._line.pace()

        transport._write_now = write
        transport.discard_output = partial(drop, discard)
        transport.close = partial(drop, close)
        transport._readable = _Poll(transport._readable, self._wait)
        transport._writable = _Poll(transport._writable, self._wait, self._has_room)
        return transport

    def _has_room(self) -> bool:
        return self.room != 0

    # What goes over it

    def move(self) -> None:
        """Carries what can go now, in both directions."""
        now = self._moment()
        line = self._line
        if line is None:
            if not self.holds_replies:
                self.printer.take_output()
            return
        self._fetch()
        if line.waiting and not self.stuck:
            taken = self.printer.receive(line.waiting, now)
            line.waiting = line.waiting[taken:]
        if self.paces:
            line.pace()
        while reply := self.printer.take_output(1):
            self._answered(reply)
            for late, data in self.spoil(reply):
                # No line lets bytes overtake each other.
                last = self._underway[-1][0] if self._underway else now
                self._underway.append((max(last, now + self.late_s + late), data))
        while self._underway and self._underway[0][0] <= now:
            self.say(self._underway.popleft()[1])

    def say(self, data: bytes) -> None:
        """Bytes that arrive at the agent's port."""
        line = self._line
        if line is None or not data:
            return
        readable = select.poll()
        readable.register(line._host_end, select.POLLIN)
        obeyed = termios.tcgetattr(line._host_end)[0] & termios.IXON
        flow = XON + XOFF if obeyed else b""
        expected = self._at_the_port() + sum(byte not in flow for byte in data)
        line.send(data)
        self.talk.append(("printer", data))
        while self._at_the_port() < expected:
            assert readable.poll(KERNEL_MS)
        if obeyed and data[-1:] in (XON, XOFF):
            self._await_flow(stopped=data[-1:] == XOFF)

    def _await_flow(self, *, stopped: bool) -> None:
        """The kernel obeys XON and XOFF a moment after they arrived, by having room or none."""
        assert self._line is not None
        writable = select.poll()
        writable.register(self._line._host_end, select.POLLOUT)
        for _ in range(KERNEL_MS):
            if bool(writable.poll(0)) is not stopped:
                return
            select.select([], [], [], 0.001)
        raise AssertionError("the kernel does not obey XON and XOFF")

    def _at_the_port(self) -> int:
        assert self._line is not None
        count = array.array("i", [0])
        fcntl.ioctl(self._line._host_end, termios.FIONREAD, count)
        return count[0]

    def _fetch(self) -> None:
        line = self._line
        if line is None:
            return
        readable = select.poll()
        readable.register(line.fd, select.POLLIN)
        while readable.poll(KERNEL_MS if self._in_kernel else 0):
            before = len(line.waiting)
            line.fetch()
            self._in_kernel -= max(0, len(line.waiting) - before)
        assert self._in_kernel <= 0, "the kernel keeps bytes"

    def next_at(self) -> float | None:
        """When the next reply arrives."""
        return self._underway[0][0] if self._underway else None


class _Poll:
    """A poll object whose waiting lets virtual time pass."""

    def __init__(
        self,
        real: select.poll,
        wait: Callable[[Callable[[], Any], float], Any],
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._real = real
        self._wait_for = wait
        self._allowed = allowed

    def poll(self, timeout_ms: float) -> list[tuple[int, int]]:
        """As select.poll; waiting is in virtual time."""

        def ready() -> list[tuple[int, int]]:
            return self._real.poll(0) if self._allowed() else []

        found: list[tuple[int, int]] = self._wait_for(ready, timeout_ms / 1_000)
        return found
