"""Whether the clock may be believed (CONTRACT section 7): values in, no clock of its own."""

from __future__ import annotations

from datetime import UTC, datetime

BEHIND_MAX_S = 300
AHEAD_MAX_S = 24 * 3600
# A wall clock that moved this much against the monotonic one was set by somebody.
JUMP_MIN_S = 5.0
# No station is older than this program: an earlier clock lost its battery (1970, 2000).
PLAUSIBLE_FROM = 1_735_689_600  # 2025-01-01T00:00:00Z


class KnownTime:
    """The newest time that the journal proves, and what follows for the clock.

    Attributes:
        known: NumericDate in seconds; None in a new journal.
    """

    def __init__(self, known: int | None) -> None:
        self.known = known
        self._ahead = False
        self._offset: float | None = None

    def started(self, wall: int, monotonic: float) -> None:
        """The station starts: a clock far ahead of the known time must be confirmed."""
        self._offset = wall - monotonic
        self._ahead = self._is_ahead(wall)

    def observe(self, wall: int, monotonic: float) -> None:
        """Notices jumps of the wall clock; called at every look at it."""
        offset = wall - monotonic
        if self._offset is None or abs(offset - self._offset) > JUMP_MIN_S:
            self._ahead = self._is_ahead(wall)
        elif not self._is_ahead(wall):
            self._ahead = False
        self._offset = offset

    def trusted(self, wall: int) -> bool:
        """Whether this wall clock may date, expire and print."""
        if self.known is None:
            return True
        if wall < self.known - BEHIND_MAX_S:
            return False
        return not (self._ahead and self._is_ahead(wall))

    def doubt(self, wall: int) -> str | None:
        """Why this wall clock is not to be believed, and what to do; None where nothing is against it."""
        known = None if self.known is None else moment_text(self.known)
        if wall < PLAUSIBLE_FROM:
            return f"the clock says {moment_text(wall)}: set it right (its battery may be empty); it goes on by itself then"
        if self.trusted(wall):
            return None
        if self.known is not None and wall < self.known:
            return f"the clock says {moment_text(wall)}, the newest receipt or message {known}: set the clock right"
        return (
            f"the clock says {moment_text(wall)}, the newest receipt or message {known}: set the clock right, or confirm it:"
            " `print-agent clock accept --reason ...`"
        )

    def advance(self, moment: int) -> bool:
        """Moves the known time forward; tells whether it did."""
        if self.known is not None and moment <= self.known:
            return False
        self.known = moment
        return True

    def _is_ahead(self, wall: int) -> bool:
        return self.known is not None and wall > self.known + AHEAD_MAX_S


def moment_text(seconds: int) -> str:
    """A NumericDate for a person to read."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
