"""The devices that may be printers, as the kernel and udev show them; nothing is opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The first that names a port counts: our own udev rules', then udev's, which lasts as well.
PORTS = ("dev/print-agent/printer-*", "dev/serial/by-id/*")
USB_DEVICES = "sys/bus/usb/devices"
USB_PRINTER_CLASS = "07"


@dataclass(frozen=True, slots=True)
class SerialDevice:
    """A serial port under a name that stays the same."""

    port: Path


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """A USB device with an interface of the printer class; ``usb`` is ``vendor:product``."""

    usb: str
    serial: str | None
    product: str


def found_devices(root: Path = Path("/")) -> list[SerialDevice | UsbDevice]:
    """What is connected now.

    Args:
        root: The root of the file system.
    """
    return [*_serial_devices(root), *_usb_devices(root)]


def _serial_devices(root: Path) -> Iterator[SerialDevice]:
    seen = set()
    for names in PORTS:
        for port in sorted(root.glob(names)):
            device = port.resolve()
            if device.name.startswith("tty") and device not in seen:
                seen.add(device)
                yield SerialDevice(port)


def _usb_devices(root: Path) -> Iterator[UsbDevice]:
    for device in sorted((root / USB_DEVICES).glob("*")):
        interfaces = device.glob(f"{device.name}:*/bInterfaceClass")
        if any(_text(interface) == USB_PRINTER_CLASS for interface in interfaces):
            vendor, product = _text(device / "idVendor"), _text(device / "idProduct")
            yield UsbDevice(
                usb=f"{vendor}:{product}",
                serial=_text(device / "serial") or None,
                product=_text(device / "product") or "a printer",
            )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
