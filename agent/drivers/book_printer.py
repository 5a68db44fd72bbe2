"""The dialogue with a book printer on one open line: a session (CONTRACT sections 4.1 and 8).

It asks, loads, commits and clears; what the printer says beside the answers to its questions is kept in order
in ``log``, where the worker reads its evidence. It decides nothing and journals nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from agent.drivers import escpos
from agent.drivers.escpos import Condition, Reply, SlipSensors
from agent.drivers.profile import ClearMethod, Fence, ModelQuery, Profile
from agent.drivers.transport import Transport
from agent.errors import BookInTheWay, NoAnswer, PrinterRestarted, ReplyGarbled, WriteStalled
from agent.model import PrinterIdentity

QUIET_S = 0.15  # a line that said nothing for so long has said what it held
RESTART_GRACE_S = 1.0  # how long an automatic status may trail behind the asked one
WRITE_CHUNK_BYTES = 2_048  # between two chunks of a page the sensors are looked at
WRITE_TIMEOUT_S = 30.0  # a printer that takes nothing for so long is stuck
CLEAR_WRITE_TIMEOUT_S = 5.0  # the same, when all that was before it has been dropped
LISTEN_S = 0.5  # how often a printer that takes nothing is listened to
CLEAR_TRIES = 4
CLEAR_TIMEOUT_S = 2.0  # for one try; a late reply to it serves the next
# A printer that is away must be found again within seconds of its return: so long at most nobody looks for it.
AWAY_TIMEOUT_S = 3.0
ASK_TRIES = 2  # a status that got lost on the line is asked again: the question changes nothing
POLL_S = 2.0  # how often a waiting printer is asked whether it is still the same
PRINTING_POLL_S = 1.0
PENDING_MAX_S = (
    10.0  # what a printer holds fits its own buffer; one that talks longer does not stop
)
PROCESS_ID_NOBODYS = 0  # attempts count from 1
LOG_MAX = (
    100_000  # replies that nobody asked for since the last attempt; more is a printer gone mad
)

R = TypeVar("R", bound=object)
_DIGITS = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Said:
    """One reply, and whether no request of this session explains it (automatic status only)."""

    reply: Reply
    unasked: bool


@dataclass(frozen=True, slots=True)
class CounterReading:
    """A counter's value, and the place in the log before which everything was said earlier."""

    value: int
    position: int


class BookPrinter:
    """One session with one printer.

    Args:
        transport: The open line; the session closes it.
        profile: What kind of printer it is.
        monotonic: Seconds that only grow.
        xonxoff: Whether XON and XOFF may stand in the input.
    """

    def __init__(
        self,
        transport: Transport,
        profile: Profile,
        monotonic: Callable[[], float],
        *,
        xonxoff: bool = False,
    ) -> None:
        self.transport = transport
        self.profile = profile
        self.log: list[Said] = []
        self.conditions = escpos.NO_CONDITION
        self.slip: SlipSensors | None = None  # as the last status told, asked or not
        self._automatic_slip: SlipSensors | None = None
        self._slips: list[SlipSensors] = []
        self._parser = escpos.ReplyParser(xonxoff=xonxoff)
        self._monotonic = monotonic
        self._explained = 0
        self.armed = False
        self.page_inside = False  # whether bytes of a page may lie in it, not cleared nor printed
        self.progress = 0  # how often this session looked at its line, whatever it waits for

    @property
    def book_out(self) -> bool:
        """Whether the last status showed no book; also False where none came yet."""
        return self.slip is not None and self.slip.book_out

    # Listening

    def pump(self, timeout_s: float) -> bool:
        """Reads what comes within the time; tells whether bytes came."""
        self.progress += 1
        data = self.transport.read(timeout_s)
        for reply in self._parser.feed(data):
            self._take(reply)
        return bool(data)

    def keep_pending(self) -> None:
        """Reads what the printer still holds until the line is quiet (rule 2)."""
        end = self._monotonic() + PENDING_MAX_S
        quiet_at = self._monotonic() + QUIET_S
        while (left := quiet_at - self._monotonic()) > 0:
            if self.pump(left):
                quiet_at = self._monotonic() + QUIET_S
            if self._monotonic() > end:
                raise self._talks_on()
        for reply in self._parser.abandon():
            self._take(reply)

    def forget(self) -> None:
        """What was said so far is nobody's evidence any more."""
        self.log.clear()

    def _take(self, reply: Reply) -> None:
        unasked = False
        if isinstance(reply, escpos.AutomaticStatus):
            unasked = self._explained == 0
            self._explained = max(0, self._explained - 1)
            self.conditions = escpos.automatic_conditions(reply)
            self._automatic_slip = escpos.automatic_slip(reply, self.profile)
            self.slip = self._automatic_slip
            self._slips.append(self.slip)
        self.log.append(Said(reply, unasked))
        if len(self.log) > LOG_MAX:
            raise self._talks_on()

    def _talks_on(self) -> ReplyGarbled:
        return ReplyGarbled(
            "the printer does not stop talking; check its flow control and its cable"
        )

    def _await(self, kind: type[R], timeout_s: float, *, since: int, what: str) -> tuple[R, int]:
        """The first reply of this kind from that place in the log on, and where it stood.

        It leaves the log, so that no answer to a question is ever taken for evidence; everything else is kept.
        """
        deadline = self._monotonic() + timeout_s
        position = since
        while True:
            for said in self.log[position:]:
                if isinstance(said.reply, kind):
                    del self.log[position]
                    return said.reply, position
                position += 1
            left = deadline - self._monotonic()
            if left <= 0:
                raise NoAnswer(
                    f"the printer did not answer {what} within {timeout_s:g} s; check power, cable and cover"
                )
            self.pump(left)

    def _ask(
        self, command: bytes, kind: type[R], *, what: str, timeout_s: float | None = None
    ) -> R:
        return self._ask_in_order(command, kind, what=what, timeout_s=timeout_s)[0]

    def _ask_in_order(
        self, command: bytes, kind: type[R], *, what: str, timeout_s: float | None = None
    ) -> tuple[R, int]:
        self.pump(0)
        since = len(self.log)
        self._write(command)
        wait_s = self.profile.reply_seconds if timeout_s is None else timeout_s
        return self._await(kind, wait_s, since=since, what=what)

    def _ask_status(
        self, request: escpos.RealTimeRequest, *, tries: int, timeout_s: float | None = None
    ) -> tuple[escpos.RealTimeStatus, int]:
        """The answer, and where it stood in the log."""

        def ask() -> tuple[escpos.RealTimeStatus, int]:
            command, what = escpos.real_time_status(request), f"DLE EOT {request.value}"
            return self._ask_in_order(
                command, escpos.RealTimeStatus, what=what, timeout_s=timeout_s
            )

        for _ in range(tries - 1):
            with suppress(NoAnswer):
                return ask()
        return ask()

    def _write(
        self,
        data: bytes,
        *,
        between: Callable[[], None] = lambda: None,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        """Writes all of it, and listens while the printer takes nothing.

        Args:
            data: The bytes.
            between: Called whenever it was listened to; may raise to break the write off.
            timeout_s: How long it may take nothing.

        Raises:
            WriteStalled: It took nothing for so long.
        """
        deadline = self._monotonic() + timeout_s
        written = 0
        while True:
            count = self.transport.write_some(data[written:], LISTEN_S)
            written += count
            if written == len(data):
                return
            if count:
                deadline = self._monotonic() + timeout_s
            elif self._monotonic() >= deadline:
                raise WriteStalled(
                    f"the printer took {written} of {len(data)} bytes, and none for {timeout_s:g} s",
                    written=written,
                )
            self.pump(0)
            between()

    # Asking

    def ask_slip(self, *, tries: int = ASK_TRIES, timeout_s: float | None = None) -> SlipSensors:
        """Where the book is (DLE EOT 5).

        Args:
            tries: 1 where what else the printer said meanwhile has to be looked at before it is asked again.
            timeout_s: For one try; None: as long as the profile says.
        """
        status, position = self._ask_status(
            escpos.RealTimeRequest.SLIP, tries=tries, timeout_s=timeout_s
        )
        asked = escpos.real_time_slip(status, self.profile)
        # A book that goes in right behind the answer may be told in the same read: that came later.
        later = sum(isinstance(said.reply, escpos.AutomaticStatus) for said in self.log[position:])
        self._slips.insert(len(self._slips) - later, asked)
        if not later:
            self.slip = asked
        return asked

    def take_slips(self) -> list[SlipSensors]:
        """Where the book was, each time that a status told it since this was last called: none in between is missed."""
        seen, self._slips = self._slips, []
        return seen

    def ask_conditions(self, *, timeout_s: float | None = None) -> Condition:
        """What is wrong with the printer (DLE EOT 2 and 3); works while it is offline."""
        found = escpos.NO_CONDITION
        for request in (escpos.RealTimeRequest.OFFLINE_CAUSE, escpos.RealTimeRequest.ERROR_CAUSE):
            status, _ = self._ask_status(request, tries=1, timeout_s=timeout_s)
            found |= escpos.real_time_conditions(request, status)
        self.conditions = found
        return found

    def check_same_printer_still(self, *, tries: int = ASK_TRIES) -> SlipSensors:
        """Asks where the book is, and notices a printer that forgot to tell it unasked.

        Args:
            tries: 1 where a page is loaded: a printer that was silent may have lost it.

        Raises:
            NoAnswer: It was silent.
            PrinterRestarted: Only asking shows where the book is: the automatic status is off, so the printer
                lost its memory.
        """
        asked = self.ask_slip(tries=tries)
        deadline = self._monotonic() + RESTART_GRACE_S
        while self.armed and not self._agrees(asked):
            left = deadline - self._monotonic()
            if left <= 0:
                raise PrinterRestarted(
                    "the printer was switched off and on: it no longer tells its changes by itself"
                )
            if self.pump(left):
                continue
            asked = self.ask_slip(tries=tries)
        return asked

    def _agrees(self, asked: SlipSensors) -> bool:
        told = self._automatic_slip
        return told is not None and (told.book_in, told.book_out) == (asked.book_in, asked.book_out)

    def fence(self, *, timeout_s: float | None = None) -> None:
        """A reply that proves that all earlier bytes were taken (GS I 1)."""
        self._ask(escpos.LOAD_FENCE, escpos.QueuedStatus, what="GS I 1", timeout_s=timeout_s)

    def identify(self) -> PrinterIdentity:
        """Serial number and model, as far as the profile has them."""
        self.fence()
        serial = self._serial() if self.profile.serial else None
        model: str | None
        match self.profile.model:
            case ModelQuery.TEXT:
                model = self._text(escpos.Identity.MODEL)
            case ModelQuery.ID:
                status = self._ask(
                    escpos.identity(escpos.Identity.MODEL_ID), escpos.QueuedStatus, what="GS I 1"
                )
                model = f"model {status.value:02X}h"
        self.fence()
        return PrinterIdentity(serial=serial or None, model=model)

    def _serial(self) -> str:
        """Asked twice: a serial number that noise has changed would be another printer's."""
        serial = self._text(escpos.Identity.SERIAL_NUMBER)
        if self._text(escpos.Identity.SERIAL_NUMBER) != serial:
            raise ReplyGarbled("the printer told two serial numbers; check its cable")
        return serial

    def _text(self, request: escpos.Identity) -> str:
        return self._ask(
            escpos.identity(request), escpos.TextReply, what=f"GS I {request.value}"
        ).text

    def read_counter(self) -> CounterReading | None:
        """The counter of inked rows, between two fences; None where the profile has none."""
        if not self.profile.counter:
            return None
        self.fence()
        reply, position = self._ask_in_order(
            escpos.counter(self.profile.counter), escpos.TextReply, what="GS g 2"
        )
        if not _DIGITS.fullmatch(reply.text):
            raise ReplyGarbled("the printer's counter is no number of up to 10 digits")
        self.fence()
        return CounterReading(int(reply.text), position)

    def check_completion(self) -> None:
        """Asks for a completion while nothing is printed: whether the printer knows that request."""
        request = escpos.completion_request(self.profile, PROCESS_ID_NOBODYS)
        match self.profile.fence:
            case Fence.PROCESS_ID:
                self._ask(request, escpos.ProcessIdReply, what="GS ( H fn 48")
            case Fence.PAPER_SENSOR:
                self._ask(request, escpos.QueuedStatus, what="ESC v")

    # Acting

    def clear(self) -> None:
        """Makes late printing impossible: drops the host's output and proves the printer's buffers empty (rule 3).

        Raises:
            NoAnswer: It is away, or offline for a reason that ``ask_conditions`` tells.
        """
        self.transport.discard_output()
        self.pump(0)
        since = len(self.log)
        for _ in range(CLEAR_TRIES):
            try:
                self._clear_once(since)
                break
            except NoAnswer:
                self._find_what_hinders(since)
            except WriteStalled:
                # What it does not take would stand before the question.
                self.transport.discard_output()
                self._find_what_hinders(since)
        else:
            raise NoAnswer(
                "the printer answers, but does not clear its buffers; switch it off and on"
            )
        self.page_inside = False
        # What was asked before the clearing may still be on its way.
        self.keep_pending()

    def _clear_once(self, since: int) -> None:
        """One try; a late answer to an earlier one serves as well."""
        match self.profile.clear:
            case ClearMethod.REALTIME:
                self._write(escpos.CLEAR_BUFFERS, timeout_s=CLEAR_WRITE_TIMEOUT_S)
                self._await(escpos.ClearedReply, CLEAR_TIMEOUT_S, since=since, what="DLE DC4 fn 8")
            case ClearMethod.INITIALIZE:
                command = escpos.clear_by_initialize(self.profile) + escpos.LOAD_FENCE
                self._write(command, timeout_s=CLEAR_WRITE_TIMEOUT_S)
                self._await(escpos.QueuedStatus, CLEAR_TIMEOUT_S, since=since, what="ESC @, GS I 1")
                # The reply may have been an older question's: a second one after a quiet line is this one's.
                self.keep_pending()
                self.fence()

    def _find_what_hinders(self, since: int) -> None:
        """A printer that waits for a book or is offline takes nothing else; NULs would fill its buffer."""
        try:
            slip = self.ask_slip(tries=1, timeout_s=AWAY_TIMEOUT_S)
        except NoAnswer:
            if len(self.log) == since:
                raise
            return  # it talks, and is slow
        if slip.waiting:
            self._write(escpos.CANCEL_SLIP_WAITING)
        elif self.ask_conditions(timeout_s=AWAY_TIMEOUT_S) & escpos.FAULTS:
            raise NoAnswer("the printer is offline; close its cover, take out what is jammed")

    def recover(self) -> None:
        """Ends an error whose cause is gone; what was in the buffers is gone too."""
        match self.profile.clear:
            case ClearMethod.REALTIME:
                self.clear()
            case ClearMethod.INITIALIZE:
                self._write(escpos.RECOVER_AND_CLEAR)

    def arm(self) -> None:
        """Switches on what the printer tells by itself: once in a session, after all evidence was read."""
        if self.profile.offline_response:
            self._write(escpos.offline_response(escpos.OfflineReport.WITH_CAUSE))
        self.pump(0)
        self._explained = 1
        self.armed = True
        since = len(self.log)
        self._write(escpos.automatic_status(self.profile.automatic_mask))
        self._await(escpos.AutomaticStatus, self.profile.reply_seconds, since=since, what="GS a")

    def load(self, page: bytes, *, between: Callable[[], None]) -> bool:
        """Loads a page while no book is in; tells whether the fence reply has proven it complete.

        Args:
            page: The bytes of the whole page.
            between: Called between two chunks; may raise to break the load off.

        Raises:
            BookInTheWay: A book was seen in; the load is broken.
            PrinterRestarted: The rest of the page is in a printer that knows nothing of it.
        """

        def look() -> None:
            self._refuse_book()
            between()

        if self.page_inside:
            self.clear()
        self.page_inside = True
        # Some printers say so whenever no book is in; it tells something only where it was not so before.
        waited_before = self.slip is not None and bool(self.slip.waiting)
        for start in range(0, len(page), WRITE_CHUNK_BYTES):
            self.pump(0)
            look()
            self._write(page[start : start + WRITE_CHUNK_BYTES], between=look)
        self.pump(0)
        since = len(self.log)
        self._write(escpos.LOAD_FENCE, between=look)
        return self._await_load_fence(since, look, waited_before=waited_before)

    def _await_load_fence(
        self, since: int, look: Callable[[], None], *, waited_before: bool
    ) -> bool:
        deadline = self._monotonic() + self.profile.page_seconds
        while self._monotonic() < deadline:
            with suppress(NoAnswer):
                self._await(
                    escpos.QueuedStatus, PRINTING_POLL_S, since=since, what="the load's fence"
                )
                self._refuse_book()
                return True
            if self.check_same_printer_still().waiting and not waited_before:
                self.cancel_waiting()
                raise PrinterRestarted(
                    "the printer was switched off and on while the page was being loaded:"
                    " it waits for a book to print on"
                )
            look()
        return False

    def _refuse_book(self) -> None:
        if self.slip is not None and not self.slip.book_out:
            raise BookInTheWay("a book was put in while the page was being loaded; take it out")

    def commit(self, process_id: int, *, between: Callable[[], None]) -> None:
        """The one write that prints: FF and the completion request (rule 6).

        Args:
            process_id: This attempt's.
            between: Called whenever a printer that takes nothing was listened to; may raise to break off.

        Raises:
            LineLost, WriteStalled: Nobody knows what the printer got.
        """
        self._write(escpos.commit(self.profile, process_id), between=between)
        self.page_inside = False

    def cancel_waiting(self) -> None:
        """Ends a printer's waiting for a book (DLE ENQ 3, rule 7)."""
        self._write(escpos.CANCEL_SLIP_WAITING)
        # The clearing or closing that follows drops what has not left the host: an answer proves that it has.
        self.ask_slip(tries=1)

    def close(self) -> None:
        """Ends the session."""
        self.transport.close()
