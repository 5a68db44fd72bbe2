"""The journal on disk."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.options import Config, Json, day_of, settings_of
from agent.clock import SystemClock
from agent.owner import as_owner

if TYPE_CHECKING:
    from agent.crypto.extract import Scope

journal = typer.Typer(no_args_is_help=True, help="The journal on disk.")


@journal.command("verify")
def journal_verify(config: Config = None, as_json: Json = False) -> None:
    """Recomputes every page's checksum, the chain, its signatures and every table; changes nothing."""
    from agent.cli.output import Styled, say, say_json
    from agent.queue.damage import damaged
    from agent.verification import verify_journal

    settings = settings_of(config)
    path = settings.journal_path
    report = verify_journal(
        path, station_id=settings.station.id, authority_id=settings.authority.id
    )
    if as_json:
        say_json(
            {
                "events": report.events,
                "receipts": report.receipts,
                "jobs": report.jobs,
                "head": report.head,
                "faults": list(report.faults),
            }
        )
    else:
        say(f"{report.events} events, {report.receipts} receipts, {report.jobs} jobs")
        for fault in report.faults:
            say(Styled(f"! {fault}", "red"))
        if not report.faults:
            say(Styled("the journal is whole", "green"), f"; its head is {report.head or 'none'}")
    if report.faults:
        raise damaged(path, f"{len(report.faults)} faults")


@journal.command("backup")
def journal_backup(
    target: Annotated[Path | None, typer.Argument(metavar="FILE", show_default=False)] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A copy named after the time, in this folder.", show_default=False
        ),
    ] = None,
    keep: Annotated[
        int, typer.Option(min=1, help="How many copies stay in the folder; the oldest go.")
    ] = 14,
    config: Config = None,
) -> None:
    """Copies the journal to a new file, also while the agent prints."""
    from agent.backup import backup_into, backup_journal
    from agent.cli.output import say
    from agent.clock import SystemClock

    if (target is None) == (directory is None):
        raise typer.BadParameter("name a FILE, or a folder with --directory")
    if directory is not None:
        target = backup_into(settings_of(config), directory, keep=keep, now=SystemClock().now())
    elif target is not None:
        backup_journal(settings_of(config), target)
    say(f"{target}: written")


@journal.command("salvage")
def journal_salvage(
    target: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)
    ],
    config: Config = None,
) -> None:
    """Writes what can be read of a damaged journal to files; leaves the journal as it is."""
    from agent.cli.output import Styled, say
    from agent.salvage import salvage_journal

    done = salvage_journal(settings_of(config), target)
    say(f"{target}/receipts.jose-seq: {done.receipts} receipts, each with a good signature")
    say(f"{target}/jobs.json: {done.jobs} jobs")
    say(f"{target}/messages-*.jose-seq: {done.messages} authorizations, still encrypted")
    for lost in done.lost:
        say(Styled(f"! not readable: {lost}", "yellow"))
    say(
        "Give the receipts to the authority. Once a backup is restored, `print-agent submit` takes the authorizations again."
    )


@journal.command("export")
def journal_export(
    config: Config = None,
    job: Annotated[
        str | None, typer.Option(metavar="ID", help="By job.", show_default=False)
    ] = None,
    book: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="By book.", show_default=False)
    ] = None,
    first: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="YYYY-MM-DD", help="By period: first day (UTC).", show_default=False
        ),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="YYYY-MM-DD", help="Last day; else the first.", show_default=False
        ),
    ] = None,
) -> None:
    """Signs an extract of the chain for an auditor, to standard output.

    `print-agent authority verify` proves it with nothing but the station's public keys.
    """
    from agent.export import export_extract

    scope = _scope(job=job, book=book, first=first, last=last)
    lines = export_extract(settings_of(config), scope, now=SystemClock().now())
    sys.stdout.write("\n".join(lines) + "\n")


def _scope(*, job: str | None, book: str | None, first: str | None, last: str | None) -> Scope:
    from agent.crypto.extract import Scope

    if [job, book, first].count(None) != 2 or (last is not None and first is None):
        raise typer.BadParameter("give one of --job ID, --book NUMBER, --from DAY [--to DAY]")
    if first is None:
        return Scope(job=job, book=book)
    begin = datetime.datetime.combine(day_of(first), datetime.time(), datetime.UTC)
    end = datetime.datetime.combine(day_of(last or first), datetime.time(), datetime.UTC)
    if end < begin:
        raise typer.BadParameter(f"--to {last} is before --from {first}")
    return Scope(
        start=int(begin.timestamp()), end=int((end + datetime.timedelta(days=1)).timestamp())
    )


@journal.command("restore")
def journal_restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    config: Config = None,
) -> None:
    """Puts a backup in place; printing then waits for the authority's `resume`."""
    from agent.backup import restore_journal
    from agent.cli.output import say

    settings = settings_of(config)
    with as_owner(settings.station.state_dir):
        aside = restore_journal(settings, source)
    if aside is not None:
        say(f"the journal until now is kept as {aside}")
    say("restored; messages are taken, printing waits for the authority's `resume`")
