"""What is cut, and what became of it: plain values that a campaign collects and its report counts."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from pathlib import Path


class Kind(enum.StrEnum):
    """Who loses power, or contact."""

    AGENT = "agent"
    OFFICE = "office"
    PRINTER = "printer"
    CABLE = "cable"

    @property
    def told(self) -> str:
        """In a story."""
        return {
            Kind.AGENT: "the agent is killed; the printer goes on",
            Kind.OFFICE: "the lights go out: the agent is killed, the printer forgets everything but its ink",
            Kind.PRINTER: "the printer loses power; the agent goes on",
            Kind.CABLE: "the cable comes out",
        }[self]

    @property
    def ends_agent(self) -> bool:
        """Whether the agent must be started again."""
        return self in (Kind.AGENT, Kind.OFFICE)


class Moment(enum.StrEnum):
    """Where an attempt stood when it was cut."""

    BETWEEN = "between two prints"  # also while a page lies loaded
    LOADING = "while the page was loaded, as far as it came in doubt"
    INTENT = "between the intent and the first inked row"
    INK = "between the first inked row and the completion reply"
    REPLY = "between the reply and the proof that it counts"


@dataclass(frozen=True, slots=True)
class Printer:
    """What an office's printer is like.

    Attributes:
        counter_kept: What its counter does at power-off.
        completion: When the completion reply falls due: ``printed`` or ``ejected``.
    """

    counter_kept: str
    completion: str

    @property
    def proves_at_once(self) -> bool:
        """Whether the proof that a completion reply needs (contract 4.1) comes with it; else with the ejection after it."""
        return self.counter_kept == "lost" or self.completion == "ejected"

    def __str__(self) -> str:
        return f"counter {self.counter_kept}, reply when {self.completion}"


@dataclass(slots=True)
class Cut:
    """One cut; moments in seconds of the machine's clock.

    Attributes:
        struck_at: When.
        returned_at: When everything was switched on again.
        moment: Where the attempt stood, seen from the ink and the receipts.
        in_doubt: The job that it brought in doubt, empty where none.
        by_person: A person ended the doubt; else late evidence did.
        ready_s: From the agent's start until it served, where it was started.
        book_s: From the return until the next book was committed.
        alone: No other cut came before the station had recovered; the shares count these only.
    """

    kind: Kind
    printer: Printer
    struck_at: float = math.inf
    returned_at: float | None = None
    moment: Moment = Moment.BETWEEN
    in_doubt: str = ""
    by_person: bool = False
    ready_s: float | None = None
    book_s: float | None = None
    alone: bool = True

    @property
    def struck(self) -> bool:
        """It has happened."""
        return self.struck_at < math.inf

    @property
    def needless(self) -> bool:
        """A person was asked, although contract 4.1 has evidence enough for an attempt that stood there."""
        return self.by_person and self.alone and self.moment not in self._unprovable()

    def _unprovable(self) -> set[Moment]:
        found: set[Moment] = set()
        if self.kind is not Kind.CABLE:
            found |= {
                Moment.REPLY
            }  # it died with the process that had taken it, or the proof with the printer
        if self.kind in (Kind.OFFICE, Kind.PRINTER):
            found |= {Moment.INK}
        if self.printer.counter_kept != "durable":
            # Nothing else proves a blank book after a load that nobody watched, or whose line was lost.
            found |= {Moment.LOADING}
            found |= {Moment.INTENT} if self.kind in (Kind.OFFICE, Kind.PRINTER) else set()
        return found


@dataclass(frozen=True, slots=True)
class Cycle:
    """One book that nothing disturbed; seconds."""

    printer: Printer
    cycle_s: float
    intent_to_reply_s: float
    ink_to_reply_s: float


@dataclass(slots=True)
class Result:
    """What the cuts of one office came to.

    Attributes:
        folder: Where everything lies; it is removed where there is nothing to look into.
        verdicts: The judge's sentences; none if all promises were kept.
        story: What happened, with its moments in seconds since the beginning.
        accepted_printers: How often a technician had to accept the printer; no cut explains one.
    """

    seed: int
    printer: Printer
    folder: Path
    cuts: list[Cut] = field(default_factory=list)
    cycles: list[Cycle] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    story: list[tuple[float, str]] = field(default_factory=list)
    accepted_printers: int = 0

    @property
    def needless(self) -> list[Cut]:
        """The cuts after which a person was asked without need."""
        return [cut for cut in self.cuts if cut.needless]
