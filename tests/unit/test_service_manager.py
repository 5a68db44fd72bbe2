from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import service_manager
from agent.service_manager import ServiceManager


@dataclass
class Manager:
    """systemd's end of the notification socket."""

    socket: socket.socket
    address: str

    def hears(self) -> list[str]:
        data, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 8)
        self.passed = descriptors
        return data.decode().split("\n")


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "file" else f"\0{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.settimeout(10)
        bound.bind(name)
        yield Manager(bound, name.replace("\0", "@"))


def test_it_tells_what_systemd_waits_for_and_no_child_can(manager):
    environment = {"NOTIFY_SOCKET": manager.address, "HOME": "/"}
    told = ServiceManager(environment)
    assert environment == {"HOME": "/"}
    told.ready()
    assert manager.hears() == ["READY=1"]
    told.alive()
    assert manager.hears() == ["WATCHDOG=1"]
    told.stopping(within_s=1.5)
    assert manager.hears() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=1500000"]


def test_a_descriptor_is_kept_in_place_of_the_one_before(manager):
    told = ServiceManager({"NOTIFY_SOCKET": manager.address})
    reading, writing = os.pipe()
    told.keep("printer-main", reading)
    assert manager.hears() == ["FDSTOREREMOVE=1", "FDNAME=printer-main"]
    assert manager.hears() == ["FDSTORE=1", "FDNAME=printer-main"]
    (copy,) = manager.passed
    os.write(writing, b"late")
    os.close(reading)
    assert os.read(copy, 10) == b"late"
    os.close(copy)
    os.close(writing)


def given_back(count: int, names: str) -> tuple[dict[str, str], list[int]]:
    """What systemd passes, but not at 3, where a test runner has files of its own."""
    pipes = [os.pipe() for _ in range(count)]
    for _, writing in pipes:
        os.close(writing)
    first = os.dup2(pipes[0][0], 900)
    for offset, (reading, _) in enumerate(pipes):
        os.dup2(reading, first + offset)
        os.close(reading)
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(count),
        "LISTEN_FDNAMES": names,
    }, [first + offset for offset in range(count)]


@pytest.fixture
def first_at_900(monkeypatch):
    monkeypatch.setattr(service_manager, "FIRST_DESCRIPTOR", 900)


def is_open(descriptor: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{descriptor}")


def test_what_was_kept_comes_back_by_name_and_goes_when_forgotten(first_at_900):
    environment, (main, gone) = given_back(2, "printer-main:printer-gone")
    told = ServiceManager(environment)
    assert environment == {}
    assert told.kept("printer-main") == main
    assert not os.get_inheritable(main)
    assert told.kept("printer-other") is None
    told.forget_all_but(["printer-main"])
    assert (is_open(main), is_open(gone)) == (True, False)
    told.forget("printer-main")
    assert not is_open(main)
    assert told.kept("printer-main") is None


def test_of_two_with_one_name_the_later_one_counts(first_at_900):
    environment, (older, newer) = given_back(2, "printer-main:printer-main")
    told = ServiceManager(environment)
    assert told.kept("printer-main") == newer
    assert not is_open(older)
    told.forget("printer-main")


@pytest.mark.parametrize(
    "wrong", [{"LISTEN_PID": "1"}, {"LISTEN_FDS": "x"}, {"LISTEN_PID": ""}], ids=str
)
def test_descriptors_that_were_meant_for_another_process_are_left_alone(first_at_900, wrong):
    environment, (descriptor,) = given_back(1, "printer-main")
    assert ServiceManager(environment | wrong).kept("printer-main") is None
    os.close(descriptor)


def test_without_systemd_and_with_one_that_is_gone_nothing_happens(tmp_path):
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        told = ServiceManager(environment)
        told.ready()
        told.keep("printer-main", 0)
