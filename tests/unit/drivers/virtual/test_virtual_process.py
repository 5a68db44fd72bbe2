"""The virtual printer's process, over a real pty with nothing but reads and writes."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.drivers.virtual.client import VirtualPrinterClient, spawn
from agent.errors import LineUnavailable, NoAnswer, RequestRefused

SMALL = {"width": 64, "height": 24}
AUTOMATIC = b"\x1da\x26"
NO_BOOK, IN, EJECTED = b"\x10\0\x60\x02", b"\x10\0\0\0", b"\x10\0\x20\x02"
IMAGE = b"\x1dv0\0\x02\0\x03\0\xff\x01\x80\xff\x0f\xf0"
PAGE = b"\x1bL\x1b$\x08\0\x1d$\x14\0" + IMAGE
COMMIT = b"\x0c\x1d(H\x06\x00\x30\x300001"
COMPLETED = b"\x37\x220001\0"
CLEAR = bytes.fromhex("10140801031401060208")
SECONDS_MAX = 10.0


class Host:
    """The station's end of the line, in raw bytes."""

    def __init__(self, port: Path) -> None:
        self.fd = os.open(port, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd, termios.TCSANOW)  # the other ways drop what the printer sent

    def send(self, data: bytes) -> None:
        os.write(self.fd, data)

    def expect(self, data: bytes) -> None:
        clock = SystemClock()
        deadline = clock.monotonic() + SECONDS_MAX
        told = b""
        while len(told) < len(data):
            left = max(deadline - clock.monotonic(), 0)
            assert select.select([self.fd], [], [], left)[0], f"only {told.hex(' ')} came"
            told += os.read(self.fd, len(data) - len(told))
        assert told == data

    def fill(self) -> int:
        """Writes zeros until the line takes no more."""
        os.set_blocking(self.fd, False)
        size = 0
        with contextlib.suppress(BlockingIOError):
            while select.select([], [self.fd], [], 0.1)[1]:
                size += os.write(self.fd, bytes(4096))
        os.set_blocking(self.fd, True)
        return size

    def silent(self) -> bool:
        return not select.select([self.fd], [], [], 0)[0]

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def printer(tmp_path: Path) -> Iterator[VirtualPrinterClient]:
    client = spawn(tmp_path / "printer", speed=20.0, **SMALL)
    yield client
    with contextlib.suppress(LineUnavailable):
        client.quit()
    client.close()


@pytest.fixture
def host(printer: VirtualPrinterClient) -> Iterator[Host]:
    host = Host(printer.port)
    yield host
    with contextlib.suppress(OSError):
        host.close()


def pid_of(printer: VirtualPrinterClient) -> int:
    return int((printer.directory / "pid").read_text(encoding="ascii"))


def print_page(printer: VirtualPrinterClient, host: Host, number: str) -> None:
    host.send(PAGE + b"\x1dI\x01")
    host.expect(b"\x21")
    printer.insert(number)
    host.send(COMMIT)
    host.expect(COMPLETED)
    printer.wait_for(lambda state: state.place == "ejected")
    assert printer.remove() == number


def test_page_goes_through_the_line_onto_the_numbered_book(
    printer: VirtualPrinterClient, host: Host
) -> None:
    host.send(AUTOMATIC)
    host.expect(NO_BOOK)
    host.send(PAGE + b"\x1dI\x01")
    host.expect(b"\x21")
    printer.insert("C1234567")
    host.expect(IN)
    host.send(COMMIT)
    host.expect(COMPLETED + EJECTED)
    assert printer.remove() == "C1234567"
    host.expect(NO_BOOK)
    book = printer.book("C1234567")
    assert (book.inked, book.inked_rows, [rows for _, _, rows in book.passes]) == (True, 3, [3])
    assert printer.raster("C1234567").row(17) == bytes.fromhex("00ff010000000000")
    assert printer.picture_png("C1234567").startswith(b"\x89PNG")
    assert [one.number for one in printer.books()] == ["C1234567"]


def test_replies_are_held_while_no_station_listens(
    printer: VirtualPrinterClient, host: Host
) -> None:
    host.send(PAGE + b"\x1dI\x01")
    host.expect(b"\x21")
    printer.insert("C1")
    host.send(COMMIT)
    host.close()
    printer.wait_for(lambda state: state.place == "ejected")
    later = Host(printer.port)
    later.expect(COMPLETED)
    later.close()


def test_replies_that_nobody_took_are_gone_with_the_power(
    printer: VirtualPrinterClient, host: Host
) -> None:
    host.send(PAGE + b"\x1dI\x01")
    host.expect(b"\x21")
    printer.insert("C1")
    host.send(COMMIT)
    printer.wait_for(lambda state: state.place == "ejected")
    printer.power_off()
    printer.power_on()
    host.send(b"\x10\x04\x01")
    host.expect(b"\x12")


def test_bytes_stalled_by_a_printer_without_power_arrive_when_it_is_on_again(
    printer: VirtualPrinterClient, host: Host
) -> None:
    printer.insert("C1")
    printer.power_off()
    host.send(IMAGE + b"\x0c")
    printer.wait_for(lambda state: state.stalled_size > 0)
    printer.power_on()
    printer.wait_for(lambda state: state.place == "ejected")
    assert printer.book("C1").inked


def test_host_that_drops_its_output_reaches_a_printer_with_a_full_buffer(
    printer: VirtualPrinterClient, host: Host
) -> None:
    host.send(b"\x0c")  # without a book: it waits, and takes no more than its buffer
    assert host.fill() > 4096
    printer.wait_for(lambda state: state.received_size == 4096 and state.stalled_size > 0)
    termios.tcflush(host.fd, termios.TCOFLUSH)
    host.send(b"\x10\x04\x05" + CLEAR)
    host.expect(b"\x7a\x37\x25\0")
    assert printer.state().received_size == 0


def test_power_trips_in_the_middle_of_a_page(printer: VirtualPrinterClient, host: Host) -> None:
    host.send(PAGE + b"\x1dI\x01")
    host.expect(b"\x21")
    printer.insert("C1")
    printer.trip_after_rows(2)
    host.send(COMMIT)
    printer.wait_for(lambda state: not state.powered)
    assert printer.book("C1").inked_rows == 2
    assert host.silent()


def test_power_trips_in_the_middle_of_a_load(printer: VirtualPrinterClient, host: Host) -> None:
    printer.trip_after_bytes(len(PAGE) - 2)
    host.send(PAGE)
    printer.wait_for(lambda state: not state.powered)
    state = printer.wait_for(lambda state: state.stalled_size == 2)
    assert state.mode == "standard"


def test_hang_up_ends_the_line_and_a_new_one_comes(
    printer: VirtualPrinterClient, host: Host
) -> None:
    printer.hang_up()
    with contextlib.suppress(OSError):
        assert os.read(host.fd, 1) == b""
    printer.wait_for(lambda state: state.line_up)
    other = Host(printer.port)
    print_page(printer, other, "C1")
    other.close()


def test_power_with_the_line_is_like_usb(printer: VirtualPrinterClient) -> None:
    printer.power_off(hang_up=True)
    assert not os.path.lexists(printer.port)
    printer.power_on()
    printer.wait_for(lambda state: state.line_up)
    host = Host(printer.port)
    host.send(b"\x10\x04\x01")
    host.expect(b"\x12")
    host.close()


@pytest.mark.parametrize("kept", ["durable", "lost"])
def test_ink_place_and_durable_counter_survive_a_killed_process(tmp_path: Path, kept: str) -> None:
    directory = tmp_path / "printer"
    first = spawn(directory, speed=20.0, counter_kept=kept, **SMALL)
    host = Host(first.port)
    print_page(first, host, "C1")
    first.insert("C2")
    host.send(b"\x10\x04\x05")
    host.expect(b"\x12")
    sha256 = first.book("C1").sha256
    os.kill(pid_of(first), signal.SIGKILL)
    with first, pytest.raises(LineUnavailable):
        first.wait_for(lambda _: False)
    second = spawn(directory, speed=20.0, counter_kept=kept, **SMALL)
    assert second.book("C1").sha256 == sha256
    assert second.state().book == "C2"
    assert second.state().counter == (3 if kept == "durable" else 0)
    assert (directory / "books" / "C1.png").read_bytes().startswith(b"\x89PNG")
    second.quit()
    second.close()
    host.close()


def test_it_survives_who_started_it_and_ends_with_its_directory(tmp_path: Path) -> None:
    directory = tmp_path / "printer"
    start = (
        "import sys; from pathlib import Path; from agent.drivers.virtual.client import spawn;"
        "spawn(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", start, str(directory)], check=True, timeout=30)
    client = VirtualPrinterClient(directory)
    assert os.getsid(pid_of(client)) != os.getsid(0)
    shutil.rmtree(directory)
    with client, pytest.raises(LineUnavailable):
        client.wait_for(lambda _: False)


def test_second_start_in_a_directory_finds_the_first_one(printer: VirtualPrinterClient) -> None:
    with spawn(printer.directory) as other:
        other.insert("C9")
    assert printer.state().book == "C9"
    command = [sys.executable, "-m", "agent.drivers.virtual.process", "--directory"]
    done = subprocess.run(
        [*command, str(printer.directory)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "runs in" in done.stderr


def test_idle_printer_costs_no_cpu(printer: VirtualPrinterClient) -> None:
    printer.insert("C1")
    printer.picture_png("C1")  # from here on there is nothing left to write or to import

    def ticks() -> int:
        fields = Path(f"/proc/{pid_of(printer)}/stat").read_text(encoding="ascii").split()
        return int(fields[13]) + int(fields[14])

    before = ticks()
    with pytest.raises(NoAnswer):
        printer.wait_for(lambda _: False, timeout_s=1.0)
    assert ticks() - before <= 1


@pytest.mark.parametrize(
    "act",
    [
        lambda printer: printer.insert("lower"),
        lambda printer: printer.insert("../../x"),
        lambda printer: printer.book("NEVER"),
        lambda printer: printer.set_speed(0),
        lambda printer: printer.trip_after_rows(0),
        lambda printer: printer._ask("dance"),
    ],
)
def test_nonsense_is_refused_and_the_printer_goes_on(
    printer: VirtualPrinterClient, act: object
) -> None:
    with pytest.raises(RequestRefused):
        act(printer)
    printer._connection.sendall(b"not json\n[1]\n")
    assert b'"ok": false' in printer._read_line(SECONDS_MAX)
    assert b'"ok": false' in printer._read_line(SECONDS_MAX)
    assert printer.state().powered


def test_books_that_were_inked_before_are_not_blank_again(
    printer: VirtualPrinterClient, host: Host
) -> None:
    print_page(printer, host, "C1")
    print_page(printer, host, "C1")
    assert len(printer.book("C1").passes) == 2
