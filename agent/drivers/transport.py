"""The line to a printer: bytes out with an exact count, bytes in, and a word when it is gone.

One thread reads and writes; only ``wake`` may be called by another one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class FlowControl(enum.StrEnum):
    """How a serial printer says that its buffer is full."""

    RTSCTS = "rtscts"
    XONXOFF = "xonxoff"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """A serial port: a path that is resolved anew at each open, eight data bits, no parity."""

    port: str
    baudrate: int = 115_200
    flow: FlowControl = FlowControl.RTSCTS


@dataclass(frozen=True, slots=True)
class UsbSettings:
    """A USB printer; ``serial`` is the device's serial number, to tell two apart."""

    vendor: int
    product: int
    serial: str | None = None


class Transport(Protocol):
    """An open line, exclusively held. Times are in seconds."""

    def read(self, timeout_s: float) -> bytes:
        """Bytes as soon as there are some; none at the time-out or when woken.

        Raises:
            LineLost: the line is gone and everything that came before was read.
        """
        ...

    def write(self, data: bytes, timeout_s: float) -> None:
        """Writes all the data; no byte is ever sent twice.

        Raises:
            WriteStalled: not all went in time; says how many did.
            LineLost: the line is gone.
        """
        ...

    def write_some(self, data: bytes, timeout_s: float) -> int:
        """Writes what goes in time, and gives its count: the rest is the caller's to continue.

        Raises:
            LineLost: the line is gone.
        """
        ...

    def wake(self) -> None:
        """Ends a read early, the one under way or else the next one."""
        ...

    def discard_output(self) -> None:
        """Drops what was written and has not left the host.

        Raises:
            LineLost: the line is gone.
        """
        ...

    def close(self) -> None:
        """Gives the line back, without waiting for output; may be called twice."""
        ...


def open_transport(settings: SerialSettings | UsbSettings) -> Transport:
    """Opens the line; no input is discarded and nothing is sent.

    Raises:
        LineUnavailable: it is not there, not permitted or in use; the text says what to do.
    """
    # Imported where used: a station with a serial printer needs no USB library, and the other way.
    match settings:
        case SerialSettings():
            from agent.drivers.transport_serial import open_serial

            return open_serial(settings)
        case UsbSettings():
            from agent.drivers.transport_usb import open_usb

            return open_usb(settings)
