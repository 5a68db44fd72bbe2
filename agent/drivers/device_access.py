"""Who may open a device file, who holds it, and who else reaches for it."""

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HOLDERS_MAX = 5  # named in one message
PTY_MAJORS = range(136, 144)  # Linux, Documentation/admin-guide/devices.txt
SERVICE_MANAGER = "1"  # systemd keeps a crashed agent's line open for it (FDSTORE)
MODEM_MANAGER = "ModemManager"
CUPS_QUEUES = Path("/etc/cups/printers.conf")
SERIAL_NAMES = Path("/dev/serial/by-id")


@dataclass(frozen=True, slots=True)
class User:
    """Whose permissions count: the agent's, whoever asks."""

    name: str
    uid: int
    groups: frozenset[int]

    @classmethod
    def of_process(cls, process: int) -> User:
        """The user that a process runs as.

        Raises:
            OSError: It ended.
        """
        facts = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
        lines = dict(line.split(":", 1) for line in facts.splitlines() if ":" in line)
        uid, gid = int(lines["Uid"].split()[1]), int(lines["Gid"].split()[1])
        groups = frozenset({gid, *map(int, lines["Groups"].split())})
        return cls(_user_name(uid), uid, groups)

    @classmethod
    def of_owner(cls, path: Path) -> User:
        """The user whom a folder belongs to, as he would log in.

        Raises:
            OSError: There is no such folder.
        """
        status = path.stat()
        name = _user_name(status.st_uid)
        try:
            groups = frozenset(os.getgrouplist(name, pwd.getpwuid(status.st_uid).pw_gid))
        except KeyError:
            groups = frozenset({status.st_gid})
        return cls(name, status.st_uid, groups)

    def may_use(self, path: str) -> bool:
        """Whether the file's mode lets this user read and write; access lists are not looked at."""
        status = os.stat(path)
        if self.uid == 0:
            return True
        if status.st_uid == self.uid:
            wanted = 0o600
        elif status.st_gid in self.groups:
            wanted = 0o060
        else:
            wanted = 0o006
        return status.st_mode & wanted == wanted


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def holders(path: str, *, but: int | None = None) -> list[str]:
    """The processes that hold this device file, as ``name (process id)``, as far as we may see.

    Args:
        path: The device file.
        but: A process that may hold it.
    """
    device = os.path.realpath(path)
    found: list[str] = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        if process not in (SERVICE_MANAGER, str(but)) and _has_open(process, device):
            own = int(process) == os.getpid()
            found.append("this agent itself" if own else f"{_name(process)} ({process})")
            if len(found) == HOLDERS_MAX:
                break
    return found


def _has_open(process: str, device: str) -> bool:
    directory = f"/proc/{process}/fd"
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return False  # it ended, or belongs to another user
    for descriptor in descriptors:
        try:
            if os.readlink(f"{directory}/{descriptor}") == device:
                return True
        except OSError:
            continue
    return False


def _name(process: str) -> str:
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process that ended"


def is_pty(path: str) -> bool:
    """Whether a program is the device; it may hold the line from both ends."""
    return os.major(os.stat(path).st_rdev) in PTY_MAJORS


def in_use(path: str) -> str:
    """One line for a device that somebody else holds."""
    names = ", ".join(holders(path)) or "another process that this user may not see"
    return f"{path} is in use by {names}; stop it, or keep it off this device"


def not_permitted(path: str) -> str:
    """One line for a device that this user may not open, with the group that may."""
    try:
        group = group_of(path)
    except OSError:
        return f"{path}: permission denied"
    return f"{path}: permission denied; the agent's user must be in the group {group}"


def group_of(path: str) -> str:
    """The name of a file's group."""
    group_id = os.stat(path).st_gid
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return str(group_id)


def serial_ports() -> list[str]:
    """The serial ports of this machine, by the names that last where udev made them."""
    from serial.tools.list_ports import comports

    named = {os.path.realpath(link): str(link) for link in sorted(SERIAL_NAMES.glob("*"))}
    return [named.get(port.device, port.device) for port in sorted(comports())]


def modem_manager_reaches_for(path: str) -> bool:
    """Whether ModemManager runs and was not told to keep off this port."""
    import pyudev

    if not any(
        _name(process) == MODEM_MANAGER for process in filter(str.isdigit, os.listdir("/proc"))
    ):
        return False
    try:
        device = pyudev.Devices.from_device_file(pyudev.Context(), os.path.realpath(path))
    except (pyudev.DeviceNotFoundError, OSError):
        return False
    return bool(device.properties.get("ID_MM_DEVICE_IGNORE") != "1")


def cups_queues(*, port: str | None = None, usb_serial: str | None = None) -> list[str]:
    """The CUPS queues that print on this serial port, or on the USB device with this serial number."""
    try:
        text = CUPS_QUEUES.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []  # no CUPS, or none that this user may look at
    queues = re.findall(
        r"<(?:Default)?Printer (\S+)>.*?^DeviceURI (\S+)", text, re.DOTALL | re.MULTILINE
    )
    return [name for name, uri in queues if _prints_on(uri, port=port, usb_serial=usb_serial)]


def _prints_on(uri: str, *, port: str | None, usb_serial: str | None) -> bool:
    parts = urlsplit(uri)
    match parts.scheme:
        case "serial":
            return port is not None and os.path.realpath(parts.path) == os.path.realpath(port)
        case "usb":
            return usb_serial is not None and parse_qs(parts.query).get("serial") == [usb_serial]
        case _:
            return False
