"""What a serial reader sends becomes a presented book or a verified job, and never a word of a traveller."""

from __future__ import annotations

import logging
import os
import pty
import threading
import tty
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import ReaderSettings
from agent.errors import DiskFull, JournalDamaged, RequestRefused
from agent.links import readers
from agent.links.readers import BookNumber, ScanParser, SerialReader, Unreadable, Zone

UPPER = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<"
LOWER = "L898902C36UTO7408122F1204159ZE184226B<<<<<10"
ZONE = Zone((UPPER, LOWER))
WAIT_S = 20.0  # never waited for


def scans(data: bytes, *, piece: int = 4_096):
    parser = ScanParser()
    found = []
    for start in range(0, len(data), piece):
        found += parser.feed(data[start : start + piece])
    return found, parser


@pytest.mark.parametrize(
    "text",
    [
        "{upper}\r{lower}\r",
        "{upper}\r\n{lower}\r\n",
        "{upper}\n{lower}\n",
        "\x02{upper}\r{lower}\x03",
        "\x02{upper}\r{lower}\r\x03",
        "\x02{upper}\x03\x02{lower}\x03",
        "{upper}{lower}\r",
        "\x02{upper}{lower}\x03",
        "\r\n{upper}\r\r{lower}\r",
        " {upper} \r {lower} \r",
    ],
)
def test_the_ways_in_which_readers_send_a_zone(text):
    data = text.format(upper=UPPER, lower=LOWER).encode()
    for piece in (1, 7, 4_096):
        found, parser = scans(data, piece=piece)
        assert found == [ZONE]
        assert not parser.unfinished


def test_a_book_number_is_told_from_everything_else():
    found, _ = scans(b"C1234567\r\nP0000003\rX\rC12345678\rC123456789\rc1234567\rC-1\r\xff\r\r")
    assert found == [
        BookNumber("C1234567"),
        BookNumber("P0000003"),
        BookNumber("X"),
        BookNumber("C12345678"),
        *[Unreadable()] * 4,
    ]


@pytest.mark.parametrize(
    "data",
    [
        LOWER.encode() + b"\r",
        UPPER.encode() + b"\r" + b"C1234567\r" + LOWER.encode() + b"\r",
        UPPER[:-1].encode() + b"\r" + LOWER.encode() + b"\r",
        UPPER.encode() + LOWER.encode()[:-1] + b"\r",
        UPPER.lower().encode() + b"\r" + LOWER.encode() + b"\r",
        b" " * 5_000 + UPPER.encode() + LOWER.encode() + b"\r",
    ],
)
def test_half_a_zone_is_never_completed_with_another_scan(data):
    assert not [scan for scan in scans(data)[0] if isinstance(scan, Zone)]


def test_a_zone_that_was_begun_twice_is_the_second_one():
    data = f"{UPPER}\r{UPPER}\r{LOWER}\r".encode()
    assert scans(data)[0] == [ZONE]
    assert scans(f"{UPPER[:20]}\x02{UPPER}\r{LOWER}\r".encode())[0] == [ZONE]


def test_what_a_quiet_reader_began_is_given_up():
    for begun in (f"{UPPER}\r", f"{UPPER}", "C12"):
        found, parser = scans(begun.encode())
        assert found == []
        assert parser.unfinished
        assert parser.give_up() == [Unreadable()]
        assert parser.give_up() == []
        assert parser.feed(f"{LOWER}\r".encode()) == [Unreadable()]


@given(st.binary(max_size=600), st.integers(1, 50))
def test_no_bytes_break_the_parser_and_pieces_change_nothing(data, piece):
    whole, _ = scans(data)
    assert scans(data, piece=piece)[0] == whole


def test_a_reader_that_never_ends_its_line_takes_no_memory():
    _, parser = scans(b"A" * 100_000)
    assert len(parser._line) <= readers.LINE_LENGTH_MAX + 1


def test_what_a_zone_holds_is_in_no_repr():
    assert "ERIKSSON" not in repr(ZONE)


class StationDouble:
    """Remembers the scans; ``refuse`` is raised by each of them."""

    def __init__(self, *printers):
        self.settings = SimpleNamespace(printers=dict.fromkeys(printers or ("main",)))
        self.acts = []
        self.stands = []
        self.said = []
        self.told = threading.Semaphore(0)
        self.refuse = None
        self.verified = {"id": "job-1", "book": "L898902C3", "state": "completed"}

    def present(self, printer, number, *, actor):
        self.acts.append(("present", printer, number, actor))
        if self.refuse is not None:
            raise self.refuse
        return {"job": "job-1"}

    def verify_scanned(self, mrz, *, actor):
        self.acts.append(("verify", mrz, actor))
        return self.verified

    def reader_stands(self, reader, fault):
        if self.stands[-1:] != [(reader, fault)]:
            self.stands.append((reader, fault))
            self.told.release()

    def reader_said(self, reader, sentence):
        self.said.append(sentence)
        self.told.release()

    def wait(self):
        assert self.told.acquire(timeout=WAIT_S)


class Desk:
    """A reader on a pty, its thread, and the station that it tells."""

    def __init__(self, folder, station, **settings):
        self.port = folder / "reader"
        self.station = station
        self.device, self.terminal = -1, -1
        self.failure = None
        self.plug_in()
        self.reader = SerialReader(
            "desk", ReaderSettings(port=self.port, **settings), station, reopen_s=3_600.0
        )
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        station.wait()
        station.wait()

    def _run(self):
        try:
            self.reader.run()
        except JournalDamaged as error:
            self.failure = error

    def plug_in(self):
        self.device, self.terminal = pty.openpty()
        tty.setraw(self.terminal)
        self.port.symlink_to(os.ttyname(self.terminal))

    def pull_out(self):
        self.port.unlink()
        os.close(self.terminal)
        os.close(self.device)

    def scan(self, text):
        os.write(self.device, text.encode())
        self.station.wait()
        return self.station.said[-1]

    def close(self):
        self.reader.stop()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()
        self.pull_out()


@pytest.fixture
def open_desk(tmp_path):
    found = []

    def make(station, **settings):
        found.append(Desk(tmp_path, station, **settings))
        return found[0]

    yield make
    for desk in found:
        desk.close()


def test_a_scanned_number_presents_the_book_and_a_zone_verifies_it(open_desk, caplog):
    caplog.set_level(logging.DEBUG)
    station = StationDouble()
    desk = open_desk(station)
    assert station.stands == [("desk", "its port was not opened yet"), ("desk", None)]
    assert desk.scan("C1234567\r") == "book C1234567 was presented to main: job job-1 goes next"
    assert desk.scan(f"{UPPER}\r{LOWER}\r") == "book L898902C3 is verified: job job-1 is completed"
    station.verified = station.verified | {"state": "processing-stopped"}
    assert "another machine-readable zone than job job-1" in desk.scan(f"{UPPER}{LOWER}\r")
    assert "scan it again" in desk.scan("c\r")
    assert station.acts == [
        ("present", "main", "C1234567", "agent"),
        ("verify", ZONE.lines, "agent"),
        ("verify", ZONE.lines, "agent"),
    ]
    told = [vars(record) for record in caplog.records]
    assert any("book C1234567 was presented" in fields["sentence"] for fields in told)
    assert "ERIKSSON" not in str(told) + "".join(station.said)


@pytest.mark.parametrize(
    "refusal",
    [RequestRefused(404, "unknown-book", "no waiting job"), DiskFull("there is no room")],
)
def test_a_refused_scan_is_told_and_the_reader_goes_on(open_desk, refusal):
    station = StationDouble()
    desk = open_desk(station)
    station.refuse = refusal
    assert desk.scan("C1234567\r") == str(refusal)
    station.refuse = None
    assert "goes next" in desk.scan("C1234567\r")


def test_a_damaged_journal_ends_the_reader(open_desk):
    station = StationDouble()
    desk = open_desk(station)
    station.refuse = JournalDamaged("the journal is damaged")
    os.write(desk.device, b"C1234567\r")
    desk.thread.join(WAIT_S)
    assert desk.failure is station.refuse


def test_with_two_printers_the_configuration_says_where_books_go(open_desk):
    station = StationDouble("left", "right")
    assert "readers.desk.printer = left or right" in open_desk(station).scan("C1234567\r")
    assert station.acts == []


def test_the_named_printer_gets_the_book(open_desk):
    station = StationDouble("left", "right")
    assert "presented to right" in open_desk(station, printer="right").scan("C1234567\r")


def test_a_reader_that_was_pulled_out_comes_back_when_its_device_appears(open_desk):
    station = StationDouble()
    desk = open_desk(station)
    desk.pull_out()
    station.wait()
    assert station.stands[-1][0] == "desk"
    assert "the line is lost" in station.stands[-1][1]
    desk.plug_in()
    # What was scanned while nobody listened is not carried out hours later.
    os.write(desk.device, b"OLD\r")
    desk.reader.device_appeared()
    station.wait()
    assert station.stands[-1] == ("desk", None)
    assert "book NEW was presented" in desk.scan("NEW\r")
    assert [act[2] for act in station.acts] == ["NEW"]


def test_the_second_line_may_not_come_late(open_desk, monkeypatch):
    monkeypatch.setattr(readers, "LINE_GAP_S", 0.01)
    station = StationDouble()
    desk = open_desk(station)
    assert "scan it again" in desk.scan(f"{UPPER}\r")
    assert "scan it again" in desk.scan(f"{LOWER}\r")
    assert station.acts == []
