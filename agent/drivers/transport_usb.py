"""A USB printer by pyusb: found by its numbers, never reset, its kernel driver given back.

A thread reads all the time, so that a reply never waits in the device. What the device took before
an error is a lower bound: libusb gives no count with an error other than a time-out.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import usb.core
import usb.util

from agent.clock import SystemClock
from agent.drivers import device_access
from agent.drivers.transport import UsbSettings
from agent.errors import LineLost, LineUnavailable, WriteStalled

WRITE_BYTES_MAX = 4_096  # one transfer; below libusb's own splitting at 16 KiB
READ_PACKETS = 8  # a read must have room for whole packets, else libusb reports an overflow
READ_SLICE_MS = 500  # how long close() may have to wait for the reader
EMPTY_PAUSE_FIRST_S, EMPTY_PAUSE_MAX_S = 0.005, 0.1  # printers that answer "nothing" at once
INPUT_BYTES_MAX = 1_048_576  # replies that nobody has read; more is a printer gone mad
CONTROL_TIMEOUT_MS = 2_000
CLOSE_TIMEOUT_S = 5.0
DEVICE_ID_BYTES_MAX = 1_024

_CLASS_PRINTER, _CLASS_VENDOR = 0x07, 0xFF
# Printer class protocols that carry plain bytes: 3 is IEEE 1284.4 packets, 4 is IPP over USB.
_PLAIN_PROTOCOLS = (2, 1)
_REQUEST_IN = 0xA1  # class request to an interface, device to host
_GET_DEVICE_ID, _GET_PORT_STATUS = 0, 1

_monotonic = SystemClock().monotonic


@dataclass(frozen=True, slots=True)
class PortStatus:
    """The byte of GET_PORT_STATUS, USB printer class 1.1 section 4.2.2."""

    error: bool
    selected: bool
    paper_empty: bool


@dataclass(frozen=True, slots=True)
class _Endpoints:
    """The interface that carries the printer's bytes, with its two bulk endpoints."""

    interface: int
    alternate: int
    address_out: int
    address_in: int
    packet_bytes: int


def open_usb(settings: UsbSettings, *, backend: Any = None) -> UsbTransport:
    """Opens a USB printer; nothing is sent to it and nothing that it holds is thrown away.

    Args:
        settings: which printer.
        backend: a usb.backend.IBackend, else what pyusb finds on this machine.

    Raises:
        LineUnavailable: not connected, more than one, not permitted, in use, or no printer.
    """
    name = f"USB {settings.vendor:04x}:{settings.product:04x}"
    try:
        device = _find(settings, name, backend)
    except usb.core.NoBackendError as error:
        raise LineUnavailable(
            f"{name}: libusb 1.0 is not installed; install the package libusb-1.0-0"
        ) from error
    detached: int | None = None
    try:
        endpoints = _endpoints(_active_configuration(device))
        if endpoints is None:
            raise LineUnavailable(
                f"{name}: no interface of the printer class or of a vendor class with a bulk "
                "endpoint each way"
            )
        if _kernel_has(device, endpoints.interface):
            device.detach_kernel_driver(endpoints.interface)
            detached = endpoints.interface
        usb.util.claim_interface(device, endpoints.interface)
        if endpoints.alternate != 0:
            device.set_interface_altsetting(endpoints.interface, endpoints.alternate)
    except usb.core.USBError as error:
        _give_back(device, detached)
        raise _unavailable(device, name, error) from error
    except LineUnavailable:
        _give_back(device, detached)
        raise
    return UsbTransport(device, endpoints, name=name, detached=detached)


def _find(settings: UsbSettings, name: str, backend: Any) -> Any:
    found = []
    refused: LineUnavailable | None = None
    for device in usb.core.find(
        find_all=True, backend=backend, idVendor=settings.vendor, idProduct=settings.product
    ):
        try:
            wanted = settings.serial is None or device.serial_number == settings.serial
        except (usb.core.USBError, ValueError) as error:
            # ValueError is pyusb's word for strings that it could not ask for.
            refused = _unavailable(device, name, error)
            wanted = False
        if wanted:
            found.append(device)
        else:
            usb.util.dispose_resources(device)
    if len(found) == 1:
        return found[0]
    for device in found:
        usb.util.dispose_resources(device)
    if found:
        raise LineUnavailable(
            f"{name}: {len(found)} of them are connected; set usb_serial to tell them apart"
        )
    if refused is not None:
        raise refused
    which = "" if settings.serial is None else f" with the serial number {settings.serial!r}"
    raise LineUnavailable(f"{name}{which} is not connected; is it switched on and its cable in?")


@dataclass(frozen=True, slots=True)
class Connected:
    """A USB device that is plugged in.

    Attributes:
        numbers: ``vendor:product``, as in the configuration.
        serial: None where it has none, or where this user may not ask it.
        path: Its device file; None where the system has none.
        printer: Whether it has an interface of the printer class or of a vendor class.
        kernel_driver: Whether a driver of the kernel has that interface, as far as this user may see.
    """

    numbers: str
    serial: str | None
    path: str | None
    printer: bool
    kernel_driver: bool


def connected(*, backend: Any = None) -> list[Connected]:
    """The USB devices of this machine; none where libusb is missing."""
    found = []
    with suppress(usb.core.NoBackendError):
        for device in usb.core.find(find_all=True, backend=backend):
            serial = endpoints = None
            kernel_driver = False
            with suppress(usb.core.USBError, ValueError, NotImplementedError):
                serial = device.serial_number
            with suppress(usb.core.USBError):
                endpoints = _endpoints(device[0])
                kernel_driver = endpoints is not None and _kernel_has(device, endpoints.interface)
            found.append(
                Connected(
                    numbers=f"{device.idVendor:04x}:{device.idProduct:04x}",
                    serial=serial,
                    path=_device_file(device),
                    printer=endpoints is not None,
                    kernel_driver=kernel_driver,
                )
            )
            usb.util.dispose_resources(device)
    return found


def _device_file(device: Any) -> str | None:
    if device.bus is None or device.address is None:
        return None
    return f"/dev/bus/usb/{device.bus:03d}/{device.address:03d}"


def _unavailable(device: Any, name: str, error: Exception) -> LineUnavailable:
    path = _device_file(device)
    code = getattr(error, "errno", None)
    if path is None:
        return LineUnavailable(f"{name}: cannot be opened: {error}")
    if code in (errno.EACCES, errno.EPERM) or (isinstance(error, ValueError) and code is None):
        return LineUnavailable(f"{name}: {device_access.not_permitted(path)}")
    if code == errno.EBUSY:
        return LineUnavailable(f"{name}: {device_access.in_use(path)}")
    return LineUnavailable(f"{name}: {path} cannot be opened: {error}")


def _active_configuration(device: Any) -> Any:
    try:
        return device.get_active_configuration()
    except usb.core.USBError as error:
        if error.errno is not None:
            raise
    # Only a device without any configuration gets one: setting it anew would restart the device.
    device.set_configuration()
    return device.get_active_configuration()


def _endpoints(configuration: Any) -> _Endpoints | None:
    """The interface to use: the printer class before a vendor's own, two ways before one."""
    ranked: list[tuple[int, _Endpoints]] = []
    for interface in configuration:
        if interface.bInterfaceClass == _CLASS_PRINTER:
            if interface.bInterfaceProtocol not in _PLAIN_PROTOCOLS:
                continue
            rank = _PLAIN_PROTOCOLS.index(interface.bInterfaceProtocol)
        elif interface.bInterfaceClass == _CLASS_VENDOR:
            rank = len(_PLAIN_PROTOCOLS)
        else:
            continue
        pair = _bulk_pair(interface)
        if pair is not None:
            ranked.append((rank, pair))
    return min(ranked, key=lambda entry: entry[0])[1] if ranked else None


def _bulk_pair(interface: Any) -> _Endpoints | None:
    address_out = address_in = None
    packet_bytes = 0
    for endpoint in interface:
        if usb.util.endpoint_type(endpoint.bmAttributes) != usb.util.ENDPOINT_TYPE_BULK:
            continue
        address = endpoint.bEndpointAddress
        if usb.util.endpoint_direction(address) == usb.util.ENDPOINT_OUT:
            address_out = address_out or address
        elif address_in is None:
            address_in, packet_bytes = address, endpoint.wMaxPacketSize
    if address_out is None or address_in is None or not packet_bytes:
        return None
    return _Endpoints(
        interface=interface.bInterfaceNumber,
        alternate=interface.bAlternateSetting,
        address_out=address_out,
        address_in=address_in,
        packet_bytes=packet_bytes,
    )


def _kernel_has(device: Any, interface: int) -> bool:
    try:
        return bool(device.is_kernel_driver_active(interface))
    except NotImplementedError:
        return False  # a system where no kernel driver stands in the way


def _give_back(device: Any, detached: int | None) -> None:
    """Releases the device, and gives it back to the kernel's driver where that had it."""
    with suppress(usb.core.USBError):
        usb.util.dispose_resources(device)
    if detached is not None:
        with suppress(usb.core.USBError, NotImplementedError):
            device.attach_kernel_driver(detached)
        with suppress(usb.core.USBError):
            usb.util.dispose_resources(device)


class UsbTransport:
    """An open USB printer; see Transport."""

    def __init__(
        self, device: Any, endpoints: _Endpoints, *, name: str, detached: int | None
    ) -> None:
        self._device = device
        self._endpoints = endpoints
        self._name = name
        self._detached = detached
        self._changed = threading.Condition()  # guards the four below
        self._input = bytearray()
        self._woken = False
        self._failure: str | None = None
        self._open = True
        self._stopping = threading.Event()
        self._reader = threading.Thread(target=self._read_on, name="usb-reader", daemon=True)
        self._reader.start()

    def read(self, timeout_s: float) -> bytes:
        """See Transport."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._input or self._woken or self._failure is not None, timeout_s
            )
            if self._input:
                data = bytes(self._input)
                self._input.clear()
                return data
            self._check()
            self._woken = False
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
        """See Transport; a byte counts when the device took it.

        Raises:
            LineLost: the device is gone.
            WriteStalled: the device refused the data (a stall), which must not be continued, as the
                count is a lower bound.
        """
        deadline = _monotonic() + timeout_s
        written = 0
        while written < len(data):
            with self._changed:
                self._check()
            # For libusb a time-out of 0 is none at all.
            left_ms = max(1, int((deadline - _monotonic()) * 1000))
            written += self._write_once(data[written : written + WRITE_BYTES_MAX], left_ms, written)
            if written < len(data) and _monotonic() >= deadline:
                break
        return written

    def _write_once(self, data: bytes, timeout_ms: int, written: int) -> int:
        try:
            # With a time-out pyusb returns the count of what went, and raises only where it is 0.
            count: int = self._device.write(self._endpoints.address_out, data, timeout_ms)
        except usb.core.USBTimeoutError:
            return 0
        except usb.core.USBError as error:
            if error.errno != errno.EPIPE:
                raise self._lost(str(error)) from error
            self._clear_halt(self._endpoints.address_out)
            raise WriteStalled(
                f"{self._name}: the printer refused data after at least {written} bytes",
                written=written,
            ) from error
        if count == 0:
            self._stopping.wait(EMPTY_PAUSE_FIRST_S)  # no error and no progress: do not spin
        return count

    def wake(self) -> None:
        """See Transport."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def discard_output(self) -> None:
        """See Transport; nothing waits in the host, as a write counts what the device took."""
        with self._changed:
            self._check()

    def close(self) -> None:
        """See Transport."""
        with self._changed:
            if not self._open:
                return
            self._open = False
            self._failure = self._failure or "closed"
            self._changed.notify_all()
        self._stopping.set()
        self._reader.join(CLOSE_TIMEOUT_S)
        _give_back(self._device, self._detached)

    def device_id(self) -> str | None:
        """GET_DEVICE_ID: the IEEE 1284 text, e.g. ``MFG:…;MDL:…;``; None where it is not told.

        Raises:
            LineLost: the device is gone.
        """
        endpoints = self._endpoints
        index = endpoints.interface << 8 | endpoints.alternate
        try:
            # pyusb takes the low byte for the interface's number and claims that one beside ours.
            data = self._class_request(_GET_DEVICE_ID, index, DEVICE_ID_BYTES_MAX)
        finally:
            if endpoints.alternate != endpoints.interface:
                with suppress(usb.core.USBError):
                    usb.util.release_interface(self._device, endpoints.alternate)
        if data is None or len(data) < 2:
            return None
        length = int.from_bytes(data[:2], "big")  # counts itself
        return data[2:length].decode("ascii", "backslashreplace")

    def port_status(self) -> PortStatus | None:
        """GET_PORT_STATUS; None where it is not told.

        Raises:
            LineLost: the device is gone.
        """
        data = self._class_request(_GET_PORT_STATUS, self._endpoints.interface, 1)
        if not data:
            return None
        return PortStatus(
            error=not data[0] & 0x08,
            selected=bool(data[0] & 0x10),
            paper_empty=bool(data[0] & 0x20),
        )

    def _class_request(self, request: int, index: int, length: int) -> bytes | None:
        with self._changed:
            self._check()
        try:
            data = self._device.ctrl_transfer(
                _REQUEST_IN, request, 0, index, length, CONTROL_TIMEOUT_MS
            )
        except usb.core.USBError as error:
            # A stall says "I do not know this request"; busy is another driver's interface.
            if error.errno in (errno.EPIPE, errno.EBUSY, errno.ETIMEDOUT):
                return None
            raise self._lost(str(error)) from error
        return bytes(data)

    def _read_on(self) -> None:
        with self._telling_the_end():
            pause = EMPTY_PAUSE_FIRST_S
            while not self._stopping.is_set():
                data = self._read_once()
                if data is None:
                    continue
                if data:
                    pause = EMPTY_PAUSE_FIRST_S
                    self._keep(data)
                else:
                    self._stopping.wait(pause)
                    pause = min(2 * pause, EMPTY_PAUSE_MAX_S)

    @contextmanager
    def _telling_the_end(self) -> Iterator[None]:
        """Whatever ends the reader, a bug too, ends the session."""
        try:
            yield
        except LineLost:
            pass  # it is kept as the failure already
        finally:
            with self._changed:
                self._failure = self._failure or "its reader ended"
                self._changed.notify_all()

    def _read_once(self) -> bytes | None:
        """One read: None at the time-out, nothing at all where the device said nothing at once."""
        size = self._endpoints.packet_bytes * READ_PACKETS
        try:
            return bytes(self._device.read(self._endpoints.address_in, size, READ_SLICE_MS))
        except usb.core.USBTimeoutError:
            return None
        except usb.core.USBError as error:
            if error.errno == errno.EPIPE:
                # Replies may be missing from here on: the session ends, the next one can begin.
                self._clear_halt(self._endpoints.address_in)
                raise self._lost("its reply endpoint stalled") from error
            raise self._lost(str(error)) from error

    def _keep(self, data: bytes) -> None:
        with self._changed:
            if len(self._input) + len(data) > INPUT_BYTES_MAX:
                self._failure = self._failure or "it does not stop talking"
                self._stopping.set()
            else:
                self._input += data
            self._changed.notify_all()

    def _clear_halt(self, address: int) -> None:
        with suppress(usb.core.USBError):
            self._device.clear_halt(address)

    def _check(self) -> None:
        """Raises LineLost once the session has ended; the lock is held."""
        if self._failure is not None:
            raise LineLost(f"{self._name}: the line to the printer is lost: {self._failure}")

    def _lost(self, why: str) -> LineLost:
        with self._changed:
            self._failure = self._failure or why
            self._changed.notify_all()
            return LineLost(f"{self._name}: the line to the printer is lost: {self._failure}")
