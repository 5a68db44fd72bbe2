"""What a campaign found, in a table: doubts by who lost power, against DESIGN's goals, and how soon it went on."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.campaign.cuts import Cut, Cycle, Kind, Moment, Result

ALLOWANCE = 0.01  # what the goals allow beyond the moments that cannot be told apart


def report(results: Sequence[Result]) -> Iterator[str]:
    """The lines of the report."""
    cuts = [cut for result in results for cut in result.cuts]
    cycles = [cycle for result in results for cycle in result.cycles]
    alone = [cut for cut in cuts if cut.alone]
    yield f"{len(cuts)} cuts in {len(results)} offices"
    yield f"  {len(cuts) - len(alone)} of them with another one before the station had recovered; the others:"
    length = _seconds([cycle.cycle_s for cycle in cycles])
    yield f"the cycle of a book, {len(cycles)} times undisturbed: {length}"
    for kind in Kind:
        yield from _of_kind(kind, [cut for cut in alone if cut.kind is kind], cycles)
    accepted = sum(result.accepted_printers for result in results)
    yield f"printers that stopped until a technician accepted them: {accepted}"


def _of_kind(kind: Kind, cuts: Sequence[Cut], cycles: Sequence[Cycle]) -> Iterator[str]:
    if not cuts:
        return
    doubts = [cut for cut in cuts if cut.in_doubt]
    persons = sum(cut.by_person for cut in doubts)
    needless = sum(cut.needless for cut in cuts)
    yield f"{kind}: {_share(doubts, cuts)} in doubt"
    yield f"  ended by a person: {persons}, needlessly {needless}; by late evidence: {len(doubts) - persons}"
    moments = Counter(cut.moment for cut in cuts)
    doubted = Counter(cut.moment for cut in doubts)
    for moment in Moment:
        yield f"  struck {moment}: {moments[moment]}, in doubt {doubted[moment]}"
    yield from _goals(kind, cuts, cycles)
    starts = [cut.ready_s for cut in cuts if cut.ready_s is not None and kind.ends_agent]
    if starts:
        yield f"  from the start until it serves: {_seconds(starts)}"
    yield f"  from the return until the next book is committed: {_seconds([cut.book_s for cut in cuts if cut.book_s is not None])}"


def _goals(kind: Kind, cuts: Sequence[Cut], cycles: Sequence[Cycle]) -> Iterator[str]:
    """Where DESIGN sets one. A reply that is not proven at once leaves a gap that its goals do not speak of."""
    if kind is Kind.AGENT:
        held = [cut for cut in cuts if cut.moment not in (Moment.LOADING, Moment.REPLY)]
        doubts = [cut for cut in held if cut.in_doubt]
        yield f"  goal, reply still held: {_share(doubts, held)} in doubt, allowed {ALLOWANCE:.0%}"
    if kind is Kind.OFFICE:
        for durable in (False, True):
            yield from _office_goal(durable, cuts, cycles)


def _office_goal(durable: bool, cuts: Sequence[Cut], cycles: Sequence[Cycle]) -> Iterator[str]:
    def counts(one: Cut | Cycle) -> bool:
        printer = one.printer
        return printer.proves_at_once and (printer.counter_kept == "durable") == durable

    cuts, cycles = list(filter(counts, cuts)), list(filter(counts, cycles))
    if not cuts or not cycles:
        return
    windows = [cycle.ink_to_reply_s if durable else cycle.intent_to_reply_s for cycle in cycles]
    share = sum(windows) / sum(cycle.cycle_s for cycle in cycles)
    inside = {Moment.INK} if durable else {Moment.INTENT, Moment.INK}
    struck = [cut for cut in cuts if cut.moment in inside]
    doubts = [cut for cut in cuts if cut.in_doubt]
    name = "durable counter, first inked row to reply" if durable else "intent to reply"
    yield f"  goal, {name}, {share:.1%} of the cycle: allowed {share + ALLOWANCE:.1%},"
    yield f"    {_share(struck, cuts)} struck there, {_share(doubts, cuts)} in doubt"


def _share(some: Sequence[Cut], all_of_them: Sequence[Cut]) -> str:
    share = len(some) / len(all_of_them) if all_of_them else 0.0
    return f"{len(some)} of {len(all_of_them)} ({share:.1%})"


def _seconds(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"median {statistics.median(values):.2f} s, max {max(values):.2f} s"
