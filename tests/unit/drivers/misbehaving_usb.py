"""USB printers as a libusb-like backend sees them: the real pyusb code runs on top of it.

Faults, each set on a UsbPrinter:
    gone                    every request is ENODEV, as after pulling the cable
    denied                  opening is EACCES
    busy                    claiming is EBUSY
    configuration = 0       the device has none yet
    strings_stall           string descriptors stall
    write_faults            one entry a bulk write: Short(n), Stall(), Nothing(), TimeOut(n), Gone()
    read_faults             one entry a bulk read: Stall(), Nothing(), Overflow(), Gone()
    class_stall             class requests stall
    full                    the printer takes no bytes: writes run into their time-out
"""

from __future__ import annotations

import array
import errno
import threading
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import usb.backend
import usb.core


@dataclass(frozen=True)
class Short:
    count: int


@dataclass(frozen=True)
class TimeOut:
    count: int = 0


@dataclass(frozen=True)
class Stall:
    pass


@dataclass(frozen=True)
class Nothing:
    pass


@dataclass(frozen=True)
class Gone:
    pass


@dataclass(frozen=True)
class Overflow:
    pass


Fault = Short | TimeOut | Stall | Nothing | Gone | Overflow


@dataclass(frozen=True)
class Interface:
    number: int = 0
    alternate: int = 0
    usb_class: int = 7
    protocol: int = 2
    endpoints: tuple[tuple[int, int, int], ...] = ((0x01, 2, 64), (0x82, 2, 64))


@dataclass
class UsbPrinter:
    vendor: int = 0x04B8
    product: int = 0x0202
    serial: str | None = "X1"
    bus: int = 1
    address: int = 9
    interfaces: tuple[Interface, ...] = (Interface(),)
    configuration: int = 1
    kernel_driver: set[int] = field(default_factory=lambda: {0})
    device_id: bytes = b"\x00\x16MFG:EPSON;MDL:BOOK1;"
    port_status: int = 0x18
    gone: bool = False
    denied: bool = False
    busy: bool = False
    strings_stall: bool = False
    class_stall: bool = False
    full: bool = False
    write_faults: deque[Fault] = field(default_factory=deque)
    read_faults: deque[Fault] = field(default_factory=deque)
    taken: bytearray = field(default_factory=bytearray)
    replies: bytearray = field(default_factory=bytearray)
    events: list[str] = field(default_factory=list)
    read_sizes: list[int] = field(default_factory=list)
    reads: int = 0
    claimed: set[int] = field(default_factory=set)
    opened: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def say(self, data: bytes) -> None:
        with self.changed:
            self.replies += data
            self.changed.notify_all()

    def pull_cable(self) -> None:
        with self.changed:
            self.gone = True
            self.changed.notify_all()


def error(code: int) -> usb.core.USBError:
    kind = usb.core.USBTimeoutError if code == errno.ETIMEDOUT else usb.core.USBError
    return kind(errno.errorcode[code], -1, code)


class MisbehavingUsb(usb.backend.IBackend):
    """A bus with printers on it; handles are the printers themselves."""

    def __init__(self, *printers: UsbPrinter) -> None:
        super().__init__()
        self.printers = list(printers)

    def enumerate_devices(self) -> Any:
        return iter([printer for printer in self.printers if not printer.gone])

    def get_device_descriptor(self, dev: UsbPrinter) -> Any:
        return SimpleNamespace(
            bLength=18,
            bDescriptorType=1,
            bcdUSB=0x200,
            bDeviceClass=0,
            bDeviceSubClass=0,
            bDeviceProtocol=0,
            bMaxPacketSize0=64,
            idVendor=dev.vendor,
            idProduct=dev.product,
            bcdDevice=0x100,
            iManufacturer=0,
            iProduct=0,
            iSerialNumber=0 if dev.serial is None else 3,
            bNumConfigurations=1,
            address=dev.address,
            bus=dev.bus,
            port_number=1,
            port_numbers=(1,),
            speed=3,
        )

    def get_configuration_descriptor(self, dev: UsbPrinter, config: int) -> Any:
        if config:
            raise IndexError(config)
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=2,
            wTotalLength=32,
            bNumInterfaces=len({interface.number for interface in dev.interfaces}),
            bConfigurationValue=1,
            iConfiguration=0,
            bmAttributes=0xC0,
            bMaxPower=1,
            extra_descriptors=[],
        )

    def _interface(self, dev: UsbPrinter, intf: int, alt: int) -> Interface:
        numbers = sorted({interface.number for interface in dev.interfaces})
        return [each for each in dev.interfaces if each.number == numbers[intf]][alt]

    def get_interface_descriptor(self, dev: UsbPrinter, intf: int, alt: int, config: int) -> Any:
        interface = self._interface(dev, intf, alt)
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=4,
            bInterfaceNumber=interface.number,
            bAlternateSetting=interface.alternate,
            bNumEndpoints=len(interface.endpoints),
            bInterfaceClass=interface.usb_class,
            bInterfaceSubClass=1,
            bInterfaceProtocol=interface.protocol,
            iInterface=0,
            extra_descriptors=[],
        )

    def get_endpoint_descriptor(
        self, dev: UsbPrinter, ep: int, intf: int, alt: int, config: int
    ) -> Any:
        address, kind, packet = self._interface(dev, intf, alt).endpoints[ep]
        return SimpleNamespace(
            bLength=7,
            bDescriptorType=5,
            bEndpointAddress=address,
            bmAttributes=kind,
            wMaxPacketSize=packet,
            bInterval=0,
            bRefresh=0,
            bSynchAddress=0,
            extra_descriptors=[],
        )

    def _present(self, printer: UsbPrinter) -> None:
        if printer.gone:
            raise error(errno.ENODEV)

    def open_device(self, dev: UsbPrinter) -> UsbPrinter:
        self._present(dev)
        if dev.denied:
            raise error(errno.EACCES)
        dev.opened += 1
        return dev

    def close_device(self, dev_handle: UsbPrinter) -> None:
        dev_handle.opened -= 1

    def set_configuration(self, dev_handle: UsbPrinter, config_value: int) -> None:
        dev_handle.events.append("set_configuration")
        dev_handle.configuration = config_value

    def get_configuration(self, dev_handle: UsbPrinter) -> int:
        self._present(dev_handle)
        return dev_handle.configuration

    def set_interface_altsetting(self, dev_handle: UsbPrinter, intf: int, altsetting: int) -> None:
        dev_handle.events.append(f"set_altsetting {intf} {altsetting}")

    def claim_interface(self, dev_handle: UsbPrinter, intf: int) -> None:
        self._present(dev_handle)
        if dev_handle.busy or intf in dev_handle.kernel_driver:
            raise error(errno.EBUSY)
        dev_handle.claimed.add(intf)
        dev_handle.events.append(f"claim {intf}")

    def release_interface(self, dev_handle: UsbPrinter, intf: int) -> None:
        dev_handle.claimed.discard(intf)
        self._present(dev_handle)
        dev_handle.events.append(f"release {intf}")

    def is_kernel_driver_active(self, dev_handle: UsbPrinter, intf: int) -> bool:
        self._present(dev_handle)
        return intf in dev_handle.kernel_driver

    def detach_kernel_driver(self, dev_handle: UsbPrinter, intf: int) -> None:
        dev_handle.kernel_driver.discard(intf)
        dev_handle.events.append(f"detach {intf}")

    def attach_kernel_driver(self, dev_handle: UsbPrinter, intf: int) -> None:
        self._present(dev_handle)
        if intf in dev_handle.claimed:
            raise error(errno.EBUSY)
        dev_handle.kernel_driver.add(intf)
        dev_handle.events.append(f"attach {intf}")

    def reset_device(self, dev_handle: UsbPrinter) -> None:
        dev_handle.events.append("reset")

    def clear_halt(self, dev_handle: UsbPrinter, ep: int) -> None:
        self._present(dev_handle)
        dev_handle.events.append(f"clear_halt {ep:#04x}")

    def bulk_write(
        self, dev_handle: UsbPrinter, ep: int, intf: int, data: array.array[int], timeout: int
    ) -> int:
        assert intf in dev_handle.claimed
        assert isinstance(timeout, int)
        assert timeout > 0
        self._present(dev_handle)
        fault = dev_handle.write_faults.popleft() if dev_handle.write_faults else None
        sent = data.tobytes()
        match fault:
            case Stall():
                raise error(errno.EPIPE)
            case Gone():
                dev_handle.pull_cable()
                raise error(errno.ENODEV)
            case Nothing():
                return 0
            case Short(count=count):
                sent = sent[:count]
            case TimeOut(count=count):
                if not count:
                    raise error(errno.ETIMEDOUT)
                sent = sent[:count]
            case _:
                if dev_handle.full:
                    with dev_handle.changed:
                        dev_handle.changed.wait_for(lambda: not dev_handle.full, timeout / 1000)
                    raise error(errno.ETIMEDOUT)
        dev_handle.taken += sent
        return len(sent)

    def bulk_read(
        self, dev_handle: UsbPrinter, ep: int, intf: int, buff: array.array[int], timeout: int
    ) -> int:
        dev_handle.reads += 1
        dev_handle.read_sizes.append(len(buff))
        with dev_handle.changed:
            dev_handle.changed.wait_for(
                lambda: dev_handle.replies or dev_handle.gone or dev_handle.read_faults,
                timeout / 1000,
            )
            if dev_handle.replies:
                data = bytes(dev_handle.replies[: len(buff)])
                del dev_handle.replies[: len(data)]
                buff[: len(data)] = array.array("B", data)
                return len(data)
            self._present(dev_handle)
            fault = dev_handle.read_faults.popleft() if dev_handle.read_faults else None
        match fault:
            case Stall():
                raise error(errno.EPIPE)
            case Overflow():
                raise error(errno.EOVERFLOW)
            case Nothing():
                return 0
            case Gone():
                dev_handle.pull_cable()
                raise error(errno.ENODEV)
            case _:
                raise error(errno.ETIMEDOUT)

    def ctrl_transfer(
        self,
        dev_handle: UsbPrinter,
        bmRequestType: int,  # noqa: N803 - pyusb's own names
        bRequest: int,  # noqa: N803 - pyusb's own name
        wValue: int,  # noqa: N803 - pyusb's own name
        wIndex: int,  # noqa: N803 - pyusb's own name
        data: array.array[int],
        timeout: int,
    ) -> int:
        self._present(dev_handle)
        if (bmRequestType, bRequest) == (0x80, 6):
            reply = self._string(dev_handle, wValue & 0xFF)
        elif dev_handle.class_stall:
            raise error(errno.EPIPE)
        elif (bmRequestType, bRequest) == (0xA1, 0):
            dev_handle.events.append(f"device_id {wIndex:#06x}")
            reply = dev_handle.device_id
        elif (bmRequestType, bRequest, wIndex) == (0xA1, 1, min(dev_handle.claimed)):
            reply = bytes((dev_handle.port_status,))
        else:
            raise error(errno.EPIPE)
        reply = reply[: len(data)]
        data[: len(reply)] = array.array("B", reply)
        return len(reply)

    def _string(self, printer: UsbPrinter, index: int) -> bytes:
        if printer.strings_stall:
            raise error(errno.EPIPE)
        if index == 0:
            return bytes((4, 3, 0x09, 0x04))
        text = (printer.serial or "").encode("utf-16-le")
        return bytes((2 + len(text), 3)) + text
