"""What one simulated run is: a seed, how its office is fitted out, and what goes wrong when."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any


class Mishap(enum.Enum):
    """What can go wrong; the value tells it in a story."""

    OFFICE = "the lights go out: PC and printer lose power"
    PC = "the PC loses power, the printer does not"
    AGENT = "the agent is killed"
    BOTH = "the agent is killed, and the printer loses power"
    STOP = "the agent is told to stop"
    PRINTER = "the printer loses power"
    OTHER_PRINTER = "the printer is replaced by another one"
    CABLE = "the cable comes out"
    COVER = "the cover is opened"
    JAM = "the printer jams"
    PULL = "the book is pulled out"
    PULL_AND_PUT_BACK = "the book is pulled out and put back"
    SWAP = "the book is pulled out and another one put in"
    EARLY = "a book is put in too early"
    REPLY_LOST = "a reply is lost on the line"
    REPLY_LATE = "the replies are late"
    REPLY_TWICE = "a reply comes twice"
    LINE_STALLS = "the line takes no bytes for a while"
    DISK_FULL = "the disk is full"
    DISK_WRITE = "a write to the disk fails"
    DISK_SYNC = "a sync fails and its data are lost"
    DISK_READ = "a read from the disk fails"
    CLOCK = "the clock jumps"
    RESTORE = "the PC's disk is lost, and an earlier copy of the journal is put in place"


# A run is about power cuts; what else happens makes them harder.
_WEIGHTS: dict[Mishap, int] = {
    Mishap.OFFICE: 20,
    Mishap.PC: 14,
    Mishap.AGENT: 20,
    Mishap.BOTH: 4,
    Mishap.STOP: 3,
    Mishap.PRINTER: 8,
    Mishap.OTHER_PRINTER: 1,
    Mishap.CABLE: 5,
    Mishap.COVER: 2,
    Mishap.JAM: 2,
    Mishap.PULL: 2,
    Mishap.PULL_AND_PUT_BACK: 2,
    Mishap.SWAP: 2,
    Mishap.EARLY: 3,
    Mishap.REPLY_LOST: 2,
    Mishap.REPLY_LATE: 2,
    Mishap.REPLY_TWICE: 2,
    Mishap.LINE_STALLS: 1,
    Mishap.DISK_FULL: 1,
    Mishap.DISK_WRITE: 1,
    Mishap.DISK_SYNC: 2,
    Mishap.DISK_READ: 1,
    Mishap.CLOCK: 1,
    Mishap.RESTORE: 1,
}
CUTS = frozenset({Mishap.OFFICE, Mishap.PC, Mishap.AGENT, Mishap.BOTH, Mishap.PRINTER})
_WAYS = (3, 10, 30, 120)  # points between two mishaps, on average: a book takes about 90
# Half of all points are writes to the WAL, a dozen a commit and much alike: in a long run each counts so much of one.
_WAL_WRITE = 0.125


@dataclass(frozen=True, slots=True)
class Fault:
    """A mishap, so many points after the one before it; ``draw`` seeds what is random about it."""

    mishap: Mishap
    after: int
    draw: int


@dataclass(frozen=True, slots=True)
class Office:
    """How the office is fitted out.

    Attributes:
        profile: The printer's profile.
        counter_kept: What becomes of its counter at power-off, as far as it has one.
        completion: When a process ID falls due: ``printed`` or ``ejected``.
        holds_replies: Whether replies wait while nobody has the line open.
        drops_line: Whether the line is lost when the printer loses power (USB, DSR).
        buffer_bytes: The printer's receive buffer.
        book_check: Whether books are presented.
        read_back: The printer's ``verify`` setting.
        hostile: Whether the technician acts at random and may lie.
        jobs: How many authorizations there are, at once.
        goes_on: Whether new ones follow as long as mishaps do: a cut is wasted on a station without work.
    """

    profile: str = "page-slip"
    counter_kept: str = "lost"
    completion: str = "printed"
    holds_replies: bool = True
    drops_line: bool = False
    buffer_bytes: int = 4096
    book_check: bool = True
    read_back: str = "none"
    hostile: bool = False
    jobs: int = 3
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, whole: the same plan gives the same run.

    Attributes:
        wal_write: How much of a point a write to the WAL counts.
    """

    seed: int
    office: Office
    faults: tuple[Fault, ...]
    wal_write: float = 1.0

    @property
    def cuts(self) -> int:
        """How many of the faults are power cuts and kills."""
        return sum(fault.mishap in CUTS for fault in self.faults)


def random_office(rng: Random) -> Office:
    """An office as they may be."""
    column = rng.random() < 0.2
    return Office(
        profile="column-slip" if column else "page-slip",
        counter_kept=rng.choice(("lost", "durable", "unknown")),
        completion=rng.choice(("printed", "ejected")),
        holds_replies=rng.random() < 0.7,
        drops_line=rng.random() < 0.3,
        buffer_bytes=rng.choice((64, 256, 4096)),
        book_check=rng.random() < 0.6,
        read_back=rng.choice(("none", "none", "none", "mrz")),
        hostile=rng.random() < 0.2,
        jobs=rng.randint(2, 8),
        goes_on=True,
    )


def random_plan(seed: int, *, cuts: int, only: Sequence[Mishap] = (), **office: Any) -> Plan:
    """A long run.

    Args:
        seed: Decides everything.
        cuts: About how many cuts it has.
        only: The mishaps that happen, where not all may.
        office: How the office differs from the random one.
    """
    rng = Random(f"plan {seed}")
    fitted = replace(random_office(rng), **office)
    weights = {mishap: weight for mishap, weight in _WEIGHTS.items() if not only or mishap in only}
    share = sum(weights.get(cut, 0) for cut in CUTS) / sum(weights.values()) or 1.0
    mishaps = rng.choices(list(weights), list(weights.values()), k=max(1, round(cuts / share)))
    faults = []
    for mishap in mishaps:
        after = 1 + int(rng.expovariate(1 / rng.choice(_WAYS)))
        faults.append(Fault(mishap, after, rng.getrandbits(32)))
    return Plan(seed, fitted, tuple(faults), _WAL_WRITE)
