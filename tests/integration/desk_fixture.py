"""A desk with a virtual printer and a reader, and nobody beside them but the test."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import tty

from station_fixture import VECTORS, index, serving

from agent.clock import SystemClock, sleep
from agent.drivers.virtual.client import spawn

(SPECIMEN,) = [vector for vector in index()["vectors"] if vector["name"] == "valid-es256"]
BOOK, JOB = SPECIMEN["book"], SPECIMEN["job"]
WAIT_SECONDS_MAX = 30.0


def wait_for(condition):
    deadline = SystemClock().monotonic() + WAIT_SECONDS_MAX
    while SystemClock().monotonic() < deadline:
        if found := condition():
            return found
        sleep(0.02)
    raise AssertionError("it did not come")


class Desk:
    """A virtual printer with nobody beside it but the test, and how a station finds it."""

    def __init__(self, folder):
        self.folder = folder
        self.directory = folder / "printer"
        self.configuration = f'port = "{self.directory}/port"\nflow = "none"'
        self.printer = None

    def switch_on(self, **make):
        self.printer = spawn(self.directory, speed=20.0, **make)

    def serving(self, extra=""):
        return serving(self.folder, printer=f"{self.configuration}\n{extra}")

    def close(self):
        if self.printer is not None:
            self.printer.quit()
            self.printer.close()
            self.printer = None


def claims(receipt):
    payload = receipt.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def shown(client):
    (printer,) = client.get("/v1/printers")
    return printer["state"], printer["reasons"]


def submit(client):
    raw = (VECTORS / SPECIMEN["file"]).read_bytes()
    assert client.call("POST", "/v1/messages", raw, kind="application/jose")[0] == 201


@contextlib.contextmanager
def plugged_in(port):
    """A reader on a pty; the end that scans."""
    device, terminal = pty.openpty()
    tty.setraw(terminal)
    port.symlink_to(os.ttyname(terminal))
    yield device
    os.close(terminal)
    os.close(device)
