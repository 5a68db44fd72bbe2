"""The printer's end of a serial line: a pty whose other end the station opens."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios
import tty
from pathlib import Path

READ_SIZE = 4096
PACKET_FLUSHED_BY_HOST = 0x02  # TIOCPKT_FLUSHWRITE: the host dropped what it had not sent yet


class Line:
    """A pty in raw mode, and the link ``port`` that names its other end.

    The other end is kept open here too, so that the line and the replies in it survive the station.
    """

    def __init__(self, directory: Path) -> None:
        self._link = directory / "port"
        self.fd, self._host_end = os.openpty()
        tty.setraw(self._host_end)
        os.set_blocking(self.fd, False)
        # Packet mode tells when the host flushes its output: bytes that the printer did not take
        # yet are still the host's, and must vanish with the rest.
        fcntl.ioctl(self.fd, termios.TIOCPKT, array.array("i", [1]))
        self.port = os.ttyname(self._host_end)
        self._unsent = b""
        self._host_stopped = False
        self.waiting = b""
        draft = self._link.with_name("port.new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(self.port)
        os.replace(draft, self._link)

    def close(self) -> None:
        """Hangs up: the station sees its line go."""
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(self._link) == self.port:
                self._link.unlink()
        os.close(self.fd)
        os.close(self._host_end)

    @property
    def sends(self) -> bool:
        """Whether bytes wait for room in the line."""
        return bool(self._unsent)

    def fetch(self) -> None:
        """Takes what the host sent to the end of ``waiting``, one read at most."""
        try:
            packet = os.read(self.fd, READ_SIZE + 1)
        except BlockingIOError:
            return
        if packet[:1] == b"\0":
            self.waiting += packet[1:]
        elif packet and packet[0] & PACKET_FLUSHED_BY_HOST:
            self.waiting = b""

    def pace(self) -> None:
        """Stops the host while bytes wait, as CTS does: none may hide in the kernel."""
        if self._host_stopped != bool(self.waiting):
            self._host_stopped = not self._host_stopped
            termios.tcflow(self._host_end, termios.TCOOFF if self._host_stopped else termios.TCOON)

    def send(self, data: bytes = b"") -> None:
        """Puts bytes into the line, as far as they fit; the rest when there is room."""
        self._unsent += data
        while self._unsent:
            try:
                self._unsent = self._unsent[os.write(self.fd, self._unsent) :]
            except BlockingIOError:
                return

    def forget_replies(self) -> None:
        """Replies that the host did not take were held by the printer: gone with its power."""
        self._unsent = b""
        termios.tcflush(self._host_end, termios.TCIFLUSH)

    def release(self) -> None:
        """Undoes the lock that a killed station left; on a serial port its last close does it."""
        fcntl.ioctl(self._host_end, termios.TIOCNXCL)
