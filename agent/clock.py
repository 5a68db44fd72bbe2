"""The only place that asks the operating system for time, sleep and randomness."""

from __future__ import annotations

import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """What the core knows of time; the simulator brings its own."""

    def now(self) -> int:
        """The wall clock, NumericDate in whole seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow, over suspends too, since an arbitrary start."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> int:
        return int(time.time())

    def monotonic(self) -> float:
        # CLOCK_BOOTTIME goes on while the machine is suspended, so a nap is no clock jump.
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def sleep(seconds: float) -> None:
    """Sleeps; only for back-off loops of the command line and helpers, never in a decision."""
    time.sleep(seconds)


def random_name() -> str:
    """A fresh random identifier, 16 hexadecimal digits."""
    return secrets.token_hex(8)


def boot_id() -> str:
    """The kernel's id of this boot: two equal ones mean that the PC itself did not restart."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
