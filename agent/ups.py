"""The uninterruptible power supply, asked through upsd of Network UPS Tools (its protocol is RFC 9271).

Reading needs no password. Switching the computer off is the affair of NUT's own upsmon: its shutdown stops the
station in order, as any other does. No kept library fits: they are GPL, or made for asyncio.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent.live import Condition

POLL_S = 2.0  # drivers look at their device about as often
ANSWER_TIMEOUT_S = 3.0
LINE_LENGTH_MAX = 512  # bytes; upsd's own limit for a value is 256
# Beyond the page itself: its loading, and an orderly stop of the computer's other programs.
MARGIN_S = 60.0
RUNTIME_LOW_DEFAULT_S = 120.0  # NUT's usual battery.runtime.low, where the device does not tell it

_ANSWER = re.compile(r'VAR \S+ \S+ "(.*)"')


@dataclass(frozen=True, slots=True)
class Supply:
    """What the device says of itself.

    Attributes:
        status: The words of ``ups.status``: OL on line, OB on battery, LB low battery, FSD the computer is about to be
            switched off, RB the battery must be replaced.
        left_s: Seconds until the battery counts as low; None where the device does not estimate them.
    """

    status: frozenset[str]
    left_s: float | None

    @property
    def on_battery(self) -> bool:
        return bool(self.status & {"OB", "FSD"})

    @property
    def low(self) -> bool:
        """Whether the power may go at any moment. A battery that charges again (OL LB) is no such moment."""
        return "FSD" in self.status or {"OB", "LB"} <= self.status


class UpsSilent(Exception):
    """upsd, or the device behind it, gives no answer."""


class Ups:
    """Watches one device from a thread of its own.

    Args:
        name: What upsd calls it.
        address: Host and port of upsd.
        changed: Called in the watching thread when the supply changed in kind.
    """

    def __init__(
        self, name: str, address: tuple[str, int], *, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._name = name
        self._address = address
        self._changed = changed
        self._supply: Supply | None = None
        self._silence: str | None = "it has not been asked yet"
        self._asked = False
        self._stopping = threading.Event()
        self._line: socket.socket | None = None
        self.progress = 0  # looks at the supply

    def run(self) -> None:
        """Asks until ``stop``."""
        while not self._stopping.is_set():
            self.progress += 1
            self.look()
            self._stopping.wait(POLL_S)
        self.hang_up()

    def stop(self) -> None:
        """Ends ``run``."""
        self._stopping.set()

    def look(self) -> None:
        """Asks once."""
        before = self._kind()
        try:
            self._supply, self._silence = self._ask(), None
        except (OSError, UpsSilent) as error:
            # What was known last still counts: a battery that nobody sees does not become mains power.
            self.hang_up()
            self._silence = str(error)
        self._asked = True
        if self._kind() != before:
            self._changed()

    def _kind(self) -> tuple[bool, bool, bool]:
        supply = self._supply
        return self._asked, supply is not None and supply.on_battery, self.low

    @property
    def low(self) -> bool:
        """Whether the power may go at any moment."""
        return self._supply is not None and self._supply.low

    def refusal(self, seconds: float) -> str | None:
        """Why no book may be begun that takes so long, for a person; None where one may."""
        supply = self._supply
        if not self._asked:
            return "the UPS is asked first"
        if supply is None or not supply.on_battery:
            return None
        if supply.low:
            return "the battery is low: all is at rest until the power is back"
        if self._silence is not None:
            return "the power was cut, and the UPS answers no more: no book is begun until it does"
        if supply.left_s is None:
            return "on battery, for an unknown time: no book is begun until the power is back"
        if supply.left_s < seconds + MARGIN_S:
            return (
                f"on battery for {_minutes(supply.left_s)}, a book may take {_minutes(seconds + MARGIN_S)}:"
                " none is begun until the power is back"
            )
        return None

    def conditions(self) -> list[Condition]:
        """What a person should know of the power."""
        supply, found = self._supply, []
        if supply is not None and supply.on_battery:
            left = "an unknown time" if supply.left_s is None else _minutes(supply.left_s)
            found.append(
                Condition(
                    "on-battery",
                    f"the power is cut, the battery lasts {left}: no book is begun that may not finish",
                )
            )
            if supply.low:
                found.append(
                    Condition(
                        "battery-low",
                        "all is at rest; printing goes on by itself when the power is back",
                    )
                )
        if supply is not None and "RB" in supply.status:
            found.append(Condition("battery-worn", "replace the battery of the UPS"))
        if self._silence is not None and self._asked:
            host, port = self._address
            found.append(
                Condition(
                    "ups-silent",
                    f"UPS {self._name} at {host}:{port} does not answer ({self._silence}): a power cut would come unannounced;"
                    " see `upsc -l` and `systemctl status nut-server`",
                )
            )
        return found

    # The protocol: one line asks, one line answers

    def _ask(self) -> Supply:
        status = frozenset((self._variable("ups.status") or "").split())
        if not status & {"OL", "OB", "FSD"}:
            raise UpsSilent(f"its status is {' '.join(sorted(status)) or 'empty'}")
        runtime = _seconds(self._variable("battery.runtime"))
        if runtime is None:
            return Supply(status, None)
        low = _seconds(self._variable("battery.runtime.low"))
        return Supply(status, runtime - (RUNTIME_LOW_DEFAULT_S if low is None else low))

    def _variable(self, variable: str) -> str | None:
        """Its value; None where the device has no such variable.

        Raises:
            UpsSilent: upsd has no fresh value, or no such device.
            OSError: upsd does not answer.
        """
        if self._line is None:
            self._line = socket.create_connection(self._address, ANSWER_TIMEOUT_S)
            self._line.settimeout(ANSWER_TIMEOUT_S)
        self._line.sendall(f"GET VAR {self._name} {variable}\n".encode())
        answer = self._read_line(self._line)
        found = _ANSWER.fullmatch(answer)
        if found:
            return found[1]
        if answer == "ERR VAR-NOT-SUPPORTED":
            return None
        raise UpsSilent(answer)

    @staticmethod
    def _read_line(line: socket.socket) -> str:
        answer = bytearray()
        while not answer.endswith(b"\n"):
            piece = line.recv(LINE_LENGTH_MAX)
            if not piece:
                raise UpsSilent("upsd hung up")
            answer += piece
            if len(answer) > LINE_LENGTH_MAX:
                raise UpsSilent("it sent no line of its protocol")
        return answer.decode("ascii", "replace").strip()

    def hang_up(self) -> None:
        """Gives the line to upsd back; the next question opens it again."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.close()
            self._line = None


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _minutes(seconds: float) -> str:
    return f"{max(seconds, 0) / 60:.1f} min"
