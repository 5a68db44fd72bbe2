"""Builds the station from its settings, starts and stops its threads, and ends the process when one dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from agent import __version__
from agent.alerts import Alerts
from agent.clock import Clock, SystemClock, boot_id
from agent.composer import Composer
from agent.config import BookCheck, Driver, Flow, PrinterSettings, Settings
from agent.config import Transport as Line
from agent.crypto.keys import (
    StationKeys,
    TrustStore,
    load_station_keys,
    load_trust,
    sync_directory,
)
from agent.crypto.receipts import ReceiptSigner, hash_of_signed
from agent.disk import READ_ONLY_ADVICE
from agent.drivers.hotplug import watch_devices
from agent.drivers.profile import Profile, load_profile
from agent.drivers.transport import (
    FlowControl,
    SerialSettings,
    Transport,
    UsbSettings,
    open_transport,
)
from agent.errors import ConfigurationInvalid, PrintAgentError, StationBusy, ThreadStuck
from agent.heartbeat import Heartbeat, Moving
from agent.intake import Intake, journaled_trust
from agent.links.readers import SerialReader
from agent.live import Board, Condition, PrinterView
from agent.logs import start_log
from agent.privacy import place_of
from agent.queue import start, witness
from agent.queue.damage import DAMAGES, damaged
from agent.queue.group_commit import GroupCommit
from agent.queue.journal import Journal, Reader
from agent.reserve import Reserve
from agent.selftest import Finding, examine
from agent.service_manager import ServiceManager, error_line
from agent.station import Station
from agent.ups import Ups
from agent.worker import RECONNECT_S, PrinterWorker, WorkerSettings

_log = logging.getLogger(__name__)

TICK_S = 1.0
STOP_TIMEOUT_S = 10.0  # beyond the page that may be printing
LINKS_STOP_S = 30.0  # for calls under way, the file at hand and the last commit
VIRTUAL_BAUDRATE = 115_200
# Where udev tells of devices, for what it does not tell: a port that another program gives back.
REOPEN_TOLD_S = 3.0
EXIT_FAILED = 1


def line_of(printer: PrinterSettings) -> SerialSettings | UsbSettings:
    """Where a real printer is found."""
    if printer.transport is Line.USB:
        vendor, product = (int(part, 16) for part in (printer.usb or "").split(":"))
        return UsbSettings(vendor, product, printer.usb_serial)
    return SerialSettings(str(printer.port), printer.baudrate, FlowControl(printer.flow.value))


@contextlib.contextmanager
def hold_state_directory(settings: Settings) -> Iterator[None]:
    """Only one agent works on a state directory.

    Raises:
        StationBusy: Another one does.
        ConfigurationInvalid: The directory cannot be used.
    """
    directory = settings.station.state_dir
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        advice = (
            READ_ONLY_ADVICE
            if error.errno == errno.EROFS
            else "it must be a folder that this user may write"
        )
        raise ConfigurationInvalid(
            f"station.state_dir: {directory} cannot be used ({error.strerror}); {advice}"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StationBusy(
                f"another agent works on {directory}; stop it first (`systemctl status print-agent`)"
            ) from None
        yield
    finally:
        os.close(descriptor)


def open_journal(
    settings: Settings, *, clock: Clock, path: Path | None = None
) -> tuple[Journal, StationKeys]:
    """The journal, signed by the station's keys; a rotated key takes over from the one before.

    Args:
        settings: The station's.
        clock: Time.
        path: Where it lies, where that is not the journal's own place; it is made where there never was one.

    Raises:
        ConfigurationInvalid: The keys cannot be read, or are not this journal's.
        JournalDamaged: The journal cannot be trusted.
    """
    keys = load_station_keys(settings.keys.station, sealed=settings.keys.sealed)
    path = path or settings.journal_path
    witness.check(path, hash_of_signed)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        sync_directory(path.parent)
    journal = Journal.open(
        path,
        signer=ReceiptSigner(keys.signing),
        station_id=settings.station.id,
        authority_id=settings.authority.id,
        clock=clock,
    )
    last = start.last_signer_kid(journal.read())
    before = keys.signer(last) if last is not None else None
    start.take_signer(
        journal,
        ReceiptSigner(keys.signing),
        before=None if before is None else ReceiptSigner(before),
        public_jwks=keys.public_jwks(),
    )
    return journal, keys


class TrustInForce:
    """The trust store of the file, or of the journal once a `trust` directive came."""

    def __init__(self, file: TrustStore, reader: Callable[[], Reader]) -> None:
        self._reader = reader
        self._version: int | None = None
        self._store = file

    def __call__(self) -> TrustStore:
        reader = self._reader()
        version = reader.station("trust_version")
        if version is not None and version != self._version:
            self._store = journaled_trust(reader)
            self._version = version
        return self._store


class Service:
    """The station with its threads.

    Args:
        settings: The configuration.
        clock: Time.
        manager: What started the process.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.manager = manager or ServiceManager({})
        self.manager.forget_all_but(map(_kept_name, settings.printers))
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._parts: list[Callable[[], None]] = []
        self._moving: dict[str, Moving] = {}
        self.findings = self._examine()
        profiles = {
            name: load_profile(printer.profile, printer.overrides)
            for name, printer in settings.printers.items()
        }
        trust = load_trust(settings.authority.trust)
        self.reserve = Reserve(settings.station.state_dir / "reserve")
        if not self.reserve.has_room():
            # What has begun must be told to its end, also by a station that starts on a full disk.
            self.reserve.release()
        journal, self.keys = open_journal(settings, clock=self.clock)
        self.reserve.keep()
        self.commits = GroupCommit(journal, failed=self.fail, make_room=self.reserve.release)
        begun = journal.write(
            partial(
                start.begin,
                boot=boot_id(),
                version=__version__,
                book_checks={
                    name: printer.book_check.value for name, printer in settings.printers.items()
                },
            )
        )
        self._witness = witness.Witness(journal)
        self._hotplug = watch_devices(self._device_appeared)
        self.ups = (
            None
            if settings.ups is None
            else Ups(settings.ups.name, settings.ups.upsd, changed=self._power_changed)
        )
        board = Board()
        intake = Intake(
            self.commits,
            trust=TrustInForce(trust, self.commits.read),
            keys=lambda: self.keys,
            station_id=settings.station.id,
            authority_id=settings.authority.id,
            clock=self.clock,
            has_room=self.reserve.has_room,
            documents_days=settings.retention.documents_days,
        )
        composers = {
            name: self._composer(printer, profiles[name])
            for name, printer in settings.printers.items()
        }
        workers = {}
        for name, printer in settings.printers.items():
            board.add(PrinterView(name=name, profile=profiles[name].name))
            workers[name] = PrinterWorker(
                WorkerSettings(
                    name=name,
                    profile=profiles[name],
                    book_check=printer.book_check is BookCheck.PRESENT,
                    read_back=printer.verify.value,
                    run=begun.run,
                    boot=begun.boot,
                    xonxoff=printer.flow is Flow.XONXOFF and printer.driver is not Driver.VIRTUAL,
                    reopen_s=self._reopen_s(printer),
                ),
                journal=self.commits,
                board=board,
                clock=self.clock,
                composer=composers[name],
                open_line=partial(self._open_line, name, printer),
                ahead=self._run_ahead,
                power=self._refused_by_power,
            )
        self.station = Station(
            settings,
            commits=self.commits,
            intake=intake,
            board=board,
            workers=workers,
            composers=composers,
            keys=lambda: self.keys,
            clock=self.clock,
            failed=self.fail,
        )
        self.station.overview.sources += [self._unsafe_disk, self.reserve.conditions]
        if self.ups is not None:
            self.station.overview.sources.append(self.ups.conditions)
        self.alerts = Alerts(
            settings.station.id,
            settings.alerts,
            conditions=self.station.overview.conditions,
            clock=self.clock,
        )
        self.station.overview.sources.append(self.alerts.conditions)
        self._readers = [
            SerialReader(
                name,
                reader,
                self.station,
                reopen_s=RECONNECT_S if self._hotplug is None else REOPEN_TOLD_S,
            )
            for name, reader in settings.readers.items()
        ]

    def _examine(self) -> tuple[Finding, ...]:
        """The self-test; what the station cannot start with is raised.

        Raises:
            PrintAgentError: One line that says what to do.
        """
        findings = []
        for finding in examine(self.settings, clock=self.clock):
            if finding.error is not None:
                raise finding.error
            findings.append(finding)
        return tuple(findings)

    def _unsafe_disk(self) -> list[Condition]:
        return [
            Condition(finding.condition, finding.sentence)
            for finding in self.findings
            if finding.condition == "disk-unsafe"
        ]

    def _refused_by_power(self, seconds: float) -> str | None:
        return None if self.ups is None else self.ups.refusal(seconds)

    def _power_changed(self) -> None:
        self.alerts.wake()
        for worker in self.station.workers.values():
            worker.wake()

    def _composer(self, printer: PrinterSettings, profile: Profile) -> Composer:
        return Composer(
            keys=lambda: self.keys,
            profile=profile,
            offset_mm=printer.offset_mm,
            specimen=printer.driver is Driver.VIRTUAL,
        )

    def _reopen_s(self, printer: PrinterSettings) -> float:
        told = self._hotplug is not None and printer.driver is not Driver.VIRTUAL
        return REOPEN_TOLD_S if told else RECONNECT_S

    def _device_appeared(self) -> None:
        for worker in self.station.workers.values():
            worker.device_appeared()
        for reader in self._readers:
            reader.device_appeared()

    def _run_ahead(self, task: Callable[[], None]) -> None:
        self._start_thread("compose", task)

    def _open_line(self, name: str, printer: PrinterSettings) -> Transport:
        if printer.driver is Driver.VIRTUAL:
            from agent.drivers.virtual.client import spawn

            with spawn(
                self.settings.station.state_dir / "virtual" / name,
                kind=printer.profile,
                agent_socket=self.settings.http.socket,
                printer=name,
            ) as client:
                port = str(client.port)
            return open_transport(SerialSettings(port, VIRTUAL_BAUDRATE, FlowControl.NONE))
        line = line_of(printer)
        if isinstance(line, UsbSettings):
            return open_transport(line)
        return self._open_serial(_kept_name(name), line)

    def _open_serial(self, kept_name: str, settings: SerialSettings) -> Transport:
        """Opens a port that stays open over a crash: what its printer says meanwhile is not lost."""
        from agent.drivers.transport_serial import open_serial, release

        kept = self.manager.kept(kept_name)
        if kept is not None:
            release(kept)
        line = open_serial(settings)
        self.manager.keep(kept_name, line.descriptor)
        return line

    # Threads

    def _start_thread(self, name: str, task: Callable[[], None]) -> threading.Thread:
        def supervised() -> None:
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - a raise in a thread must end the process
                self.fail(error)

        thread = threading.Thread(target=supervised, name=name, daemon=True)
        thread.start()
        return thread

    def fail(self, error: BaseException) -> None:
        """A part died: the process ends, the service manager starts it again, recovery runs."""
        if self.failure is None:
            self.failure = error
        self._stop.set()

    def start(self) -> None:
        """Starts the journal's thread, the links and the printers' workers."""
        self.commits.start()
        self._moving["journal"] = self.commits
        if self.ups is not None:
            self._start_thread("ups", self.ups.run)
            self._parts.append(self.ups.stop)
            self._moving["ups"] = self.ups
        self._serve()
        for reader in self._readers:
            self._start_thread(f"reader-{reader.name}", reader.run)
            self._parts.append(reader.stop)
            self._moving[f"reader {reader.name}"] = reader
        if self._hotplug is not None:
            self._start_thread("hotplug", self._hotplug.run)
            self._parts.append(self._hotplug.stop)
        self._start_thread("alerts", self.alerts.run)
        self._parts.append(self.alerts.stop)
        for worker in self.station.workers.values():
            self._threads.append(self._start_thread(f"printer-{worker.name}", worker.run))
            self._moving[f"printer {worker.name}"] = worker
        for finding in self.findings:
            level = logging.INFO if finding.condition is None else logging.WARNING
            told = {"part": finding.part.value, "sentence": finding.sentence}
            _log.log(level, "self-test", extra=told | {"condition": finding.condition})
        _log.info("serving", extra={"version": __version__})

    def _serve(self) -> None:
        from agent.links.http_server import HttpServer
        from agent.links.inbox import Inbox

        server = HttpServer(self.station, self.settings)
        server.start()
        self._parts.append(server.stop)
        inbox = Inbox(
            self.station,
            self.settings.inbox.directory,
            accepted_days=self.settings.retention.accepted_days,
        )
        inbox.start()
        self._parts.append(inbox.stop)
        self._moving |= {"http": server, "inbox": inbox}
        if self.settings.mqtt is not None:
            from agent.links.mqtt import MqttLink

            link = MqttLink(self.station, self.settings.mqtt, inbox.refused_folder)
            self.station.overview.sources.append(link.conditions)
            link.start()
            self._parts.append(link.stop)
            self._moving["mqtt"] = link

    def wait(self) -> None:
        """Lets time pass until the service is to stop."""
        heartbeat = Heartbeat(self._moving)
        while not self._stop.wait(TICK_S):
            self.station.tick()
            self.reserve.keep()
            stuck = heartbeat.look()
            if stuck is None:
                self.manager.alive()
            else:
                self.fail(ThreadStuck(f"the part {stuck} does not move any more"))

    def ask_to_stop(self) -> None:
        """Ends ``wait``."""
        self._stop.set()

    def stop(self) -> None:
        """Ends in order: no new commit, a committed page is waited for, then the links, then the journal."""
        pages_s = max(worker.profile.page_seconds for worker in self.station.workers.values())
        self.manager.stopping(within_s=pages_s + STOP_TIMEOUT_S + LINKS_STOP_S)
        for worker in self.station.workers.values():
            worker.stop()
        for thread, worker in zip(self._threads, self.station.workers.values(), strict=True):
            thread.join(worker.profile.page_seconds + STOP_TIMEOUT_S)
            self.manager.forget(_kept_name(worker.name))
        for stop_part in reversed(self._parts):
            stop_part()
        if self.failure is None:
            self.commits.stop()
            self._witness.close()
            self.commits.journal.close()


def _kept_name(printer: str) -> str:
    return f"printer-{printer}"


def run(settings: Settings) -> int:
    """Runs the station until SIGTERM or SIGINT; gives the exit code."""
    manager = ServiceManager(os.environ)
    with hold_state_directory(settings):
        service = Service(settings, manager=manager)
        # From here on: what the station cannot start with stays one line.
        log = start_log(sys.stderr)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.ask_to_stop())
        service.start()
        manager.ready()
        service.wait()
        if service.failure is None:
            service.stop()
            _log.info("stopped")
            log.close()
            return 0
        log.close()
        _explain(service.failure, settings.journal_path)
        # A part of the station died: nothing more is to be trusted in this process.
        os._exit(EXIT_FAILED)


def _explain(failure: BaseException, journal: Path) -> None:
    if isinstance(failure, DAMAGES):
        failure = damaged(journal, failure)
    if isinstance(failure, PrintAgentError):
        sentence = str(failure)
    else:
        sentence = f"stopped by {place_of(failure)}; it starts again and recovers from the journal"
    sys.stderr.write(error_line(sentence))
    sys.stderr.flush()
