"""A serial port by pyserial, held exclusively, with its own exact write loop."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import termios
import threading
from contextlib import suppress

import serial

from agent.clock import SystemClock
from agent.drivers import device_access
from agent.drivers.transport import FlowControl, SerialSettings
from agent.errors import LineLost, LineUnavailable, WriteStalled

READ_BYTES_MAX = 4_096
MODEM_POLL_SECONDS = (
    0.25  # far below the seconds that a printer needs to come back from a power cut
)

_monotonic = SystemClock().monotonic


class _Port(serial.Serial):
    """pyserial's port, whose open() keeps the bytes that came before it."""

    def _reset_input_buffer(self) -> None:
        # pyserial 3.5 flushes here on open: a late process ID would be gone before it was read.
        pass


def open_serial(settings: SerialSettings) -> SerialTransport:
    """Opens a serial port; what it has received already is there to be read.

    Raises:
        LineUnavailable: no such port, no permission, in use, or no serial port.
    """
    port = _Port(
        port=None,
        baudrate=settings.baudrate,
        timeout=0,
        write_timeout=0,
        rtscts=settings.flow is FlowControl.RTSCTS,
        xonxoff=settings.flow is FlowControl.XONXOFF,
        exclusive=True,
    )
    port.port = settings.port
    try:
        port.open()
    except (OSError, ValueError, OverflowError, termios.error) as error:
        # pyserial 3.5 lets through the termios.error of a line that goes while it is set up.
        raise LineUnavailable(_why(settings, error)) from error
    try:
        return SerialTransport(port, settings)
    except (OSError, termios.error) as error:
        port.close()
        raise LineUnavailable(f"{settings.port}: cannot be set up as a serial port") from error


def _why(settings: SerialSettings, error: Exception) -> str:
    path = settings.port
    number = error.args[0] if isinstance(error, termios.error) else getattr(error, "errno", None)
    match number:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return f"{path}: no such port; is the device switched on and its cable in?"
        case errno.EACCES | errno.EPERM:
            return device_access.not_permitted(path)
        case errno.EAGAIN | errno.EBUSY:
            return device_access.in_use(path)
        case errno.EIO:
            return f"{path}: the port does not answer (input/output error)"
        case _:
            return f"{path}: not a serial port that takes {settings.baudrate} baud"


class SerialTransport:
    """An open serial port; see Transport."""

    def __init__(self, port: serial.Serial, settings: SerialSettings) -> None:
        self._port = port
        self._name = settings.port
        self._flow = settings.flow
        self._descriptor: int = port.fileno()
        _tell_kernel(self._descriptor)
        self._has_modem_lines = True
        self._watched = self._lines_present()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_lock = threading.Lock()
        self._readable = select.poll()
        self._readable.register(self._descriptor, select.POLLIN)
        self._readable.register(self._wake_read, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self._descriptor, select.POLLOUT)
        self._open = True

    @property
    def watched_lines(self) -> frozenset[str]:
        """The modem lines whose loss ends the session: those that were on since the open."""
        return self._watched

    @property
    def descriptor(self) -> int:
        """The open port, for a service manager that keeps it open over a crash."""
        return self._descriptor

    @property
    def sends_freely(self) -> bool:
        """Whether nothing at the other end stops what is sent: with rtscts, whether CTS is on."""
        if self._flow is not FlowControl.RTSCTS or not self._has_modem_lines:
            return True
        try:
            return bool(self._port.cts)
        except OSError as error:
            raise self._lost(error.strerror) from error

    def read(self, timeout_s: float) -> bytes:
        """See Transport."""
        self._check_open()
        deadline = _monotonic() + timeout_s
        while True:
            events = dict(self._readable.poll(self._slice_ms(deadline)))
            state = events.get(self._descriptor, 0)
            if state & select.POLLIN:
                data = self._read_now()
                if data:
                    return data
            elif state:
                raise self._lost("hung up")
            self._check_lines()
            if self._wake_read in events:
                self._drain_wakes()
                return b""
            if _monotonic() >= deadline:
                return b""

    def write(self, data: bytes, timeout_s: float) -> None:
        """See Transport."""
        written = self.write_some(data, timeout_s)
        if written < len(data):
            raise WriteStalled(
                f"{self._name}: the printer took {written} of {len(data)} bytes "
                f"within {timeout_s:g} s",
                written=written,
            )

    def write_some(self, data: bytes, timeout_s: float) -> int:
        """See Transport; a byte counts when the kernel took it."""
        self._check_open()
        self._check_lines()
        deadline = _monotonic() + timeout_s
        rest = memoryview(data)
        while rest:
            count = self._write_now(rest)
            rest = rest[count:]
            if count:
                continue
            if _monotonic() >= deadline:
                break
            events = dict(self._writable.poll(self._slice_ms(deadline)))
            if events.get(self._descriptor, 0) & (
                select.POLLHUP | select.POLLERR | select.POLLNVAL
            ):
                raise self._lost("hung up")
            self._check_lines()
        return len(data) - len(rest)

    def wake(self) -> None:
        """See Transport."""
        # The lock keeps the byte out of another file that got the number of a closed pipe.
        with self._wake_lock, suppress(BlockingIOError):
            if self._open:
                os.write(self._wake_write, b"\0")

    def discard_output(self) -> None:
        """See Transport."""
        self._check_open()
        try:
            self._port.reset_output_buffer()
        except (OSError, termios.error) as error:
            raise self._lost("gone") from error

    def close(self) -> None:
        """See Transport."""
        with self._wake_lock:
            if not self._open:
                return
            self._open = False
            os.close(self._wake_write)
            os.close(self._wake_read)
        # A close with output left waits for a printer that may never take it.
        with suppress(OSError, termios.error):
            self._port.reset_output_buffer()
        release(self._descriptor)
        with suppress(OSError):
            self._port.close()

    def _read_now(self) -> bytes:
        try:
            data = os.read(self._descriptor, READ_BYTES_MAX)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            raise self._lost(error.strerror) from error
        if not data:
            raise self._lost("hung up")  # VMIN is 1: nothing to read is an error number, not this
        return data

    def _write_now(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise self._lost(error.strerror) from error

    def _slice_ms(self, deadline: float) -> int:
        """How long to wait at once: to the deadline, or to the next look at the modem lines."""
        seconds = max(0.0, deadline - _monotonic())
        if self._has_modem_lines:
            seconds = min(seconds, MODEM_POLL_SECONDS)
        return int(seconds * 1000) + 1 if seconds else 0

    def _lines_present(self) -> frozenset[str]:
        """The modem lines that are on now; none where the port has no modem lines, as a pty."""
        try:
            present = {"DSR": self._port.dsr, "DCD": self._port.cd}
            # Under rtscts, CTS goes off whenever the printer's buffer is full.
            if self._flow is not FlowControl.RTSCTS:
                present["CTS"] = self._port.cts
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                self._has_modem_lines = False
                return frozenset()
            raise
        return frozenset(name for name, on in present.items() if on)

    def _check_lines(self) -> None:
        if not self._has_modem_lines:
            return
        try:
            present = self._lines_present()
        except OSError as error:
            raise self._lost(error.strerror) from error
        gone = self._watched - present
        # A printer that is switched on after the open raises its lines late.
        self._watched |= present
        if gone:
            raise self._lost(f"it dropped {', '.join(sorted(gone))}")

    def _check_open(self) -> None:
        if not self._open:
            raise self._lost("closed")

    def _drain_wakes(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._wake_read, READ_BYTES_MAX):
                pass

    def _lost(self, why: str | None) -> LineLost:
        return LineLost(f"{self._name}: the line is lost: {why or 'no reason known'}")


def release(descriptor: int) -> None:
    """Lets the port be opened anew while this descriptor, or a copy that somebody keeps, is still open."""
    with suppress(OSError):
        fcntl.ioctl(descriptor, termios.TIOCNXCL)
    with suppress(OSError):
        # pyserial's lock belongs to the open file, which copies share.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _tell_kernel(descriptor: int) -> None:
    """Sets what pyserial does not."""
    attributes = termios.tcgetattr(descriptor)
    # A printer that loses its power leaves the line in a break, or in bytes with framing errors.
    # Without these flags they are read as 00h, which is a valid reply to ESC v.
    attributes[0] |= termios.IGNBRK | termios.IGNPAR | termios.INPCK
    attributes[0] &= ~(termios.BRKINT | termios.PARMRK | termios.ISTRIP)
    # Closing must not drop DTR: some printers and adapters restart on it, or throw replies away.
    attributes[2] &= ~termios.HUPCL
    # With VMIN 0 a read of nothing looks like a hang-up.
    attributes[6][termios.VMIN] = 1
    attributes[6][termios.VTIME] = 0
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    # On a pty the mark would outlive a killed agent, as the printer's side keeps the terminal open;
    # pyserial's lock on the file ends with the process and is enough there.
    if os.major(os.fstat(descriptor).st_rdev) in device_access.PTY_MAJORS:
        return
    fcntl.ioctl(descriptor, termios.TIOCEXCL)
