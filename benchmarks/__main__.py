"""`make bench`: measures what docs/figures.md promises, on this machine, and prints one table."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import acceptance, idle, journal, page, printing
from benchmarks.figure import Figure

BENCHMARKS: Mapping[str, Callable[[], Iterator[Figure]]] = {
    "acceptance": acceptance.measure,
    "journal": journal.measure,
    "page": page.measure,
    "printing": printing.measure,
    "idle": idle.measure,
}
ELSEWHERE = (
    "Power cuts are measured elsewhere: `make simulate` (simulated cuts, and how many a second),"
    " `make campaign` (kills of the real process, and the share in doubt)."
)


def main() -> None:
    """Runs all benchmarks or those named; a missed goal is no failure, a figure that cannot be measured is one."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures there too")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(
            f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}"
        )
    logging.getLogger().addHandler(logging.NullHandler())  # what stations tell is not asked here
    console = Console()
    figures = []
    for name in arguments.names or BENCHMARKS:
        with console.status(f"measuring: {name}"):
            figures += BENCHMARKS[name]()
    console.print(table(figures))
    console.print(ELSEWHERE, soft_wrap=True)
    if arguments.json:
        told = [figure.told() for figure in figures]
        arguments.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def table(figures: list[Figure]) -> Table:
    """The figures as people read them."""
    shown = Table("what", "measured", "goal", "of it", "", "made of")
    for figure in figures:
        shown.add_row(
            figure.what,
            f"{figure.measured:.3g} {figure.unit}",
            f"≤ {figure.goal:g}",
            f"{figure.share:.0%}",
            "met" if figure.met else "[bold red]MISSED[/]",
            figure.detail,
        )
    for column in (1, 2, 3):
        shown.columns[column].justify = "right"
        shown.columns[column].no_wrap = True
    return shown


if __name__ == "__main__":
    main()
