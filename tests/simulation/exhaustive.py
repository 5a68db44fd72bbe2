"""Every point of a short run is cut, and every point of the recovery from it once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.simulation.plan import Fault, Mishap, Office, Plan
from tests.simulation.run import run

# How far apart the second cuts are for each kind of share: the whole takes hours, and is run on demand.
SHARES = ("first", "sampled", "whole")
_FIRST_CUTS = (Mishap.OFFICE, Mishap.PC, Mishap.AGENT, Mishap.PRINTER)
_SECOND_CUTS = (Mishap.OFFICE, Mishap.AGENT)
_SAMPLE_EVERY = 17  # a prime: the samples move over the recovery from one first cut to the next
RECOVERY_POINTS = (
    250  # a start, a reconciliation and a book; later points are those of the first run
)
OFFICES = (
    Office(profile="page-slip", counter_kept="lost", book_check=False, jobs=2),
    Office(profile="page-slip", counter_kept="durable", completion="ejected", jobs=2),
    Office(profile="column-slip", holds_replies=False, drops_line=True, jobs=2),
)


def single_faults(
    office: Office, mishaps: Sequence[Mishap], *, at: str = "", seeds: Sequence[int] = (1,)
) -> Iterator[Plan]:
    """Each of the mishaps at each point of a short run, or only at the points whose place begins so."""
    for seed in seeds:
        for point, place in enumerate(run(Plan(seed, office, ())).places, start=1):
            if place.startswith(at):
                for mishap in mishaps:
                    yield Plan(seed, office, (Fault(mishap, point, draw=point),))


def exhaustive_plans(
    share: str, *, offices: Sequence[Office] = OFFICES, every: int = 1
) -> Iterator[Plan]:
    """The plans of a share.

    Args:
        share: One of ``SHARES``: first cuts only, with a sample of second cuts, or with all of them.
        offices: Where it happens.
        every: Only each so-manieth first cut.
    """
    number = 0
    for office in offices:
        points = len(run(Plan(1, office, ())).places)
        for first in range(1, points + 1):
            for mishap in _FIRST_CUTS:
                number += 1
                if number % every:
                    continue
                cut = Fault(mishap, first, draw=number)
                yield Plan(1, office, (cut,))
                yield from (
                    Plan(1, office, (cut, Fault(again, second, draw=number + second)))
                    for second in _seconds(share, number)
                    for again in _SECOND_CUTS
                )


def _seconds(share: str, number: int) -> range:
    match share:
        case "first":
            return range(0)
        case "sampled":
            return range(1 + number % _SAMPLE_EVERY, RECOVERY_POINTS, _SAMPLE_EVERY)
        case _:
            return range(1, RECOVERY_POINTS)
