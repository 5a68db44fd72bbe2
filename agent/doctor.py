"""What `print-agent doctor` finds: the self-test, the running agent's own words, and each device as it lies there.

A running agent is never disturbed: a printer that it may hold is asked of the agent, and no line is opened beside it.
Nor is evidence: while an attempt is open, nobody but the agent reads what the printer still says.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agent.clock import Clock
from agent.config import Driver, Flow, PrinterSettings, Settings
from agent.drivers import device_access
from agent.drivers.book_printer import BookPrinter
from agent.drivers.device_access import User
from agent.drivers.interview import Interview, Remark, Trouble, interview, watch_power_on
from agent.drivers.profile import Profile, load_profile
from agent.drivers.transport import SerialSettings, UsbSettings, open_transport
from agent.errors import JournalDamaged, PrintAgentError, PrinterFault
from agent.page.geometry import PAGE_HEIGHT_MM, PAGE_WIDTH_MM
from agent.queue import attempts
from agent.queue.journal import Reader, open_reader
from agent.selftest import Finding, Part, examine, from_journal
from agent.service import line_of

MM_PER_INCH = 25.4


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """What the agent that runs says.

    Attributes:
        process: Its process id.
        status: ``GET /v1/status``.
        printers: ``GET /v1/printers``.
    """

    process: int
    status: dict[str, Any]
    printers: list[dict[str, Any]]

    def printer(self, name: str) -> dict[str, Any] | None:
        """What it says of one printer; None where it was started with another configuration."""
        return next((one for one in self.printers if one["name"] == name), None)


class AttemptOpen(PrintAgentError):
    """A printer holds evidence of an attempt that nobody has judged yet."""


@dataclass(frozen=True, slots=True)
class PowerCycle:
    """A person switches a printer off and on while the doctor listens.

    Attributes:
        printer: Its name.
        tell: Says to the person what to do now.
    """

    printer: str
    tell: Callable[[str], None]


def diagnose(
    settings: Settings,
    *,
    clock: Clock,
    agent: RunningAgent | None,
    power_cycle: PowerCycle | None = None,
) -> Iterator[Finding]:
    """The findings, in the order in which one thing needs another.

    Args:
        settings: The station's configuration.
        clock: Time.
        agent: What the agent says, None while it does not run.
        power_cycle: For the one check that needs a person's hand.
    """
    usable = True
    for finding in examine(settings, clock=clock):
        # What the self-test says of printers is said below in more words.
        if finding.part is not Part.PRINTER:
            yield finding
        elif finding.error is not None:
            usable = False
            yield finding
    doctor = _Doctor(settings, clock, agent, _user(settings, agent), power_cycle)
    yield from doctor.modes()
    yield from doctor.socket()
    if usable:
        for name, printer in settings.printers.items():
            for remark in doctor.printer(name, printer):
                yield _finding(Part.PRINTER, name, remark)
    for name, reader in settings.readers.items():
        for remark in doctor.port(str(reader.port), f"readers.{name}.port"):
            yield _finding(Part.READER, name, remark)
    yield from doctor.words_of_the_agent()


def _finding(part: Part, name: str, remark: Remark) -> Finding:
    condition = None if remark.condition is None else f"{part}-{remark.condition}"
    return Finding(part, f"{name}: {remark.sentence}", condition)


def _user(settings: Settings, agent: RunningAgent | None) -> User | None:
    """Who the agent runs as, or would."""
    try:
        if agent is not None:
            return User.of_process(agent.process)
        return User.of_owner(settings.station.state_dir)
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class _Doctor:
    """What all looks need to know."""

    settings: Settings
    clock: Clock
    agent: RunningAgent | None
    user: User | None
    power_cycle: PowerCycle | None

    def words_of_the_agent(self) -> Iterator[Finding]:
        """The conditions that only a running agent knows."""
        if self.agent is None:
            cut_off = from_journal(self.settings, self._cut_off)
            start = "start it with `systemctl start print-agent`"
            if cut_off:
                books = ", ".join(cut_off)
                yield Finding(
                    Part.AGENT,
                    f"the agent does not run, and what became of book {books} is open: leave it where it is, and {start}",
                    "not-running",
                )
            else:
                yield Finding(Part.AGENT, f"the agent does not run: {start}")
            return
        told = [
            one
            for one in self.agent.status["conditions"]
            # Printers and readers were looked at in their own place.
            if not one["name"].startswith(("printer-", "reader-"))
        ]
        for one in told:
            yield Finding(Part.AGENT, one["detail"], one["name"])
        if not told:
            yield Finding(Part.AGENT, "the agent runs and wants nothing")

    def modes(self) -> Iterator[Finding]:
        """Whether others may look into the station's state."""
        for path, mode in (
            (self.settings.station.state_dir, 0o700),
            (self.settings.journal_path, 0o600),
        ):
            try:
                others = path.stat().st_mode & 0o077
            except OSError:
                continue  # the self-test says so
            if others:
                yield Finding(
                    Part.DISK, f"others may look into {path}: `chmod {mode:o} {path}`", "state-open"
                )

    def socket(self) -> Iterator[Finding]:
        """Who may talk to the agent."""
        path = self.settings.http.socket
        if self.agent is not None and path.is_socket():
            group = device_access.group_of(str(path))
            yield Finding(Part.LINK, f"users in the group {group} may talk to the agent")

    # Devices as they lie there, without opening them

    def printer(self, name: str, printer: PrinterSettings) -> Iterator[Remark]:
        """One printer: its page, its device, and what it or its agent says."""
        profile = load_profile(printer.profile, printer.overrides)
        yield from _page(profile)
        troubles: set[str | None] = set()
        if printer.driver is Driver.VIRTUAL:
            yield Remark("it is the virtual one, for trials")
        else:
            remarks = list(self.device(line_of(printer), key=f"printers.{name}.port"))
            yield from remarks
            troubles = {remark.condition for remark in remarks} - {None}
            if self.agent is None and not troubles:
                yield from self.ask(name, printer, profile)
        if self.agent is not None:
            shown = _shown(self.agent.printer(name))
            # A printer that is not there is also away for the agent: one thing to do.
            if shown.condition not in troubles:
                yield shown

    def device(self, line: SerialSettings | UsbSettings, *, key: str) -> Iterator[Remark]:
        """Whether a printer is there, and nothing stands in its way."""
        match line:
            case SerialSettings():
                yield from self.port(line.port, key)
            case UsbSettings():
                yield from self.usb(line)

    def port(self, port: str, key: str) -> Iterator[Remark]:
        """A serial port."""
        if not os.path.exists(port):
            there = ", ".join(device_access.serial_ports()) or "none at all"
            yield Remark(
                f"{port} is not there: plug the device in and switch it on, or correct {key}; serial ports that are"
                f" there: {there}",
                Trouble.OFFLINE,
            )
            return
        yield from self.access(port)
        if device_access.modem_manager_reaches_for(port):
            yield Remark(
                f"ModemManager may take {port} for a modem and write to it: install the udev rules and mark the device"
                " in them",
                Trouble.RIVAL,
            )
        for queue in device_access.cups_queues(port=port):
            yield Remark(
                f"CUPS prints on {port} too: `lpadmin -x {queue}` ends that", Trouble.RIVAL
            )

    def usb(self, line: UsbSettings) -> Iterator[Remark]:
        """A USB printer."""
        from agent.drivers.transport_usb import connected

        wanted = f"{line.vendor:04x}:{line.product:04x}"
        devices = connected()
        alike = [one for one in devices if one.numbers == wanted]
        found = [one for one in alike if line.serial is None or one.serial in (line.serial, None)]
        if not found:
            others = alike or [one for one in devices if one.printer]
            there = ", ".join(f"{one.numbers} with serial number {one.serial}" for one in others)
            yield Remark(
                f"USB {wanted} is not connected: plug it in and switch it on, or correct usb and usb_serial; printers that"
                f" are there: {there or 'none at all'}",
                Trouble.OFFLINE,
            )
        elif len(found) > 1:
            yield Remark(
                f"{len(found)} USB devices are {wanted}: say which with usb_serial", Trouble.OFFLINE
            )
        else:
            if found[0].path is not None:
                yield from self.access(found[0].path)
            if found[0].kernel_driver:
                yield Remark(
                    "the kernel's driver (usblp) has it; the agent takes it, and gives it back"
                )
        for queue in device_access.cups_queues(usb_serial=line.serial):
            yield Remark(f"CUPS prints on it too: `lpadmin -x {queue}` ends that", Trouble.RIVAL)

    def access(self, path: str) -> Iterator[Remark]:
        """Who may open a device file, and who has."""
        if self.user is not None and not self.user.may_use(path):
            group = device_access.group_of(path)
            yield Remark(
                f"the agent's user {self.user.name} may not use {path}: install the udev rules, or"
                f" `usermod -aG {group} {self.user.name}`, and restart the agent",
                Trouble.NOT_PERMITTED,
            )
        held = device_access.holders(path, but=None if self.agent is None else self.agent.process)
        if held and not device_access.is_pty(path):
            yield Remark(
                f"{path} is held by {', '.join(held)}: stop it, or keep it off", Trouble.HELD
            )

    def _cut_off(self, reader: Reader) -> list[str]:
        """The books of attempts that the agent left open."""
        return [
            attempt.book
            for name in self.settings.printers
            for attempt in attempts.unfinished(reader, name)
        ]

    # Asking a printer while no agent runs

    def known_of(self, printer: str) -> dict[str, Any]:
        """What the journal knows of a printer; nothing where it never saw one.

        Raises:
            AttemptOpen: Only the agent may talk to it.
            JournalDamaged: Nobody can know that.
        """
        path = self.settings.journal_path
        if not path.exists():
            return {}
        with open_reader(path, station_id=self.settings.station.id) as reader:
            if attempts.unfinished(reader, printer):
                raise AttemptOpen(
                    "what it still says may prove whether a book was printed, and only the agent may read that; start the"
                    " agent"
                )
            return reader.get("printers", printer) or {}

    def ask(self, name: str, printer: PrinterSettings, profile: Profile) -> Iterator[Remark]:
        """What the printer itself says."""
        try:
            known = self.known_of(name)
        except (AttemptOpen, JournalDamaged) as error:
            yield Remark(f"it is not asked now: {error}")
            return

        def open_session() -> BookPrinter:
            xonxoff = printer.flow is Flow.XONXOFF
            transport = open_transport(line_of(printer))
            return BookPrinter(transport, profile, self.clock.monotonic, xonxoff=xonxoff)

        try:
            with contextlib.closing(open_session()) as session:
                stopped = _stopped_by(session)
                if stopped is not None:
                    yield stopped
                    return
                yield from _words_of_usb(session)
                said = interview(session, used_before=bool(known))
            yield from said.remarks
            yield from _identity(said, profile, known)
            if self.power_cycle is None or self.power_cycle.printer != name:
                if known:
                    yield Remark(
                        "whether its automatic status is off after power-on shows"
                        f" `print-agent doctor --power-cycle {name}`"
                    )
                return
            self.power_cycle.tell(f"switch printer {name} off, count to five, switch it on")
            yield watch_power_on(open_session, self.clock.monotonic)
        except PrinterFault as fault:
            yield Remark(str(fault), Trouble.OFFLINE)


def _page(profile: Profile) -> Iterator[Remark]:
    """Whether the data page fits on what the profile says that the printer can print."""
    for size_mm, dpi, dots, key in (
        (PAGE_WIDTH_MM, profile.dpi_x, profile.width, "width"),
        (PAGE_HEIGHT_MM, profile.dpi_y, profile.height, "height"),
    ):
        needed = round(size_mm / MM_PER_INCH * dpi)
        if dots < needed:
            yield Remark(
                f"the page needs {needed} dots, the profile's {key} is {dots}: the rest would be cut off; say {key} = {needed}"
                " in its overrides, if the printer can print so many",
                Trouble.UNFIT,
            )


def _shown(view: dict[str, Any] | None) -> Remark:
    """What the agent says of a printer that is its own."""
    if view is None:
        return Remark(
            "the agent does not know it: it runs with an older configuration, restart it",
            Trouble.UNKNOWN,
        )
    if view["state"] == "stopped":
        return Remark(view["detail"], view["reasons"][0].removeprefix("printer-"))
    who = ", ".join(
        f"{word} {view[key]}"
        for word, key in (("model", "model"), ("serial number", "serial"), ("counter", "counter"))
        if view[key] is not None
    )
    return Remark(f"the agent has it, {view['state']}" + (f": {who}" if who else ""))


def _stopped_by(session: BookPrinter) -> Remark | None:
    """What keeps every byte from a serial printer."""
    from agent.drivers.transport_serial import SerialTransport

    line = session.transport
    if not isinstance(line, SerialTransport) or line.sends_freely:
        return None
    return Remark(
        'CTS is off, and with flow = "rtscts" nothing is sent until it is on: switch the printer on, use a cable with all'
        ' lines, or set printer and flow to "xonxoff"',
        Trouble.SILENT,
    )


def _words_of_usb(session: BookPrinter) -> Iterator[Remark]:
    """What a USB printer says outside its own language."""
    from agent.drivers.transport_usb import UsbTransport

    line = session.transport
    if not isinstance(line, UsbTransport):
        return
    device_id, port_status = line.device_id(), line.port_status()
    if device_id:
        yield Remark(f"USB device id {device_id}")
    if port_status is not None and port_status.error:
        yield Remark("its USB port reports an error; what follows should say which")


def _identity(said: Interview, profile: Profile, known: dict[str, Any]) -> Iterator[Remark]:
    if said.identity is None:
        return
    serial = said.identity.serial
    if profile.serial and serial is None:
        yield Remark(
            "it has an empty serial number: say serial = false in its overrides", Trouble.UNFIT
        )
    elif known.get("serial") not in (None, serial):
        yield Remark(
            f"its serial number is {serial}, that of the last one was {known['serial']}: the agent will not print on it until"
            " a technician accepts it (`print-agent printer accept`)",
            Trouble.CHANGED,
        )
    counter = "" if said.counter is None else f", counter {said.counter} ({profile.counter_kept})"
    yield Remark(f"model {said.identity.model}, serial number {serial or 'none'}{counter}")
