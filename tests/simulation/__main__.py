"""``make simulate``: random runs until so many cuts were made, on several cores, with progress and the story of a failure."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count

from tests.simulation.exhaustive import SHARES, exhaustive_plans
from tests.simulation.plan import Mishap, Plan, random_plan
from tests.simulation.run import Result, run
from tests.simulation.shrink import shrink, told

RUNS_AHEAD = 4  # for each worker
PROGRESS_EVERY_S = 5.0


def main(arguments: Sequence[str]) -> int:
    """Gives 0 where all promises were kept."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--cuts", type=int, default=20_000, help="how many cuts in all")
    parser.add_argument("--seed", type=int, default=1, help="the first run's seed")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument(
        "--cuts-a-run", type=int, default=200, help="part of a run's identity, as the seed is"
    )
    parser.add_argument(
        "--exhaustive",
        choices=SHARES,
        help="instead: every point of a short run, and of its recovery",
    )
    parser.add_argument(
        "--every", type=int, default=1, help="only each so-manieth first cut of an exhaustive run"
    )
    parser.add_argument(
        "--replay", action="store_true", help="only the run of that seed, with its story"
    )
    options = parser.parse_args(arguments)
    if options.replay:
        return _replay(random_plan(options.seed, cuts=options.cuts_a_run))
    if options.exhaustive:
        return _work(
            exhaustive_plans(options.exhaustive, every=options.every), sys.maxsize, options.workers
        )
    plans = (random_plan(seed, cuts=options.cuts_a_run) for seed in count(options.seed))
    return _work(plans, options.cuts, options.workers)


def _replay(plan: Plan) -> int:
    result = run(plan)
    print(told(result))
    return 1 if result.verdicts else 0


def _settle() -> None:
    """What was imported stays: the garbage collector need not look at it in each run."""
    gc.collect()
    gc.freeze()


def _work(plans: Iterator[Plan], cuts_wanted: int, workers: int) -> int:
    begun = shown = time.monotonic()
    cuts = runs = planned = 0
    events: Counter[str] = Counter()
    struck: Counter[Mishap] = Counter()
    doubts: Counter[Mishap | None] = Counter()
    with ProcessPoolExecutor(workers, initializer=_settle) as pool:
        under_way: set[Future[Result]] = set()
        more = True
        while more or under_way:
            while more and len(under_way) < workers * RUNS_AHEAD:
                plan = next(plans, None)
                if plan is None or planned >= cuts_wanted:
                    more = False
                    break
                planned += plan.cuts
                under_way.add(pool.submit(run, plan))
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                if result.verdicts:
                    pool.shutdown(wait=False, cancel_futures=True)
                    return _failed(result)
                cuts, runs = cuts + result.cuts, runs + 1
                events += result.events
                struck += result.struck
                doubts += result.doubts
            now = time.monotonic()
            if now - shown > PROGRESS_EVERY_S:
                shown = now
                print(
                    f"{cuts:>9,} cuts in {runs:,} runs, {cuts / (now - begun):,.0f} a second",
                    flush=True,
                )
    seconds = time.monotonic() - begun
    print(
        f"{cuts:,} cuts in {runs:,} runs, {cuts / seconds / workers:,.0f} a second and worker: nothing lost, nothing printed twice."
    )
    print(
        "doubts, none of them needless by contract 4.1, of the prints that a mishap was the first to strike:"
    )
    for mishap, prints in struck.most_common():
        print(f"{doubts[mishap]:>9,} of {prints:,}: {mishap.value}")
    print(f"{doubts[None]:>9,} where no mishap struck between intent and outcome")
    print("receipts: " + ", ".join(f"{name} {number:,}" for name, number in events.most_common()))
    return 0


def _failed(result: Result) -> int:
    plan = result.plan
    print(f"FAILED with seed {plan.seed}: {'; '.join(result.verdicts)}")
    print(f"replay: make simulate SEED={plan.seed} REPLAY=1")
    print("shrinking it ...", flush=True)
    print(told(shrink(result)))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
