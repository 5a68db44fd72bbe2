"""`print-agent authority books` and `takeover`: a dead station's jobs, and who prints them now."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.authority import (
    Directory,
    Station,
    chain_station,
    opened_authority,
    read_object,
    read_receipts,
)
from agent.cli.options import Json, UnusedConfig
from agent.clock import SystemClock

if TYPE_CHECKING:
    from agent.authority import Audit, Authority
    from agent.authority.takeover import Takeover
    from agent.authority.takeover_rule import JobRecord

commands = typer.Typer()

Receipts = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[RECEIPTS]...",
        help="Chains of receipts, one or more stations' in any order.",
        show_default=False,
    ),
]


@commands.command("books")
def authority_books(
    directory: Directory,
    station: Station,
    receipts: Receipts = None,
    config: UnusedConfig = None,  # noqa: ARG001 - every command takes it
) -> None:
    """The books of a station's jobs, for the count: open ones are to be found, one a line, tabs between."""
    from agent.authority.takeover import records_of

    issuer = opened_authority(directory)
    audit = _audits(issuer, receipts or []).get(station)
    issuer.require_station(station)
    lines = [
        line for record in records_of(issuer, station, audit).values() for line in _lines(record)
    ]
    sys.stdout.write("\n".join([f"# {station}", *sorted(lines)]) + "\n")


def _lines(record: JobRecord) -> list[str]:
    from agent.authority.takeover_rule import Count, Verdict, decide

    settled = decide(record, Count(), now=0).verdict is not Verdict.WAITS
    state = record.given_to or record.state or "not accepted"
    return [
        "\t".join(
            (book, "ended" if settled or book in record.spoiled else "open", state, record.job)
        )
        for book in record.books
    ]


@commands.command("takeover")
def authority_takeover(
    directory: Directory,
    dead: Annotated[
        str, typer.Option("--of", metavar="ID", help="The dead station.", show_default=False)
    ],
    spare: Annotated[
        str,
        typer.Option("--to", metavar="ID", help="The spare, which counted.", show_default=False),
    ],
    receipts: Receipts = None,
    station_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What `keys show` prints at the spare; once, it is kept.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the messages go, a file for each station.")
    ] = Path(),
    book_check_stated: Annotated[
        bool,
        typer.Option(
            "--book-check-was-present",
            help="You know that the dead station printed only into presented books; needed where no receipt tells.",
        ),
    ] = False,
    as_json: Json = False,
    config: UnusedConfig = None,  # noqa: ARG001 - every command takes it
) -> None:
    """Retires a dead station; the jobs whose book is blank in the spare's hand go to the spare, and only those."""
    from agent.authority.takeover import take_over

    issuer = opened_authority(directory)
    if station_keys is not None:
        issuer.add_station(spare, read_object(station_keys))
    done = take_over(
        issuer,
        _audits(issuer, receipts or []),
        dead=dead,
        spare=spare,
        book_check_stated=book_check_stated,
        now=SystemClock().now(),
    )
    files = _write_messages(out, done)
    _say_json(done, files) if as_json else _say(done, files)


def _audits(issuer: Authority, files: list[Path]) -> dict[str, Audit]:
    """What the receipts prove, by the station that each chain is of."""
    chains: dict[str, list[str]] = {}
    for file in files:
        lines = read_receipts(file)
        if lines:
            chains.setdefault(chain_station(lines), []).extend(lines)
    return {station: issuer.verify(station, lines) for station, lines in chains.items()}


def _write_messages(out: Path, done: Takeover) -> dict[str, str]:
    out.mkdir(parents=True, exist_ok=True)
    files = {done.dead: out / f"{done.dead}.jws", done.spare: out / f"{done.spare}.jose-seq"}
    messages = {done.dead: [done.retirement], done.spare: done.authorizations}
    for station, path in files.items():
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in messages[station]), encoding="ascii")
        fresh.replace(path)
    return {station: str(path) for station, path in files.items()}


def _say(done: Takeover, files: dict[str, str]) -> None:
    from agent.authority.takeover_rule import Verdict
    from agent.cli.output import Column, Styled, say, say_table

    waiting = {
        job: decision
        for job, decision in done.decisions.items()
        if decision.verdict is Verdict.WAITS
    }
    counts = [decision.verdict for decision in done.decisions.values()]
    say(f"{done.spare} takes over from {done.dead}, which had {len(counts)} jobs:")
    say(Styled(f"{counts.count(Verdict.GIVEN):6} go to {done.spare}: ", "green"), files[done.spare])
    say(f"{counts.count(Verdict.ENDED):6} ended before")
    say(Styled(f"{len(waiting):6} wait for a person", "yellow" if waiting else ""))
    if waiting:
        say_table(
            [Column("JOB", folds=True), Column("WHY", folds=True)],
            [[job, decision.why] for job, decision in waiting.items()],
        )
    for book, fate in done.strangers.items():
        say(Styled(f"? book {book}, counted as {fate}, is of no job of {done.dead}", "yellow"))
    say(f"{files[done.dead]} retires {done.dead}: deliver it as soon as that PC wakes up")


def _say_json(done: Takeover, files: dict[str, str]) -> None:
    from agent.cli.output import say_json

    say_json(
        {
            "of": done.dead,
            "to": done.spare,
            "files": files,
            "jobs": [
                {
                    "job": job,
                    "verdict": decision.verdict.value,
                    "why": decision.why,
                    "books": list(decision.books),
                }
                for job, decision in done.decisions.items()
            ],
            "strangers": {book: fate.value for book, fate in done.strangers.items()},
        }
    )
