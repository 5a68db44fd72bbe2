"""What a station stands on, looked at in order: disk, journal, keys, clock, printer, link; a sentence each.

`run` looks before it builds the station, `status` and `doctor` while it does not run. A look changes nothing.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent import disk
from agent.clock import Clock
from agent.config import Driver, Settings, Transport
from agent.crypto.jose import thumbprint
from agent.crypto.keys import TrustStore, load_station_keys, load_trust
from agent.crypto.receipts import hash_of_signed
from agent.drivers.profile import load_profile
from agent.errors import ConfigurationInvalid, JournalDamaged, PrintAgentError
from agent.intake import journaled_trust
from agent.owner import as_owner, give_back
from agent.page.fonts import check_fonts
from agent.queue import witness
from agent.queue.journal import Reader, open_reader
from agent.queue.known_time import KnownTime, moment_text
from agent.reserve import ROOM_MIN_BYTES

_Told = TypeVar("_Told")


class Part(enum.StrEnum):
    """What is looked at; the order is that in which one thing needs another."""

    DISK = "disk"
    JOURNAL = "journal"
    KEYS = "keys"
    CLOCK = "clock"
    PRINTER = "printer"
    LINK = "link"
    # What only `doctor` looks at.
    READER = "reader"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part.

    Attributes:
        part: What was looked at.
        sentence: What is there; where that is not good, what to do.
        condition: The condition's name, None where all is well.
        error: Where the station cannot start with it.
    """

    part: Part
    sentence: str
    condition: str | None = None
    error: PrintAgentError | None = None


def examine(settings: Settings, *, clock: Clock) -> Iterator[Finding]:
    """The findings of all parts in their order; one that cannot be used does not hide the others."""
    for part, look in _LOOKS.items():
        # Root may read what the agent may not. Who may open a device is not its owner's affair alone.
        eyes = nullcontext() if part is Part.PRINTER else as_owner(settings.station.state_dir)
        with eyes:
            findings = list(_told(part, look(settings, clock)))
        yield from findings


def _told(part: Part, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings, and what ended them."""
    try:
        yield from findings
    except PrintAgentError as error:
        yield Finding(part, str(error), f"{part}-unusable", error)
    except OSError as error:
        told = ConfigurationInvalid(
            f"{error.filename}: cannot be looked at ({error.strerror}); use sudo, or the agent's user"
        )
        yield Finding(part, str(told), f"{part}-unusable", told)


def _disk(settings: Settings, _: Clock) -> Iterator[Finding]:
    directory = settings.station.state_dir
    place = "station.state_dir"
    mount = disk.mount_of(directory)
    if mount is not None and _is_read_only(mount):
        raise ConfigurationInvalid(
            f"{place}: {mount.point} is mounted read-only; {disk.READ_ONLY_ADVICE}"
        )
    if not _exists(directory) or not directory.is_dir():
        raise ConfigurationInvalid(
            f"{place}: there is no folder {directory}; make it, owned by the agent's user with mode 0700"
        )
    if not _may(directory, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationInvalid(
            f"{place}: this user may not write {directory}; use sudo, or give it to the agent's user (chown, mode 0700)"
        )
    told = []
    if mount is not None:
        try:
            dangers = disk.dangers_of(mount)
        except disk.Refused as refused:
            raise ConfigurationInvalid(f"{place}: {refused}") from None
        for danger in dangers:
            yield Finding(Part.DISK, danger, "disk-unsafe")
        told.append(f"{mount.kind} on {mount.source}")
        cache = disk.write_cache_of(mount)
        if cache == "write back":
            told.append("its write cache is flushed at every commit")
        elif cache is not None:
            told.append(
                "the kernel sees no write cache: right for a disk without one; where it has one (USB bridges hide it),"
                " switch it off with `hdparm -W 0`"
            )
    free = disk.free_bytes(directory)
    if free < ROOM_MIN_BYTES:
        yield Finding(
            Part.DISK,
            f"{directory} has {free} bytes left: free some room, new authorizations are refused",
            "disk-full",
        )
    told.append(f"{free // 1024**2} MiB free")
    yield Finding(Part.DISK, f"{directory}: {'; '.join(told)}")


def _journal(settings: Settings, _: Clock) -> Iterator[Finding]:
    path = settings.journal_path
    if _is_read_only(disk.mount_of(path.parent)):
        yield Finding(Part.JOURNAL, f"{path}: cannot be opened before its disk can be written")
        return
    for file in (path, path.with_name(f"{path.name}-wal"), witness.witness_path(path)):
        if _exists(file) and not _may(file, os.R_OK):
            raise ConfigurationInvalid(f"{file}: this user may not read it; {give_back(file)}")
    witness.check(path, hash_of_signed)
    if not _exists(path):
        yield Finding(Part.JOURNAL, f"{path}: none yet, the first start makes it")
        return
    with open_reader(path, station_id=settings.station.id) as reader:
        receipts = reader.value("SELECT coalesce(max(seq), 0) FROM events")
        jobs = reader.value(
            "SELECT count(*) FROM jobs WHERE phase NOT IN ('completed', 'canceled', 'aborted')"
        )
        rolled_back, retired = reader.station("rolled_back"), reader.station("retired")
    yield Finding(Part.JOURNAL, f"{path}: {receipts} receipts, {jobs} jobs that have not ended")
    if rolled_back:
        yield Finding(
            Part.JOURNAL,
            "the journal is older than the truth: printing waits for the authority's `resume`; accepting goes on",
            "journal-rolled-back",
        )
    if retired:
        yield Finding(Part.JOURNAL, "this station prints nothing any more", "retired")


def _is_read_only(mount: disk.Mount | None) -> bool:
    return mount is not None and "ro" in mount.options


def _keys(settings: Settings, _: Clock) -> Iterator[Finding]:
    if settings.keys.sealed and "CREDENTIALS_DIRECTORY" not in os.environ:
        told = "the station's keys are sealed, only the service can open them"
    else:
        keys = load_station_keys(settings.keys.station, sealed=settings.keys.sealed)
        told = f"receipts are signed with {keys.signing.kid}"
    trusted = load_trust(settings.authority.trust)
    trusted = from_journal(settings, _renewed_trust) or trusted
    prints = [f"{key.role} {thumbprint(key.jwk)}" for key in trusted.keys.values()]
    yield Finding(Part.KEYS, f"{told}; trusted of the authority are {', '.join(prints)}")


def _renewed_trust(reader: Reader) -> TrustStore | None:
    """What outranks the file."""
    return None if reader.station("trust_version") is None else journaled_trust(reader)


def _clock(settings: Settings, clock: Clock) -> Iterator[Finding]:
    time = KnownTime(
        from_journal(settings, lambda reader: reader.value("SELECT value FROM known_time"))
    )
    now = clock.now()
    time.started(now, clock.monotonic())
    doubt = time.doubt(now)
    if doubt is not None:
        yield Finding(Part.CLOCK, doubt, "clock-untrusted")
    elif time.known is not None:
        yield Finding(Part.CLOCK, "the clock agrees with all that the station has seen")
    else:
        # A clock far ahead would be behind its own first receipt for ever, once it is set right.
        first = not _exists(settings.journal_path)
        advice = "; if that is wrong, set it right before the first start" if first else ""
        yield Finding(
            Part.CLOCK,
            f"the clock says {moment_text(now)}, and nothing else is known of the time{advice}",
        )


def from_journal(settings: Settings, ask: Callable[[Reader], _Told | None]) -> _Told | None:
    """What the journal says; None where it says nothing: what is wrong with it is said in its own place."""
    with suppress(JournalDamaged, OSError):
        if _exists(settings.journal_path):
            with open_reader(settings.journal_path, station_id=settings.station.id) as reader:
                return ask(reader)
    return None


def _printer(settings: Settings, _: Clock) -> Iterator[Finding]:
    check_fonts()
    for name, printer in settings.printers.items():
        load_profile(printer.profile, printer.overrides)
        if printer.driver is Driver.VIRTUAL:
            yield Finding(Part.PRINTER, f"{name}: the virtual printer, for trials")
        elif printer.transport is Transport.USB:
            yield Finding(Part.PRINTER, f"{name}: USB device {printer.usb}")
        else:
            yield _port(name, printer.port or Path())


def _port(name: str, port: Path) -> Finding:
    if not _exists(port):
        return Finding(
            Part.PRINTER,
            f"{name}: {port} is not there: plug the printer in and switch it on, or correct printers.{name}.port",
            "printer-offline",
        )
    if not _may(port, os.R_OK | os.W_OK):
        return Finding(
            Part.PRINTER,
            f"{name}: this user may not use {port}: use sudo, or add the agent's user to the group that `ls -lL {port}` names",
            "printer-offline",
        )
    return Finding(Part.PRINTER, f"{name}: {port}")


def _link(settings: Settings, _: Clock) -> Iterator[Finding]:
    inbox = settings.inbox.directory
    if _exists(inbox) and not (inbox.is_dir() and _may(inbox, os.R_OK | os.X_OK)):
        raise ConfigurationInvalid(
            f"inbox.directory: {inbox} is no folder that this user may use; {give_back(inbox)}"
        )
    authority, mqtt = settings.http.authority, settings.mqtt
    files: list[tuple[str, Path | None]] = []
    if authority is not None:
        files += [
            ("http.authority.cert", authority.cert),
            ("http.authority.key", authority.key),
            ("http.authority.client_ca", authority.client_ca),
        ]
    if mqtt is not None:
        files += [
            ("mqtt.password_file", mqtt.password_file),
            ("mqtt.ca", mqtt.ca),
            ("mqtt.cert", mqtt.cert),
            ("mqtt.key", mqtt.key),
        ]
    for key, path in files:
        if path is not None and not _may(path, os.R_OK):
            raise ConfigurationInvalid(
                f"{key}: {path} is not there, or this user may not read it; put the file there"
            )
    told = [f"socket {settings.http.socket}", f"inbox {inbox}"]
    told += [
        f"{key} {address.host}:{address.port}"
        for key, address in (
            ("http.listen", settings.http.listen),
            ("http.authority", None if authority is None else authority.listen),
        )
        if address is not None
    ]
    told += [] if mqtt is None else [mqtt.url]
    yield Finding(Part.LINK, f"messages come by {', '.join(told)}")


def _exists(path: Path) -> bool:
    """Unlike ``Path.exists`` it never takes a closed folder for an empty one."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


_LOOKS: dict[Part, Callable[[Settings, Clock], Iterator[Finding]]] = {
    Part.DISK: _disk,
    Part.JOURNAL: _journal,
    Part.KEYS: _keys,
    Part.CLOCK: _clock,
    Part.PRINTER: _printer,
    Part.LINK: _link,
}
