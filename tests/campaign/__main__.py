"""``make campaign``: the real agent process loses its power at random moments, hundreds of times, under the judge's eyes."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from random import Random
from threading import Event

from tests.campaign.cuts import Kind, Result
from tests.campaign.day import run
from tests.campaign.report import report

CUTS_A_DAY = 10
STORY_LINES = 40  # of a failed day; all of them are in its folder


def main(arguments: Sequence[str]) -> int:
    """Gives 0 where all promises were kept."""
    parser = argparse.ArgumentParser(prog="make campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many cuts in all")
    parser.add_argument("--seed", type=int, default=1, help="the first day's seed")
    parser.add_argument("--kind", choices=["all", *Kind], default="all", help="who is cut")
    parser.add_argument("--workers", type=int, default=1, help="days at once")
    options = parser.parse_args(arguments)
    kinds = list(Kind) if options.kind == "all" else [Kind(options.kind)]
    return _work(_days(options.seed, kinds, options.kills), options.kills, options.workers)


def _days(first: int, kinds: Sequence[Kind], kills: int) -> Iterator[tuple[int, list[Kind]]]:
    for seed in count(first):
        size = min(CUTS_A_DAY, kills)
        kills -= size
        if not size:
            return
        yield seed, Random(f"kinds {seed}").choices(kinds, k=size)


def _work(days: Iterator[tuple[int, list[Kind]]], kills: int, workers: int) -> int:
    results: list[Result] = []
    if not _play(days, kills, workers, results):
        return 1
    print("\n".join(report(results)))
    print("nothing lost, nothing printed twice")
    return 0


def _play(
    days: Iterator[tuple[int, list[Kind]]], kills: int, workers: int, results: list[Result]
) -> bool:
    """Whether the promises were kept; where they were not, or after Ctrl-C, no further day is begun."""
    begun = time.monotonic()
    under_way: set[Future[Result]] = set()
    ending = Event()
    # It reaches the workers too, which play the days under way to their end.
    signal.signal(signal.SIGINT, lambda *_: ending.set())
    with ProcessPoolExecutor(
        workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        for seed, kinds in days:
            if ending.is_set():
                print("the days under way are played to their end ...", flush=True)
                break
            under_way.add(pool.submit(run, seed, kinds))
            if len(under_way) < workers:
                continue
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            if not _collect(done, results, kills, begun):
                return False
        return _collect(wait(under_way).done, results, kills, begun)


def _collect(done: set[Future[Result]], results: list[Result], kills: int, begun: float) -> bool:
    for future in done:
        result = future.result()
        if result.verdicts:
            print("\n".join(told(result)))
            return False
        results.append(result)
        for cut in result.needless:
            print(
                f"a needless doubt about {cut.in_doubt}, struck {cut.moment}: {result.folder}/story.txt"
            )
        cuts = sum(len(one.cuts) for one in results)
        print(
            f"{cuts:>6} of {kills} cuts, {(time.monotonic() - begun) / cuts:.1f} s each", flush=True
        )
    return True


def told(result: Result) -> Iterator[str]:
    """The story of a failed day in words, from the ink and the receipts."""
    yield f"FAILED with seed {result.seed} ({result.printer}):"
    yield from result.verdicts
    yield "what happened at last:"
    for at, text in result.story[-STORY_LINES:]:
        yield f"{at:9.3f} s  {text}"
    yield f"everything is in {result.folder}: story.txt, agent.log, station/, authority/"
    yield f"the same day again, as far as the machine's scheduler lets it: SEED={result.seed}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
