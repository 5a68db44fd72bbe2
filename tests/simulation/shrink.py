"""From a long run that fails to a short story: faults are left out as long as it still fails."""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.plan import Plan
from tests.simulation.run import Result, run

TRIES_MAX = 400


def shrink(failed: Result) -> Result:
    """The shortest run found that the judge objects to for a like reason.

    Args:
        failed: A run with verdicts.
    """
    best, tries = failed, 0
    size = max(1, len(failed.plan.faults) // 2)
    while size and tries < TRIES_MAX:
        start = len(best.plan.faults)
        while start > 0 and tries < TRIES_MAX:
            start -= size
            shorter = _without(best.plan, max(0, start), start + size)
            tries += 1
            again = run(shorter)
            if _alike(again, failed):
                best = again
        size //= 2
    return best


def _without(plan: Plan, start: int, end: int) -> Plan:
    """The way to the next fault grows by the ways that are left out, so that the others keep their places."""
    kept = list(plan.faults[:start]) + list(plan.faults[end:])
    if start < len(kept):
        lost = sum(fault.after for fault in plan.faults[start:end])
        kept[start] = replace(kept[start], after=kept[start].after + lost)
    return replace(plan, faults=tuple(kept))


def _alike(result: Result, failed: Result) -> bool:
    """The same promise is broken: sentences begin with it."""
    wanted = {verdict[:2] for verdict in failed.verdicts}
    return any(verdict[:2] in wanted for verdict in result.verdicts)


def told(result: Result) -> str:
    """The story of a run, one line an event, and what the judge says."""
    lines = [f"{at:9.3f} s  {text}" for at, text in result.story]
    return "\n".join([str(result.plan.office), *lines, *result.verdicts])
