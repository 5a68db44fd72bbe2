"""What is wrong here, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.client import Client
from agent.cli.options import Config, Json, settings_of
from agent.cli.station_commands import PANEL
from agent.errors import ConfigurationInvalid, PrintAgentError

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.doctor import PowerCycle, RunningAgent

commands = typer.Typer()
PART_WIDTH = 14  # the longest part's name, and a space


@commands.command(rich_help_panel=PANEL)
def doctor(
    config: Config = None,
    as_json: Json = False,
    power_cycle: Annotated[
        str | None,
        typer.Option(
            "--power-cycle",
            metavar="PRINTER",
            help="Also listens while you switch this printer off and on; the agent must be stopped.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Looks at everything that the station stands on, and says what a person must do.

    Exit status: 0 all is well, 1 something needs a person.
    """
    from agent.cli.output import say_json

    rows = []
    for row in _rows(config, power_cycle):
        rows.append(row)
        if not as_json:
            _say(row)
    wrong = sum(row["condition"] is not None for row in rows)
    if as_json:
        say_json({"well": not wrong, "findings": rows})
    else:
        _say_verdict(wrong)
    raise typer.Exit(1 if wrong else 0)


def _rows(config: Path | None, power_cycle: str | None) -> Iterator[dict[str, Any]]:
    try:
        settings = settings_of(config)
    except ConfigurationInvalid as error:
        yield _row("configuration", str(error), "configuration-invalid")
        return
    from agent.clock import SystemClock
    from agent.config import configuration_path
    from agent.doctor import diagnose

    directory = settings.station.state_dir
    if os.path.isdir(directory) and not os.access(directory, os.R_OK | os.X_OK):
        raise PrintAgentError(
            f"{directory}: this user may not look into it, the doctor must: `sudo print-agent doctor`"
        )
    yield _row("configuration", f"{configuration_path(config)}: station {settings.station.id}")
    agent = _running_agent(Client(settings.http.socket))
    hand = _power_cycle(settings, agent, power_cycle)
    for finding in diagnose(settings, clock=SystemClock(), agent=agent, power_cycle=hand):
        yield _row(finding.part.value, finding.sentence, finding.condition)


def _row(part: str, sentence: str, condition: str | None = None) -> dict[str, Any]:
    return {"part": part, "condition": condition, "sentence": sentence}


def _running_agent(client: Client) -> RunningAgent | None:
    from agent.doctor import RunningAgent

    if not client.runs():
        return None
    return RunningAgent(client.process(), client.get("/v1/status"), client.get("/v1/printers"))


def _power_cycle(
    settings: Settings, agent: RunningAgent | None, printer: str | None
) -> PowerCycle | None:
    from agent.doctor import PowerCycle

    if printer is None:
        return None
    if printer not in settings.printers:
        raise typer.BadParameter(f"--power-cycle: there is no printer {printer!r}")
    if agent is not None:
        raise typer.BadParameter("--power-cycle: stop the agent first, it holds the printer")
    return PowerCycle(printer, _tell)


def _tell(sentence: str) -> None:
    sys.stderr.write(f"print-agent: {sentence}\n")
    sys.stderr.flush()


def _say(row: dict[str, Any]) -> None:
    from agent.cli.output import Styled, is_terminal, say

    wanted = row["condition"] is not None
    sign = "! " if wanted else "  "
    style = "yellow" if wanted else ""
    for number, line in enumerate(_lines(row["sentence"], folded=is_terminal())):
        name = row["part"] if number == 0 else ""
        say(f"{name:<{PART_WIDTH}}", Styled((sign if number == 0 else "  ") + line, style))


def _lines(sentence: str, *, folded: bool) -> Sequence[str]:
    if not folded:
        return [sentence]
    width = shutil.get_terminal_size().columns - PART_WIDTH - 2
    return textwrap.wrap(sentence, max(width, 20), break_long_words=False, break_on_hyphens=False)


def _say_verdict(wrong: int) -> None:
    from agent.cli.output import Styled, say

    if not wrong:
        say(Styled("all is well", "green"))
    else:
        things = "one thing needs" if wrong == 1 else f"{wrong} things need"
        say(Styled(f"{things} a person: the lines with !", "bold red"))
