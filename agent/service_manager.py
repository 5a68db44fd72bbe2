"""What systemd is told of this process and keeps for it; without systemd nothing happens (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, MutableMapping

STANDARD_ERROR = 2
FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def error_line(sentence: str) -> str:
    """A line for standard error; where journald reads it, with its level (sd-daemon(3))."""
    return f"{'<3>' if is_journal(STANDARD_ERROR) else ''}print-agent: {sentence}\n"


def is_journal(descriptor: int) -> bool:
    """Whether journald reads what is written there: the variable alone is inherited by everybody's shell (systemd.exec(5))."""
    status = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class ServiceManager:
    """The service manager's end of the process.

    Args:
        environment: Where systemd says how to reach it. What it says is taken out: no child may
            notify in this process' name, or take its descriptors.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._kept = _listened(environment)

    def ready(self) -> None:
        """The station serves."""
        self._tell("READY=1")

    def alive(self) -> None:
        """All threads moved: the watchdog waits again."""
        self._tell("WATCHDOG=1")

    def stopping(self, *, within_s: float) -> None:
        """The station stops, and has a good reason to take this long: a book may be printing."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * 1_000_000)}")

    # Descriptors that outlive a crash. systemd gives them back to the next process and drops them
    # when the service is stopped for good, or when they hang up.

    def kept(self, name: str) -> int | None:
        """The descriptor that an earlier process kept under this name; ours to look at, not to close."""
        return self._kept.get(name)

    def keep(self, name: str, descriptor: int) -> None:
        """Keeps this descriptor under its name, in place of the one before."""
        self.forget(name)
        self._tell("FDSTORE=1", f"FDNAME={name}", descriptors=(descriptor,))

    def forget(self, name: str) -> None:
        """Keeps nothing under this name any more."""
        self._tell("FDSTOREREMOVE=1", f"FDNAME={name}")
        descriptor = self._kept.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def forget_all_but(self, names: Iterable[str]) -> None:
        """Drops what an earlier configuration kept."""
        for name in set(self._kept) - set(names):
            self.forget(name)

    def _tell(self, *lines: str, descriptors: tuple[int, ...] = ()) -> None:
        if not self._address:
            return
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
            contextlib.suppress(OSError),
        ):
            notify.connect(self._address)
            socket.send_fds(notify, ["\n".join(lines).encode()], descriptors)


def _listened(environment: MutableMapping[str, str]) -> dict[str, int]:
    """The descriptors that systemd passed, by name."""
    process = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "0")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if process != str(os.getpid()) or not count.isdecimal():
        return {}
    found: dict[str, int] = {}
    for descriptor, name in zip(
        range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)), names, strict=False
    ):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's own signature
        if name in found:
            os.close(found[name])
        found[name] = descriptor
    return found
