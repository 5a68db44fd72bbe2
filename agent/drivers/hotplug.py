"""Devices that appear, as udev tells them; where no udev runs, those who wait look for themselves."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

UDEV_CONTROL = Path("/run/udev/control")  # udevd's own socket: it is there while udevd runs


class Hotplug:
    """Tells of each serial port and each USB device that appears, once udev has made its names.

    Args:
        appeared: Called in the watching thread.

    Raises:
        OSError: This process may not listen to udev.
    """

    def __init__(self, appeared: Callable[[], None]) -> None:
        import pyudev

        self._appeared = appeared
        self._monitor: Any = pyudev.Monitor.from_netlink(pyudev.Context())
        self._monitor.filter_by("tty")
        # Interfaces and drivers come and go with our own opening and closing: only whole devices count.
        self._monitor.filter_by("usb", device_type="usb_device")
        self._monitor.start()
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)

    def run(self) -> None:
        """Watches until ``stop``; takes no processor time while nothing appears."""
        ready = select.poll()
        ready.register(self._stop_read, select.POLLIN)
        ready.register(self._monitor.fileno(), select.POLLIN)
        while self._stop_read not in dict(ready.poll()):
            if self._one_appeared():
                self._appeared()
        os.close(self._stop_read)

    def _one_appeared(self) -> bool:
        try:
            device = self._monitor.poll(0)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return True  # more happened than the socket holds
        return device is not None and device.action == "add"

    def stop(self) -> None:
        """Ends ``run``; called once."""
        os.close(self._stop_write)


def watch_devices(appeared: Callable[[], None]) -> Hotplug | None:
    """A watch where udev runs and may be listened to, else None."""
    if not UDEV_CONTROL.exists():
        return None
    try:
        return Hotplug(appeared)
    except OSError:
        return None
