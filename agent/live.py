"""What is true now and in no journal: where each printer stands, for the borders to show."""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agent.model import PrinterIdentity

CHANGES_KEPT_MAX = 1_000  # for a listener that takes none


@dataclass(frozen=True, slots=True)
class Condition:
    """Something about the station that a person should know.

    Attributes:
        name: A stable keyword.
        detail: What it is and what to do.
        about: Which printer or reader, where there may be several.
    """

    name: str
    detail: str
    about: str = ""


class PrinterState(enum.StrEnum):
    """RFC 8011 printer-state keywords."""

    IDLE = "idle"
    PROCESSING = "processing"
    STOPPED = "stopped"


class PrinterReason(enum.StrEnum):
    """printer-state-reasons: RFC 8011's keywords, and ours where it has none."""

    OFFLINE = "offline"
    COVER_OPEN = "cover-open"
    MEDIA_JAM = "media-jam"
    MEDIA_NEEDED = "media-needed"
    BOOK_REMOVAL_WANTED = "book-removal-wanted"
    PRINTER_CHANGED = "printer-changed"
    USED_ELSEWHERE = "printer-used-elsewhere"
    ON_BATTERY = "on-battery"


class Situation(enum.Enum):
    """What the worker is doing; a book may be presented in some of them only."""

    AWAY = "away"
    RECONCILING = "reconciling"
    READY = "ready"
    PRINTING = "printing"


@dataclass(frozen=True, slots=True)
class PrinterView:
    """One printer as it stands.

    ``book_in`` is what its sensors show, None while nobody can know; ``detail`` is a sentence for a person.
    """

    name: str
    profile: str
    situation: Situation = Situation.AWAY
    state: PrinterState = PrinterState.STOPPED
    reasons: tuple[PrinterReason, ...] = (PrinterReason.OFFLINE,)
    identity: PrinterIdentity = field(default_factory=PrinterIdentity)
    counter: int | None = None
    presented: str | None = None
    job: str | None = None
    book_in: bool | None = None
    removal_wanted: bool = False
    detail: str = "is looked for since the start"

    def shown(self) -> dict[str, Any]:
        """The object of ``GET /v1/printers``."""
        return {
            "name": self.name,
            "state": self.state.value,
            "reasons": [reason.value for reason in self.reasons],
            "profile": self.profile,
            "model": self.identity.model,
            "serial": self.identity.serial,
            "counter": self.counter,
            "presented": self.presented,
            "job": self.job,
            "book_in": self.book_in,
            "detail": self.detail,
        }


class Board:
    """The printers' views, written by their workers and read by everybody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: dict[str, PrinterView] = {}
        self._presented_at: dict[str, str] = {}
        self._listeners: list[Callable[[PrinterView], None]] = []

    def listen(self, listener: Callable[[PrinterView], None]) -> None:
        """Calls ``listener`` with each changed view, in the thread that changed it."""
        self._listeners.append(listener)

    def add(self, view: PrinterView) -> None:
        """A printer of the configuration."""
        with self._lock:
            self._views[view.name] = view

    def change(self, name: str, **fields: Any) -> None:
        """Changes what one printer shows."""
        with self._lock:
            before = self._views[name]
            after = replace(before, **fields)
            self._views[name] = after
        if after != before:
            for listener in self._listeners:
                listener(after)

    def view(self, name: str) -> PrinterView | None:
        """One printer, or None."""
        with self._lock:
            return self._views.get(name)

    def views(self) -> list[PrinterView]:
        """All printers, in the order of the configuration."""
        with self._lock:
            return list(self._views.values())

    def present(self, number: str, *, printer: str) -> None:
        """A book was presented here, and thereby nowhere else any more."""
        with self._lock:
            self._presented_at[number] = printer

    def withdraw(self, number: str, *, printer: str) -> None:
        """The number is used up, or counts no more, at this printer."""
        with self._lock:
            if self._presented_at.get(number) == printer:
                del self._presented_at[number]

    def presented_at(self, number: str) -> str | None:
        """Where a book was presented last."""
        with self._lock:
            return self._presented_at.get(number)

    def removal_wanted(self, job: str) -> bool:
        """Whether some printer waits for this job's book to be taken out."""
        return any(view.removal_wanted and view.job == job for view in self.views())


class Changes:
    """What changes, told to whoever listens; telling never waits for a listener."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()

    def subscribe(self) -> Subscription:
        """The changes from now on."""
        subscription = Subscription(self._forget)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def tell(self, change: dict[str, Any]) -> None:
        """Tells a change, in any thread."""
        for subscription in self._subscriptions:
            subscription.put(change)

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions = tuple(
                one for one in self._subscriptions if one is not subscription
            )


class Subscription:
    """The changes that one listener has not taken yet; a slow one loses the oldest."""

    def __init__(self, forget: Callable[[Subscription], None]) -> None:
        self._forget = forget
        self._changes: deque[dict[str, Any]] = deque(maxlen=CHANGES_KEPT_MAX)
        self._come = threading.Condition()

    def put(self, change: dict[str, Any]) -> None:
        """Adds a change."""
        with self._come:
            self._changes.append(change)
            self._come.notify()

    def get(self, timeout_s: float) -> dict[str, Any] | None:
        """The oldest change, or None where none came in time."""
        with self._come:
            self._come.wait_for(lambda: self._changes, timeout_s)
            return self._changes.popleft() if self._changes else None

    def close(self) -> None:
        """No more changes."""
        self._forget(self)
