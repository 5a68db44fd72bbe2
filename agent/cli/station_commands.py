"""The station as a whole."""

from __future__ import annotations

from typing import Any

import typer

from agent.cli.options import Config, Json, Reason, client_of, settings_of, view_of
from agent.errors import JournalDamaged
from agent.model import JobState

commands = typer.Typer()
clock = typer.Typer(no_args_is_help=True, help="The station's clock.")
PANEL = "The station"


@commands.command(rich_help_panel=PANEL)
def run(config: Config = None) -> None:
    """Runs the station until SIGTERM."""
    from agent.service import run as run_service

    raise typer.Exit(run_service(settings_of(config)))


@commands.command(rich_help_panel=PANEL)
def status(config: Config = None, as_json: Json = False) -> None:
    """Counts, conditions and the expected finish."""
    from agent.cli.output import say_json

    say_it = say_json if as_json else _say_status
    try:
        say_it(view_of(config).get("/v1/status"))
    except JournalDamaged as error:
        from agent.cli.journal_view import status_without_journal
        from agent.clock import SystemClock
        from agent.selftest import examine

        settings = settings_of(config)
        findings = list(examine(settings, clock=SystemClock()))
        say_it(status_without_journal(settings, findings))
        # Where the journal is not to blame, say what is.
        raise next(filter(None, (finding.error for finding in findings)), error) from None


def _say_status(found: dict[str, Any]) -> None:
    from agent.cli.output import Piece, Styled, moment, say
    from agent.cli.words import PRINTER_STATE_STYLES, STATE_STYLES

    say("station   ", Styled(found["station"], "bold"), f", authority {found['authority']}")
    if "jobs" in found:
        counts: list[Piece] = []
        for state, count in found["jobs"].items():
            if count:
                counts += [", "] if counts else []
                counts.append(Styled(f"{count} {state}", STATE_STYLES[JobState(state)]))
        say("jobs      ", *(counts or ["none"]))
    for row in found["printers"]:
        state = Styled(row["state"], PRINTER_STATE_STYLES.get(row["state"], ""))
        told = f" ({', '.join(row['reasons'])})" if row["reasons"] else ""
        say("printer   ", f"{row['name']}: ", state, told)
    if found["expected_finish"] is not None:
        say("finish    ", f"{moment(found['expected_finish'])} at the pace of the last books")
    if "receipts" in found:
        say(
            "receipts  ", f"{found['receipts']}, of which the authority has {found['acknowledged']}"
        )
    for condition in found["conditions"]:
        say(Styled(f"! {condition['name']}: {condition['detail']}", "yellow"))


@clock.command("accept")
def clock_accept(reason: Reason, config: Config = None) -> None:
    """Confirms a clock that is ahead of everything that the station knows."""
    from agent.cli.output import say

    client_of(config).post("/v1/clock/accept", {"reason": reason})
    say("the clock is trusted")
