"""Who is told that a condition stands: the log at once, people by mail or through a command of the administrator's.

Conditions are what the status shows; so whatever raises an alert can be looked at. No holder data is in any of them.
"""

from __future__ import annotations

import json
import logging
import smtplib
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import localtime
from typing import Any

from agent.clock import Clock
from agent.config import AlertsSettings
from agent.live import Condition

# How long a condition stands before people are told: a technician at the printer needs no mail of its open cover.
PATIENCE_S = 30.0
PRINTER_PATIENCE_S = 300.0
URGENT = frozenset({"on-battery", "battery-low"})  # told at once, while there is power to tell it
PAUSE_S = 60.0  # between two messages; what comes meanwhile goes together
SEND_TIMEOUT_S = 20.0
UNSENT = "alert-unsent"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Standing:
    """A condition that stands: since when, and when people were told last (monotonic seconds)."""

    condition: Condition
    since: float
    told: float | None = None

    @property
    def patience_s(self) -> float:
        if self.condition.name in URGENT:
            return 0.0
        return PRINTER_PATIENCE_S if self.condition.name.startswith("printer-") else PATIENCE_S


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to people: what is new or stands since long, what has gone, and all that stands."""

    raised: tuple[Condition, ...]
    cleared: tuple[Condition, ...]
    standing: tuple[Condition, ...]


class Bell:
    """Decides when people are told; no clock and no line of its own.

    Args:
        repeat_s: After how long a condition that still stands is told again; 0 for never.
    """

    def __init__(self, *, repeat_s: float) -> None:
        self._repeat_s = repeat_s
        self._standing: dict[tuple[str, str], _Standing] = {}
        self._cleared: dict[tuple[str, str], Condition] = {}
        self._quiet_until = 0.0

    def look(
        self, conditions: Sequence[Condition], now: float
    ) -> tuple[list[Condition], list[Condition]]:
        """Takes what stands now; gives what came and what went since the last look."""
        seen = {(condition.name, condition.about): condition for condition in conditions}
        came, went = [], []
        for key, condition in seen.items():
            if key in self._standing:
                self._standing[key].condition = condition
                continue
            came.append(condition)
            # One that comes back before its end was told has never gone.
            told = now if self._cleared.pop(key, None) is not None else None
            self._standing[key] = _Standing(condition, now, told)
        for key in self._standing.keys() - seen.keys():
            standing = self._standing.pop(key)
            went.append(standing.condition)
            if standing.told is not None:
                self._cleared[key] = standing.condition
        return came, went

    def notice(self, now: float) -> Notice | None:
        """What to tell people now, or None."""
        raised = [standing for standing in self._standing.values() if self._due(standing, now)]
        urgent = any(standing.condition.name in URGENT for standing in raised)
        if (now < self._quiet_until and not urgent) or not (raised or self._cleared):
            return None
        return Notice(
            tuple(standing.condition for standing in raised),
            tuple(self._cleared.values()),
            tuple(standing.condition for standing in self._standing.values()),
        )

    def _due(self, standing: _Standing, now: float) -> bool:
        if standing.told is None:
            return now >= standing.since + standing.patience_s
        return bool(self._repeat_s) and now >= standing.told + self._repeat_s

    def told(self, notice: Notice, now: float) -> None:
        """That notice reached people."""
        for condition in notice.raised:
            standing = self._standing.get((condition.name, condition.about))
            if standing is not None:
                standing.told = now
            else:
                # It went while it was told: its end is told next.
                self._cleared[condition.name, condition.about] = condition
        for condition in notice.cleared:
            self._cleared.pop((condition.name, condition.about), None)
        self.pause(now)

    def pause(self, now: float) -> None:
        """Nothing more for a while, also where nobody could be reached."""
        self._quiet_until = now + PAUSE_S


class Alerts:
    """Watches the conditions from a thread of its own, so that a slow relay keeps nobody waiting.

    Args:
        station_id: Whose conditions they are.
        settings: Who is told.
        conditions: What stands now.
        clock: Time.
    """

    def __init__(
        self,
        station_id: str,
        settings: AlertsSettings,
        *,
        conditions: Callable[[], Sequence[Condition]],
        clock: Clock,
    ) -> None:
        self._station_id = station_id
        self._settings = settings
        self._conditions = conditions
        self._clock = clock
        self._bell = Bell(repeat_s=settings.repeat_hours * 3600.0)
        self._unsent: str | None = None
        self._stopping = threading.Event()
        self._looking = threading.Event()

    def run(self) -> None:
        """Looks every second, and whenever it is woken, until ``stop``."""
        while True:
            # First, since a start is no trouble: a moment later each printer is reached or known to be away.
            self._looking.wait(1.0)
            self._looking.clear()
            if self._stopping.is_set():
                return
            self.look()

    def wake(self) -> None:
        """Something changed that cannot wait."""
        self._looking.set()

    def stop(self) -> None:
        """Ends ``run``."""
        self._stopping.set()
        self.wake()

    def conditions(self) -> list[Condition]:
        """That people could not be told."""
        if self._unsent is None:
            return []
        return [
            Condition(UNSENT, f"nobody could be told of conditions ({self._unsent}): see [alerts]")
        ]

    def look(self) -> None:
        """Compares with the last look, writes the log, tells people."""
        conditions = self._conditions()
        came, went = self._bell.look(conditions, self._clock.monotonic())
        for condition in came:
            _log.warning("condition-raised", extra=_fields(condition))
        for condition in went:
            _log.info("condition-cleared", extra=_fields(condition))
        if not (self._settings.command or self._settings.mail_to):
            return
        notice = self._bell.notice(self._clock.monotonic())
        if notice is None:
            return
        try:
            self._tell(notice)
        except (OSError, smtplib.SMTPException, subprocess.SubprocessError) as error:
            # Its text could quote what the other side said; the kind is enough to look further.
            self._unsent = type(error).__name__
            self._bell.pause(self._clock.monotonic())
            _log.warning("alert-unsent", extra={"problem": self._unsent})
        else:
            self._unsent = None
            self._bell.told(notice, self._clock.monotonic())
            _log.info("alert-sent", extra={"count": len(notice.raised) + len(notice.cleared)})

    def _tell(self, notice: Notice) -> None:
        if self._settings.command:
            subprocess.run(  # noqa: S603 - the administrator's own program, by its full path, no shell
                self._settings.command,
                input=json.dumps(self._object(notice)).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=SEND_TIMEOUT_S,
                check=True,
            )
        if self._settings.mail_to:
            host, port = self._settings.smtp
            # The name is given, or it would be asked of a name server that may have no power any more.
            with smtplib.SMTP(
                host, port, local_hostname="localhost", timeout=SEND_TIMEOUT_S
            ) as relay:
                relay.send_message(self._mail(notice))

    def _object(self, notice: Notice) -> dict[str, Any]:
        def rows(conditions: Sequence[Condition]) -> list[dict[str, str]]:
            return [
                {"name": each.name, "about": each.about, "detail": each.detail}
                for each in conditions
            ]

        return {
            "station": self._station_id,
            "at": self._clock.now(),
            "raised": rows(notice.raised),
            "cleared": rows(notice.cleared),
            "standing": rows(notice.standing),
        }

    def _mail(self, notice: Notice) -> EmailMessage:
        mail = EmailMessage()
        told = [each.name for each in notice.raised] or [
            f"{each.name} is over" for each in notice.cleared
        ]
        mail["Subject"] = f"{self._station_id}: {', '.join(sorted(set(told)))}"
        mail["From"] = self._settings.mail_from
        mail["To"] = ", ".join(self._settings.mail_to)
        mail["Date"] = localtime()
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        lines = [f"! {each.name}: {each.detail}" for each in notice.raised]
        lines += [f"  {each.name} is over" for each in notice.cleared]
        others = [each for each in notice.standing if each not in notice.raised]
        lines += ["", "Also standing:"] if others else []
        lines += [f"- {each.name}: {each.detail}" for each in others]
        mail.set_content("\n".join(lines) + "\n")
        return mail


def _fields(condition: Condition) -> dict[str, str]:
    return {"condition": condition.name, "sentence": condition.detail}
