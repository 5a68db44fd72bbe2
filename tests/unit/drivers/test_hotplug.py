"""A device that appears ends the wait for it, and nothing else does."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from types import SimpleNamespace

import pytest
import pyudev

from agent.drivers import hotplug
from agent.drivers.hotplug import Hotplug, watch_devices

WAIT_S = 20.0  # never waited for: the tests end by an event


class FakeMonitor:
    """What pyudev tells; faults: ``overflow`` raises ENOBUFS, ``broken`` another error."""

    def __init__(self) -> None:
        self.filters = []
        self.read, self.write = os.pipe()
        self.told = deque()
        self.polls = 0

    def filter_by(self, subsystem, device_type=None):
        self.filters.append((subsystem, device_type))

    def start(self):
        pass

    def fileno(self):
        return self.read

    def tell(self, event):
        self.told.append(event)
        os.write(self.write, b"+")

    def poll(self, timeout):
        assert timeout == 0
        self.polls += 1
        os.read(self.read, 1)
        match self.told.popleft():
            case "overflow":
                raise OSError(errno.ENOBUFS, "No buffer space available")
            case "broken":
                raise OSError(errno.EBADF, "Bad file descriptor")
            case action:
                return action and SimpleNamespace(action=action)

    def close(self):
        os.close(self.read)
        os.close(self.write)


@pytest.fixture
def monitor(monkeypatch):
    found = FakeMonitor()
    monkeypatch.setattr(pyudev.Monitor, "from_netlink", lambda context: found)
    yield found
    found.close()


def test_a_device_that_appears_is_told_and_one_that_goes_is_not(monitor):
    appeared = threading.Semaphore(0)
    watch = Hotplug(appeared.release)
    thread = threading.Thread(target=watch.run)
    thread.start()
    for event in ("remove", "bind", "change", None, "add"):
        monitor.tell(event)
    assert appeared.acquire(timeout=WAIT_S)
    assert not appeared.acquire(blocking=False)
    monitor.tell("overflow")
    assert appeared.acquire(timeout=WAIT_S)
    watch.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert monitor.polls == 6
    assert monitor.filters == [("tty", None), ("usb", "usb_device")]


def test_a_watch_that_breaks_ends_with_an_error_and_does_not_spin(monitor):
    watch = Hotplug(lambda: None)
    monitor.tell("broken")
    with pytest.raises(OSError, match="Bad file descriptor"):
        watch.run()
    assert monitor.polls == 1
    watch.stop()


def test_the_real_monitor_listens_and_stops(monkeypatch, tmp_path):
    monkeypatch.setattr(hotplug, "UDEV_CONTROL", tmp_path)
    watch = watch_devices(lambda: None)
    assert watch is not None
    thread = threading.Thread(target=watch.run)
    thread.start()
    watch.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_without_udev_nothing_is_watched(monkeypatch, tmp_path):
    monkeypatch.setattr(hotplug, "UDEV_CONTROL", tmp_path / "control")
    assert watch_devices(lambda: None) is None


def test_an_agent_that_may_not_listen_goes_without(monkeypatch, tmp_path):
    def refuse(context):
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(hotplug, "UDEV_CONTROL", tmp_path)
    monkeypatch.setattr(pyudev.Monitor, "from_netlink", refuse)
    assert watch_devices(lambda: None) is None
