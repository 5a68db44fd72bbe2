"""Independent ESC/POS software against our virtual printer, and printers of others against our driver."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import subprocess
import threading
import tty
from pathlib import Path

import pytest
from desk_fixture import BOOK, JOB, shown, submit, wait_for
from escpos.printer import Serial
from station_fixture import serving

from agent.drivers.virtual.client import spawn

RECEIPTIO = Path(__file__).parents[1] / "node_modules/receiptio/bin/cli.js"
RECEIPTIO_PORT = 9100  # it knows no other
LOOPBACK_ADDRESS = "127.20.15.4"  # nobody else's: the port is a fixed one
WAIT_SECONDS_MAX = 30.0


@pytest.fixture
def printer(tmp_path):
    found = spawn(tmp_path / "printer", speed=50.0)
    yield found
    found.quit()
    found.close()


# receiptio, a client in JavaScript that knows printers on the network


@pytest.fixture
def network_address(printer):
    """The virtual printer behind a TCP port, as behind a print server."""
    stop_read, stop_write = os.pipe()
    with socket.create_server((LOOPBACK_ADDRESS, RECEIPTIO_PORT)) as server:
        thread = threading.Thread(target=relay, args=(server, printer.port, stop_read))
        thread.start()
        yield LOOPBACK_ADDRESS
        os.close(stop_write)
        thread.join()
    os.close(stop_read)


def relay(server, port, stop):
    while server in select.select([server, stop], [], [])[0]:
        client, _ = server.accept()
        line = os.open(port, os.O_RDWR | os.O_NOCTTY)
        with client, contextlib.suppress(ConnectionError):
            ready = []
            while stop not in ready:
                ready, _, _ = select.select([client, line, stop], [], [])
                if line in ready:
                    client.sendall(os.read(line, 4_096))
                if client in ready:
                    data = client.recv(4_096)
                    if not data:
                        break
                    os.write(line, data)
        os.close(line)


def receiptio(address, *options, text=""):
    done = subprocess.run(
        ["node", str(RECEIPTIO), "-d", address, *options],
        input=text,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS_MAX,
        check=False,
    )
    return done.stderr.strip()


def test_receiptio_finds_the_virtual_printer_online_and_prints_on_it(printer, network_address):
    assert receiptio(network_address, "-q") == "online"
    printer.open_cover()
    assert receiptio(network_address, "-q") == "coveropen"
    printer.close_cover()
    printer.insert("R1")
    assert receiptio(network_address, text="Item | 1.00\n---\nTotal | 1.00\n") == "success"
    assert printer.book("R1").inked


# python-escpos, a client in Python


@contextlib.contextmanager
def python_escpos(printer):
    # Each of its readings lasts as long as the time-out, whatever has come.
    client = Serial(devfile=str(printer.port), timeout=0.5, dsrdtr=False)
    yield client
    client.close()


def test_the_status_calls_of_python_escpos_work(printer):
    with python_escpos(printer) as client:
        assert client.is_online()
        assert client.paper_status() == 2  # plenty: a slip printer has no roll that could end
        printer.insert("P1")
        assert client.query_status(b"\x10\x04\x05") == b"\x12"  # both sensors see the book
        client.text("Tanjungpinang\n")
        printer.wait_for(lambda state: state.counter > 0)
        printer.open_cover()
        assert not client.is_online()
    assert printer.book("P1").inked


# An emulator that says what printers say, and prints nothing


class Emulator:
    """Answers each request at once, as emulators do, and ejects the book at once.

    Args:
        port: A link to the line is put there.
        process_id: The reply to GS ( H fn 48: a constant one, or None for the one that was asked.
    """

    REPLIES = (
        (b"\x10\x14\x08\x01\x03\x14\x01\x06\x02\x08", b"\x37\x25\x00"),
        (b"\x10\x04\x02", b"\x12"),
        (b"\x10\x04\x03", b"\x12"),
        (b"\x1dI\x01", b"\x21"),
        (b"\x1dI\x43", b"\x5fEMULATOR\x00"),
        (b"\x1dI\x44", b"\x5fE1\x00"),
        (b"\x1dg\x32\x00\x8a\x00", b"\x5f7\x00"),
    )

    def __init__(self, port, process_id):
        self.process_id = process_id
        self.asked = []
        self.book_in = False
        self.line, self.host_end = pty.openpty()
        tty.setraw(self.host_end)
        port.symlink_to(os.ttyname(self.host_end))
        self.lock = threading.Lock()
        self.stop_read, self.stop_write = os.pipe()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def insert(self):
        with self.lock:
            self.book_in = True
            os.write(self.line, self.automatic_status())

    def automatic_status(self):
        return bytes((0x10, 0x00, 0x00 if self.book_in else 0x60, 0x00))

    def run(self):
        received = b""
        while self.stop_read not in select.select([self.line, self.stop_read], [], [])[0]:
            received = self.answer(received + os.read(self.line, 4_096))

    def answer(self, received):
        """Replies to what it knows in the order in which it came; what is left may be half a command."""
        while True:
            known = [(received.find(command), command, reply) for command, reply in self.replies()]
            known = [one for one in known if one[0] >= 0]
            if not known:
                return received[-9:]
            place, command, reply = min(known)
            rest = received[place + len(command) :]
            if command.startswith(b"\x1d(H"):
                if len(rest) < 4:
                    return received[place:]
                self.asked.append(rest[:4])
                reply = b"\x37\x22" + (self.process_id or rest[:4]) + b"\x00"
                rest = rest[4:]
                self.book_in = False
                reply += self.automatic_status()
            with self.lock:
                os.write(self.line, reply or self.automatic_status())
            received = rest

    def replies(self):
        slip = b"\x12" if self.book_in else b"\x72"
        completion = (b"\x1d(H\x06\x00\x30\x30", b"?")
        return (*self.REPLIES, (b"\x10\x04\x05", slip), (b"\x1da\x26", b""), completion)

    def close(self):
        os.close(self.stop_write)
        self.thread.join()
        for descriptor in (self.stop_read, self.line, self.host_end):
            os.close(descriptor)


@pytest.mark.parametrize(
    ("process_id", "counter", "state"),
    [
        (b"0001", 0, "processing-stopped"),
        (b"0001", 138, "processing-stopped"),
        (None, 138, "processing-stopped"),  # its counter says that nothing was inked
        (None, 0, "completed"),  # what it says then is all that some real printers can say
    ],
)
def test_a_constant_process_id_that_came_at_once_completes_nothing(
    tmp_path, process_id, counter, state
):
    emulator = Emulator(tmp_path / "port", process_id)
    printer = f'port = "{tmp_path}/port"\nflow = "none"'
    printer += f"\noverrides = {{page_seconds = 1.0, counter = {counter}}}"
    with contextlib.closing(emulator), serving(tmp_path, printer=printer) as client:

        def job():
            return client.get(f"/v1/jobs/{JOB}")

        submit(client)
        wait_for(lambda: shown(client)[0] == "idle")
        client.post("/v1/printers/main/book", {"number": BOOK})
        wait_for(lambda: job()["reasons"] == ["book-wanted"] and job()["state"] == "processing")
        emulator.insert()
        wait_for(lambda: job()["state"] != "processing")
        assert job()["state"] == state
        (asked,) = emulator.asked
        assert asked != b"0001"
