"""Asks a printer that nobody prints on whether it is what its profile says; it prints nothing and moves no book."""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from agent.clock import sleep
from agent.drivers.book_printer import BookPrinter, CounterReading
from agent.drivers.escpos import FAULTS, AutomaticStatus, Condition, Garbage
from agent.errors import LineLost, LineUnavailable, NoAnswer, ReplyGarbled, WriteStalled
from agent.model import PrinterIdentity

POWER_CYCLE_S = 120.0  # how long a person may take to switch the printer off and on
POWER_LOOK_S = 0.5
POWER_ON_S = 3.0  # how long a printer that has just come back may take to tell its status by itself

ON_FROM_THE_START = (
    "it tells its status without being asked: its automatic status is on after power-on, and a restart could not be noticed;"
    " switch that off (DIP or memory switch, see its manual)"
)


class Trouble(enum.StrEnum):
    """What a person must do something about at a printer or reader."""

    OFFLINE = "offline"
    NOT_PERMITTED = "not-permitted"
    HELD = "held"
    RIVAL = "rival"
    SILENT = "silent"
    COVER_OPEN = "cover-open"
    MEDIA_JAM = "media-jam"
    BOOK_REMOVAL_WANTED = "book-removal-wanted"
    AUTOMATIC_STATUS = "automatic-status"
    UNFIT = "unfit"
    CHANGED = "changed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing about a device; ``condition`` is a Trouble or a printer's own reason, None where all is well."""

    sentence: str
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class Interview:
    """What a printer said of itself.

    Attributes:
        remarks: In the order of the questions; the first silence ends them.
        identity: None where it was not told.
        counter: None where it was not told.
    """

    remarks: tuple[Remark, ...]
    identity: PrinterIdentity | None = None
    counter: int | None = None


def interview(session: BookPrinter, *, used_before: bool) -> Interview:
    """Asks what the profile promises, in the order of a session (CONTRACT section 8 rule 2).

    Args:
        session: A session in which nothing was asked yet.
        used_before: Whether the agent may have switched its automatic status on since its power-on.

    Raises:
        PrinterFault: The line was lost, or takes no bytes.
    """
    remarks: list[Remark] = []
    session.keep_pending()
    if _told_unasked(session) and not used_before:
        remarks.append(Remark(ON_FROM_THE_START, Trouble.AUTOMATIC_STATUS))
    try:
        conditions, book_out = session.ask_conditions(), session.ask_slip().book_out
    except NoAnswer as silence:
        remarks.append(_silence(session, silence))
        return Interview(tuple(remarks))
    remarks.append(Remark("it answers: the line works both ways"))
    if conditions & FAULTS or not book_out:
        remarks.append(_not_ready(conditions))
        return Interview(tuple(remarks))
    answers: list[object] = []
    for ask, override in (
        (session.clear, 'clear = "initialize"'),
        (session.identify, "serial = false"),
        (session.read_counter, "counter = 0"),
        (session.check_completion, 'fence = "paper-sensor"'),
    ):
        try:
            answers.append(ask())
        except (NoAnswer, ReplyGarbled) as fault:
            advice = f"choose the profile that fits it, or say `{override}` in its overrides"
            remarks.append(Remark(f"{fault}; {advice}", Trouble.UNFIT))
            break
    else:
        remarks.append(Remark(f"it knows all that profile {session.profile.name} asks of it"))
    return Interview(
        tuple(remarks),
        identity=next((one for one in answers if isinstance(one, PrinterIdentity)), None),
        counter=next((one.value for one in answers if isinstance(one, CounterReading)), None),
    )


def _told_unasked(session: BookPrinter) -> bool:
    return any(isinstance(said.reply, AutomaticStatus) for said in session.log)


def _silence(session: BookPrinter, silence: NoAnswer) -> Remark:
    if any(isinstance(said.reply, Garbage) for said in session.log):
        return Remark(
            "it answers, but not in ESC/POS: is the baud rate the one that it is set to?",
            Trouble.SILENT,
        )
    return Remark(f"{silence}; check the baud rate and the flow control too", Trouble.SILENT)


def _not_ready(conditions: Condition) -> Remark:
    if conditions & Condition.COVER_OPEN:
        return Remark("its cover is open: close it, then ask again", Trouble.COVER_OPEN)
    if conditions & FAULTS:
        return Remark(
            "it reports an error: take out what is jammed, switch it off and on, then ask again",
            Trouble.MEDIA_JAM,
        )
    return Remark("a book is in it: take it out, then ask again", Trouble.BOOK_REMOVAL_WANTED)


def watch_power_on(
    open_session: Callable[[], BookPrinter], monotonic: Callable[[], float]
) -> Remark:
    """Watches a person switch the printer off and on: does it tell its status by itself then? (CONTRACT section 4.1)."""
    deadline = monotonic() + POWER_CYCLE_S
    session: BookPrinter | None = None
    was_off = False
    try:
        while monotonic() < deadline:
            try:
                session = session or open_session()
                session.ask_conditions()
                if was_off:
                    return _after_power_on(session, monotonic)
                session.forget()  # what it tells before it is switched off may be the agent's doing
                session.pump(POWER_LOOK_S)
            except (NoAnswer, LineLost, LineUnavailable, WriteStalled) as fault:
                was_off = True
                if session is not None and isinstance(fault, LineLost):
                    session.close()
                    session = None
                elif session is not None and isinstance(fault, WriteStalled):
                    with suppress(LineLost):  # the next question finds that too
                        session.transport.discard_output()
                sleep(POWER_LOOK_S)
    finally:
        if session is not None:
            session.close()
    return Remark("it was not switched off and on in time: ask again", Trouble.AUTOMATIC_STATUS)


def _after_power_on(session: BookPrinter, monotonic: Callable[[], float]) -> Remark:
    end = monotonic() + POWER_ON_S
    while (left := end - monotonic()) > 0 and not _told_unasked(session):
        session.pump(left)
    if _told_unasked(session):
        return Remark(ON_FROM_THE_START, Trouble.AUTOMATIC_STATUS)
    return Remark("its automatic status is off after power-on")
