"""What upsd may say, and what follows for the next book."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from agent.ups import MARGIN_S, Ups

BOOK_S = 30.0  # how long a page may take
LONG, SHORT = (
    120 + BOOK_S + MARGIN_S + 1,
    120 + BOOK_S + MARGIN_S - 1,
)  # 120 are kept for the shutdown


class Upsd:
    """Answers by a table of variables; ``raw`` answers whatever is asked, None hangs up."""

    def __init__(self):
        self.variables = {
            "ups.status": "OL",
            "battery.runtime": "900",
            "battery.runtime.low": "120",
        }
        self.raw: bytes | None = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = self._listening.getsockname()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            line, _ = self._listening.accept()
            with line, contextlib.suppress(OSError):
                if self._talk(line):
                    return

    def _talk(self, line):
        while asked := line.recv(512).decode():
            if asked.startswith("END"):
                return True
            if self.raw is None:
                return False
            line.sendall(self.raw or self._answer(asked.split()))
        return False

    def _answer(self, words):
        get, var, ups, name = words
        assert (get, var, ups) == ("GET", "VAR", "desk")
        if name not in self.variables:
            return b"ERR VAR-NOT-SUPPORTED\n"
        return f'VAR desk {name} "{self.variables[name]}"\n'.encode()

    def close(self):
        with socket.create_connection(self.address) as line:
            line.sendall(b"END\n")
            self._thread.join(10)
        self._listening.close()


@pytest.fixture
def upsd():
    upsd = Upsd()
    yield upsd
    upsd.close()


@pytest.fixture
def ups(upsd):
    ups = Ups("desk", upsd.address)
    yield ups
    ups.hang_up()


def conditions(ups):
    return [condition.name for condition in ups.conditions()]


def test_before_the_first_answer_no_book_is_begun(ups):
    assert ups.refusal(BOOK_S)
    assert conditions(ups) == []


@pytest.mark.parametrize(
    ("status", "runtime", "begins", "named"),
    [
        ("OL", "5", True, []),
        ("OL CHRG LB", "5", True, []),  # the power is back, the battery charges
        ("OL RB", "900", True, ["battery-worn"]),
        ("OB", LONG, True, ["on-battery"]),
        ("OB DISCHRG", SHORT, False, ["on-battery"]),
        ("OB", None, False, ["on-battery"]),
        ("OB", "NaN", False, ["on-battery"]),
        ("OB", "inf", False, ["on-battery"]),
        ("OB", "-1", False, ["on-battery"]),
        ("OB LB", LONG, False, ["on-battery", "battery-low"]),
        ("FSD OL", LONG, False, ["on-battery", "battery-low"]),
    ],
)
def test_a_book_is_begun_only_where_the_power_lasts(upsd, ups, status, runtime, begins, named):
    upsd.variables["ups.status"] = status
    if runtime is None:
        del upsd.variables["battery.runtime"]
    else:
        upsd.variables["battery.runtime"] = str(runtime)
    ups.look()
    assert (ups.refusal(BOOK_S) is None) is begins
    assert conditions(ups) == named
    assert ups.low is ("battery-low" in named)


def test_a_device_that_does_not_tell_when_it_is_low_keeps_time_for_the_shutdown(upsd, ups):
    del upsd.variables["battery.runtime.low"]
    upsd.variables |= {"ups.status": "OB", "battery.runtime": str(SHORT)}
    ups.look()
    assert ups.refusal(BOOK_S)


@pytest.mark.parametrize(
    "raw",
    [
        b"ERR DATA-STALE\n",
        b"ERR DRIVER-NOT-CONNECTED\n",
        b"ERR UNKNOWN-UPS\n",
        b'VAR desk ups.status "WAIT"\n',
        b"HTTP/1.1 400 Bad Request\r\n",
        b"x" * 600,
        None,
    ],
    ids=str,
)
def test_what_is_no_answer_is_told_and_never_becomes_mains_power(upsd, ups, raw):
    upsd.raw = raw
    ups.look()
    # A UPS that was never seen on battery does not stop the printing.
    assert ups.refusal(BOOK_S) is None
    assert conditions(ups) == ["ups-silent"]
    upsd.raw = b""
    upsd.variables |= {"ups.status": "OB", "battery.runtime": str(LONG)}
    ups.look()
    assert ups.refusal(BOOK_S) is None
    upsd.raw = raw
    ups.look()
    assert "answers no more" in ups.refusal(BOOK_S)
    assert conditions(ups) == ["on-battery", "ups-silent"]
    upsd.raw = b""
    upsd.variables["ups.status"] = "OL"
    ups.look()
    assert ups.refusal(BOOK_S) is None
    assert conditions(ups) == []


def test_nobody_at_the_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    ups = Ups("desk", address)
    ups.look()
    assert ups.refusal(BOOK_S) is None
    assert "upsc" in ups.conditions()[0].detail


def test_a_change_of_kind_is_told_once(upsd):
    told = []
    ups = Ups("desk", upsd.address, changed=lambda: told.append(upsd.variables["ups.status"]))
    for status in ("OL", "OL", "OB", "OB DISCHRG", "OB LB", "OL"):
        upsd.variables["ups.status"] = status
        ups.look()
    ups.hang_up()
    assert told == ["OL", "OB", "OB LB", "OL"]
