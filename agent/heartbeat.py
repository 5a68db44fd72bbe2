"""Which thread does not move any more: a station that hangs must end, and start again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

# A thread may wait this long for one thing: a printer that takes no bytes (30 s), a slow disk.
# Whatever takes longer by its nature (a page, a book that nobody brings) is waited for in steps.
STILL_LOOKS_MAX = 120


class Moving(Protocol):
    """A part with a thread of its own."""

    @property
    def progress(self) -> object:
        """Another value after every step of its thread, also of one that only waits."""
        ...


@dataclass(slots=True)
class _Seen:
    progress: object
    still_looks: int = 0


class Heartbeat:
    """Looks at the parts once a second.

    It counts looks, not seconds: while the whole process or the machine slept, nobody looked.

    Args:
        parts: The parts by name; of two that stand still the first is the likely cause.
        still_looks_max: How many looks in a row may find a part where it was.
    """

    def __init__(
        self, parts: Mapping[str, Moving], *, still_looks_max: int = STILL_LOOKS_MAX
    ) -> None:
        self._parts = parts
        self._still_looks_max = still_looks_max
        self._seen: dict[str, _Seen] = {}

    def look(self) -> str | None:
        """The name of a part that stands still for too long."""
        stuck = None
        for name, part in self._parts.items():
            progress = part.progress
            seen = self._seen.get(name)
            if seen is None or seen.progress != progress:
                self._seen[name] = _Seen(progress)
                continue
            seen.still_looks += 1
            if stuck is None and seen.still_looks > self._still_looks_max:
                stuck = name
        return stuck
