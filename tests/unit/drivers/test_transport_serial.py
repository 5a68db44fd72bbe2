from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import serial

from agent.drivers import transport_serial
from agent.drivers.transport import FlowControl, SerialSettings, Transport, open_transport
from agent.drivers.transport_serial import SerialTransport, open_serial
from agent.errors import LineLost, LineUnavailable, WriteStalled

LONG_S = 20.0  # never waited for: the tests end by an event


@dataclass
class Line:
    """A pty: the printer's end, and the port's path for the station."""

    printer: int
    port: str
    keeper: int  # the terminal kept open, so that the line outlives the station

    def hang_up(self) -> None:
        printer, keeper = self.printer, self.keeper
        self.printer = self.keeper = -1  # first, as the other thread looks at them once it is lost
        os.close(keeper)
        os.close(printer)

    def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += os.read(self.printer, count - len(data))
        return data


@pytest.fixture
def line() -> Iterator[Line]:
    printer, terminal = pty.openpty()
    tty.setraw(terminal)
    found = Line(printer, os.ttyname(terminal), terminal)
    yield found
    for descriptor in (found.printer, found.keeper):
        if descriptor >= 0:
            os.close(descriptor)


@pytest.fixture
def transport(line: Line) -> Iterator[SerialTransport]:
    opened = open_serial(SerialSettings(line.port))
    yield opened
    opened.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_serial_transport_is_a_transport(transport: SerialTransport) -> None:
    same: Transport = transport
    assert isinstance(same, SerialTransport)


@pytest.mark.parametrize("flow", list(FlowControl))
def test_a_late_reply_that_waits_in_the_port_is_read_after_open(
    line: Line, flow: FlowControl
) -> None:
    os.write(line.printer, b"\x37\x22  1A\0")
    transport = open_transport(SerialSettings(line.port, 9600, flow))
    try:
        assert transport.read(LONG_S) == b"\x37\x22  1A\0"
    finally:
        transport.close()


def test_a_reply_survives_close_and_reopen_of_the_port(line: Line) -> None:
    first = open_serial(SerialSettings(line.port))
    first.close()
    os.write(line.printer, b"\x12")
    second = open_serial(SerialSettings(line.port))
    assert second.read(LONG_S) == b"\x12"
    second.close()


def test_all_byte_values_pass_unchanged_both_ways(line: Line, transport: SerialTransport) -> None:
    every = bytes(range(256))
    transport.write(every, LONG_S)
    assert line.take(256) == every
    os.write(line.printer, every)
    found = b""
    while len(found) < 256:
        found += transport.read(LONG_S)
    assert found == every


def test_two_agents_cannot_share_a_port_and_the_message_says_who(line: Line) -> None:
    script = (
        "import sys\n"
        "from agent.drivers.transport import SerialSettings\n"
        "from agent.drivers.transport_serial import open_serial\n"
        "held = open_serial(SerialSettings(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
        "held.close()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, line.port],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(transport_serial.__file__).parents[2],
    )
    assert other.stdin is not None
    assert other.stdout is not None
    with other, other.stdin, other.stdout:
        assert other.stdout.readline() == "held\n"
        before = open_files()
        with pytest.raises(LineUnavailable, match=rf"in use by .*\({other.pid}\)"):
            open_serial(SerialSettings(line.port))
        assert open_files() == before
    reopened = open_serial(SerialSettings(line.port))
    reopened.close()


def test_a_killed_agent_leaves_no_lock_on_the_port(line: Line) -> None:
    # The printer keeps the pty open; TIOCEXCL would stay on it and refuse every later open.
    transport = open_serial(SerialSettings(line.port))
    marked = fcntl.ioctl(line.keeper, 0x80045440, b"\0\0\0\0")  # TIOCGEXCL
    assert marked == b"\0\0\0\0"
    transport.close()


def test_a_missing_port_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LineUnavailable, match="no such port; is the device switched on"):
        open_serial(SerialSettings(str(tmp_path / "port")))


def test_a_file_that_is_no_port_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "port"
    path.write_bytes(b"")
    with pytest.raises(LineUnavailable, match="not a serial port that takes 9600 baud"):
        open_serial(SerialSettings(str(path), 9600))


def test_a_line_that_goes_while_it_is_opened_is_unavailable(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up = termios.tcsetattr

    def go_first(*arguments: Any) -> None:
        monkeypatch.undo()
        line.hang_up()
        set_up(*arguments)

    monkeypatch.setattr(termios, "tcsetattr", go_first)
    with pytest.raises(LineUnavailable, match="the port does not answer"):
        open_serial(SerialSettings(line.port, 9600))


def test_a_port_without_permission_names_the_group(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(transport_serial._Port, "open", refuse)
    with pytest.raises(LineUnavailable, match=r"must be in the group [a-z]+"):
        open_serial(SerialSettings(line.port))


def test_the_port_path_is_resolved_anew_at_each_open(line: Line, tmp_path: Path) -> None:
    other_printer, other_terminal = pty.openpty()
    tty.setraw(other_terminal)
    link = tmp_path / "by-id"
    link.symlink_to(line.port)
    first = open_serial(SerialSettings(str(link)))
    first.write(b"a", LONG_S)
    first.close()
    link.unlink()
    link.symlink_to(os.ttyname(other_terminal))
    second = open_serial(SerialSettings(str(link)))
    second.write(b"b", LONG_S)
    assert os.read(other_printer, 10) == b"b"
    second.close()
    os.close(other_terminal)
    os.close(other_printer)


def test_a_printer_that_takes_nothing_stalls_the_write_with_an_exact_count(
    line: Line, transport: SerialTransport
) -> None:
    page = bytes(range(256)) * 400
    with pytest.raises(WriteStalled) as stalled:
        transport.write(page, 0.05)
    written = stalled.value.written
    assert 0 < written < len(page)
    assert line.take(written) == page[:written]


def test_a_short_write_is_continued_without_a_hole_or_a_repeat(
    line: Line, transport: SerialTransport
) -> None:
    page = os.urandom(150_000)
    reader = threading.Thread(target=lambda: taken.append(line.take(len(page))))
    taken: list[bytes] = []
    written = transport.write_some(page, 0.02)
    assert written < len(page)
    reader.start()
    transport.write(page[written:], LONG_S)
    reader.join(LONG_S)
    assert taken == [page]


def test_one_byte_writes_of_the_kernel_make_no_hole(
    line: Line, transport: SerialTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real_write(descriptor, data[:1]))
    transport.write(b"\x0c\x1d\x28\x48", LONG_S)
    assert line.take(4) == b"\x0c\x1d\x28\x48"


def test_xoff_stops_the_bytes_and_the_write_has_an_end(line: Line) -> None:
    transport = open_serial(SerialSettings(line.port, flow=FlowControl.XONXOFF))
    os.write(line.printer, b"\x13")
    with pytest.raises(WriteStalled):
        transport.write(bytes(100_000), 0.05)
    os.write(line.printer, b"\x11")
    transport.close()


def test_discarded_output_never_reaches_the_printer(line: Line, transport: SerialTransport) -> None:
    page = bytes(range(1, 256)) * 400
    written = transport.write_some(page, 0.02)
    transport.discard_output()
    transport.write(b"\0end", LONG_S)
    taken = b""
    while not taken.endswith(b"\0end"):
        taken += os.read(line.printer, 65_536)
    # What the pty's other end holds already counts as sent; the rest is gone.
    assert page.startswith(taken[:-4])
    assert len(taken) < written


def test_a_hang_up_ends_a_waiting_read(line: Line, transport: SerialTransport) -> None:
    threading.Timer(0.05, line.hang_up).start()
    with pytest.raises(LineLost):
        transport.read(LONG_S)


def test_a_hang_up_ends_a_stalled_write(line: Line, transport: SerialTransport) -> None:
    transport.write_some(bytes(100_000), 0.02)
    threading.Timer(0.05, line.hang_up).start()
    with pytest.raises(LineLost):
        transport.write(bytes(100_000), LONG_S)


def test_after_a_hang_up_every_call_says_so_and_close_still_works(
    line: Line, transport: SerialTransport
) -> None:
    line.hang_up()
    for call in (
        lambda: transport.read(LONG_S),
        lambda: transport.write(b"x", LONG_S),
        lambda: transport.write_some(b"x", LONG_S),
        transport.discard_output,
    ):
        with pytest.raises(LineLost):
            call()
    transport.close()


def test_a_read_gives_nothing_at_its_time_out(transport: SerialTransport) -> None:
    started = time.monotonic()
    assert transport.read(0.03) == b""
    assert transport.read(0) == b""
    assert 0.03 <= time.monotonic() - started < LONG_S


def test_a_waiting_read_uses_no_processor_time(line: Line, transport: SerialTransport) -> None:
    before = time.process_time()
    transport.read(0.3)
    assert time.process_time() - before < 0.05


def test_another_thread_wakes_a_read(transport: SerialTransport) -> None:
    threading.Timer(0.05, transport.wake).start()
    started = time.monotonic()
    assert transport.read(LONG_S) == b""
    assert time.monotonic() - started < LONG_S / 2


def test_a_wake_before_the_read_is_not_lost_and_counts_once(transport: SerialTransport) -> None:
    transport.wake()
    transport.wake()
    started = time.monotonic()
    assert transport.read(LONG_S) == b""
    assert time.monotonic() - started < LONG_S / 2
    assert transport.read(0.03) == b""
    assert time.monotonic() - started >= 0.03


def test_close_does_not_wait_for_a_printer_that_takes_nothing(
    line: Line, transport: SerialTransport
) -> None:
    transport.write_some(bytes(100_000), 0.02)
    started = time.monotonic()
    transport.close()
    transport.close()
    transport.wake()
    assert time.monotonic() - started < 1
    with pytest.raises(LineLost, match="closed"):
        transport.read(0)


def test_close_drops_what_the_printer_did_not_take(line: Line, transport: SerialTransport) -> None:
    written = transport.write_some(bytes(100_000), 0.02)
    transport.close()
    taken = 0
    while select.select([line.printer], [], [], 0)[0]:
        taken += len(os.read(line.printer, 65_536))
    assert 0 < taken < written


def test_open_and_close_leave_no_file_open(line: Line) -> None:
    before = open_files()
    for _ in range(3):
        open_serial(SerialSettings(line.port)).close()
    assert open_files() == before


def test_line_noise_of_a_printer_without_power_is_no_reply(
    line: Line, transport: SerialTransport
) -> None:
    # A break read as 00h would be a valid reply to ESC v.
    iflag, _, cflag, *_ = termios.tcgetattr(line.keeper)
    assert iflag & termios.IGNBRK
    assert iflag & termios.IGNPAR
    assert iflag & termios.INPCK
    assert not iflag & (termios.BRKINT | termios.PARMRK | termios.ISTRIP)
    assert not cflag & termios.HUPCL


class ModemPort(transport_serial._Port):
    """A pty with modem lines that the test switches: a null modem cable in software."""

    on = frozenset[str]()
    failure: OSError | None = None

    def _line(self, name: str) -> bool:
        if ModemPort.failure is not None:
            raise ModemPort.failure
        return name in ModemPort.on

    cts = property(lambda self: self._line("CTS"))
    dsr = property(lambda self: self._line("DSR"))
    cd = property(lambda self: self._line("DCD"))


@pytest.fixture
def modem(monkeypatch: pytest.MonkeyPatch) -> type[ModemPort]:
    monkeypatch.setattr(transport_serial, "_Port", ModemPort)
    monkeypatch.setattr(ModemPort, "on", frozenset({"CTS", "DSR", "DCD"}))
    monkeypatch.setattr(ModemPort, "failure", None)
    return ModemPort


@pytest.mark.parametrize(
    ("flow", "dropped", "lost"),
    [
        (FlowControl.RTSCTS, "DSR", True),
        (FlowControl.RTSCTS, "DCD", True),
        (FlowControl.RTSCTS, "CTS", False),  # it means "buffer full" there
        (FlowControl.NONE, "CTS", True),
        (FlowControl.XONXOFF, "CTS", True),
    ],
)
def test_a_printer_that_drops_a_modem_line_ends_the_session(
    line: Line, modem: type[ModemPort], flow: FlowControl, dropped: str, lost: bool
) -> None:
    transport = open_serial(SerialSettings(line.port, flow=flow))
    modem.on -= {dropped}
    if lost:
        with pytest.raises(LineLost, match=dropped):
            transport.read(LONG_S)
        with pytest.raises(LineLost, match=dropped):
            transport.write(b"\x0c", LONG_S)
    else:
        transport.write(b"\x0c", LONG_S)
        assert transport.read(0.01) == b""
    transport.close()


def test_a_modem_line_that_drops_during_a_wait_is_seen(line: Line, modem: type[ModemPort]) -> None:
    transport = open_serial(SerialSettings(line.port))

    def drop() -> None:
        modem.on = frozenset()

    threading.Timer(0.05, drop).start()
    with pytest.raises(LineLost, match="DCD, DSR"):
        transport.read(LONG_S)
    transport.close()


def test_a_modem_line_that_was_never_there_is_not_missed(
    line: Line, modem: type[ModemPort]
) -> None:
    modem.on = frozenset({"CTS"})
    transport = open_serial(SerialSettings(line.port))
    assert transport.watched_lines == frozenset()
    assert transport.read(0.01) == b""
    transport.close()


def test_a_modem_line_that_rises_after_the_open_is_missed_when_it_drops(
    line: Line, modem: type[ModemPort]
) -> None:
    modem.on = frozenset({"CTS"})
    transport = open_serial(SerialSettings(line.port))
    modem.on = frozenset({"CTS", "DSR"})
    assert transport.read(0.01) == b""
    modem.on = frozenset({"CTS"})
    with pytest.raises(LineLost, match="DSR"):
        transport.read(LONG_S)
    transport.close()


@pytest.mark.parametrize(
    ("flow", "on", "freely"),
    [
        (FlowControl.RTSCTS, {"CTS"}, True),
        (FlowControl.RTSCTS, {"DSR"}, False),
        (FlowControl.NONE, {"DSR"}, True),
    ],
)
def test_a_line_tells_whether_its_other_end_lets_bytes_go(
    line: Line, modem: type[ModemPort], flow: FlowControl, on: set[str], freely: bool
) -> None:
    modem.on = frozenset(on)
    transport = open_serial(SerialSettings(line.port, flow=flow))
    assert transport.sends_freely is freely
    transport.close()


def test_a_pty_without_modem_lines_lets_bytes_go(transport: SerialTransport) -> None:
    assert transport.sends_freely


def test_an_adapter_that_is_pulled_out_while_its_lines_are_asked_is_a_lost_line(
    line: Line, modem: type[ModemPort]
) -> None:
    transport = open_serial(SerialSettings(line.port))
    modem.failure = OSError(errno.EIO, "Input/output error")
    with pytest.raises(LineLost, match="Input/output error"):
        transport.read(LONG_S)
    transport.close()


def test_what_the_printer_said_before_the_line_was_lost_is_read_first(
    line: Line, modem: type[ModemPort]
) -> None:
    transport = open_serial(SerialSettings(line.port))
    os.write(line.printer, b"\x37\x22  1A\0")
    modem.on = frozenset()
    assert transport.read(LONG_S) == b"\x37\x22  1A\0"
    with pytest.raises(LineLost):
        transport.read(LONG_S)
    transport.close()


def test_pyserial_still_flushes_input_where_we_override_it() -> None:
    # Should pyserial rename its hook, the override would be dead code and replies be lost.
    assert hasattr(serial.Serial, "_reset_input_buffer")
