"""Serial readers (``[readers.NAME]``): a scanned book number presents its book, a machine-readable zone verifies it.

What a zone holds is never logged and never told: only what became of the scan is.
"""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.config import ReaderSettings
from agent.drivers.transport import FlowControl, SerialSettings, Transport, open_transport
from agent.errors import JournalDamaged, PrintAgentError, PrinterFault, RequestRefused
from agent.model import JobState

if TYPE_CHECKING:
    from agent.station import Station

ACTOR = "agent"  # nobody can tell who holds a reader
IDLE_S = 30.0  # how long a read waits while nothing is scanned
LINE_GAP_S = 2.0  # between the two lines of one zone; a longer one is another scan
LINE_LENGTH_MAX = 256  # characters; no scan is longer
STOP_TIMEOUT_S = 5.0

_STX = b"\x02"
_LINE_END = re.compile(rb"[\r\n\x03]")  # CR, LF, ETX
_BOOK_NUMBER = re.compile(rb"[A-Z0-9]{1,9}")  # CONTRACT section 3.1
_ZONE_LINE = re.compile(rb"[A-Z0-9<]{44}")
_ZONE_BOTH_LINES = re.compile(rb"[A-Z0-9<]{88}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BookNumber:
    """The barcode of a blank book."""

    number: str


@dataclass(frozen=True, slots=True)
class Zone:
    """A passport's machine-readable zone, as it was read."""

    lines: tuple[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that is neither."""


Scan = BookNumber | Zone | Unreadable


class ScanParser:
    """Finds scans in what a reader sends, in whatever pieces it comes; decides nothing.

    A line ends with CR, LF, both, or ETX; STX begins anew. A zone is two lines of 44 or one of 88.
    """

    def __init__(self) -> None:
        self._line = b""
        self._upper: bytes | None = None

    @property
    def unfinished(self) -> bool:
        """Whether a scan has begun."""
        return bool(self._line) or self._upper is not None

    def feed(self, data: bytes) -> list[Scan]:
        """The scans that these bytes complete."""
        *ended, rest = _LINE_END.split(self._line + data)
        scans = [scan for line in ended if (scan := self._take(_begun(line))) is not None]
        # One byte over the limit is kept, so that the line is known to be too long when it ends.
        self._line = _begun(rest)[: LINE_LENGTH_MAX + 1]
        return scans

    def give_up(self) -> list[Scan]:
        """The reader has been quiet for long: what was begun is not completed any more."""
        begun, self._line, self._upper = self.unfinished, b"", None
        return [Unreadable()] if begun else []

    def _take(self, line: bytes) -> Scan | None:
        if len(line) > LINE_LENGTH_MAX:
            self._upper = None
            return Unreadable()
        line = line.strip()
        if not line:
            return None
        upper, self._upper = self._upper, None
        if _ZONE_BOTH_LINES.fullmatch(line):
            return _zone(line[:44], line[44:])
        if _ZONE_LINE.fullmatch(line):
            # Line 2 ends with a check digit, line 1 with a letter or filler (Doc 9303-4 section 4.2.2).
            if not line[-1:].isdigit():
                self._upper = line
                return None
            return Unreadable() if upper is None else _zone(upper, line)
        if _BOOK_NUMBER.fullmatch(line):
            return BookNumber(line.decode("ascii"))
        return Unreadable()


def _begun(line: bytes) -> bytes:
    return line.rpartition(_STX)[2]


def _zone(upper: bytes, lower: bytes) -> Zone:
    return Zone((upper.decode("ascii"), lower.decode("ascii")))


class SerialReader:
    """One reader: listens, hands its scans to the station, and comes back by itself when it was away.

    Args:
        name: Its name in the configuration.
        settings: Its port.
        station: Who carries out the scans.
        reopen_s: How long to wait before a port that cannot be opened is tried again.
    """

    def __init__(
        self, name: str, settings: ReaderSettings, station: Station, *, reopen_s: float
    ) -> None:
        self.name = name
        self._settings = settings
        self._station = station
        self._reopen_s = reopen_s
        self._line: Transport | None = None
        self._stopping = False
        self._ended = threading.Event()
        self._look_again = threading.Event()
        self.progress = 0  # looks at the port, also at one that nobody scans on
        station.reader_stands(name, "its port was not opened yet")

    def run(self) -> None:
        """Works until ``stop``."""
        try:
            while not self._stopping:
                self.progress += 1
                try:
                    self._listen()
                except PrinterFault as fault:
                    self._station.reader_stands(self.name, str(fault))
                    self._look_again.wait(self._reopen_s)
                    self._look_again.clear()
        finally:
            self._ended.set()

    def device_appeared(self) -> None:
        """Its port may be there now."""
        self._look_again.set()

    def stop(self) -> None:
        """Ends ``run``, and waits for the scan that is being carried out."""
        self._stopping = True
        self._look_again.set()
        line = self._line
        if line is not None:
            line.wake()
        self._ended.wait(STOP_TIMEOUT_S)

    def _listen(self) -> None:
        port = SerialSettings(str(self._settings.port), self._settings.baudrate, FlowControl.NONE)
        self._line = line = open_transport(port)
        try:
            # A scan that waited in the port may be hours old; a book is presented when it is at hand.
            while line.read(0):
                pass
            self._station.reader_stands(self.name, None)
            parser = ScanParser()
            while not self._stopping:
                self.progress += 1
                data = line.read(LINE_GAP_S if parser.unfinished else IDLE_S)
                for scan in parser.feed(data) if data else parser.give_up():
                    self._carry_out(scan)
        finally:
            self._line = None
            line.close()

    def _carry_out(self, scan: Scan) -> None:
        try:
            sentence = self._done(scan)
        except JournalDamaged:
            raise
        except PrintAgentError as error:
            sentence = str(error)
        _log.info("reader-scanned", extra={"reader": self.name, "sentence": sentence})
        self._station.reader_said(self.name, sentence)

    def _done(self, scan: Scan) -> str:
        match scan:
            case BookNumber(number):
                printer = self._printer()
                job = self._station.present(printer, number, actor=ACTOR)["job"]
                return f"book {number} was presented to {printer}: job {job} goes next"
            case Zone(lines):
                job = self._station.verify_scanned(lines, actor=ACTOR)
                if job["state"] == JobState.COMPLETED:
                    return f"book {job['book']} is verified: job {job['id']} is completed"
                return f"book {job['book']} has another machine-readable zone than job {job['id']}: look at it"
            case Unreadable():
                return (
                    "neither a book's number nor a passport's machine-readable zone: scan it again"
                )

    def _printer(self) -> str:
        if self._settings.printer is not None:
            return self._settings.printer
        printers = list(self._station.settings.printers)
        if len(printers) > 1:
            raise RequestRefused(
                409,
                "not-allowed",
                f"say in the configuration which printer reader {self.name} presents books to:"
                f" readers.{self.name}.printer = {' or '.join(printers)}",
            )
        return printers[0]
