"""The journal on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import Config, Json, settings_of
from agent.errors import JournalDamaged

journal = typer.Typer(no_args_is_help=True, help="The journal on disk.")


@journal.command("verify")
def journal_verify(config: Config = None, as_json: Json = False) -> None:
    """Recomputes the chain, its signatures and every table; changes nothing."""
    from agent.cli.output import Styled, say, say_json
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
        raise JournalDamaged(
            f"{path}: the journal is NOT whole, {len(report.faults)} faults: leave it as it is, keep a copy, call support"
        )


@journal.command("backup")
def journal_backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    config: Config = None,
) -> None:
    """Copies the journal to a new file, also while the agent prints."""
    from agent.backup import backup_journal
    from agent.cli.output import say

    backup_journal(settings_of(config), target)
    say(f"{target}: written")


@journal.command("restore")
def journal_restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    config: Config = None,
) -> None:
    """Puts a backup in place; printing then waits for the authority's `resume`."""
    from agent.backup import restore_journal
    from agent.cli.output import say

    aside = restore_journal(settings_of(config), source)
    if aside is not None:
        say(f"the journal until now is kept as {aside}")
    say("restored; messages are taken, printing waits for the authority's `resume`")
