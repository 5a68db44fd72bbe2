"""The options and arguments that commands share, and how a command reaches the station."""

from __future__ import annotations

import datetime
import sys
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from agent.cli.client import Client

if TYPE_CHECKING:
    from agent.config import Settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The station's configuration; else $PRINT_AGENT_CONFIG, else /etc/print-agent/station.toml.",
        show_default=False,
    ),
]
# Every command takes --config (CONTRACT section 6), also one that no station is needed for.
UnusedConfig = Annotated[Path | None, typer.Option("--config", metavar="FILE", hidden=True)]
Json = Annotated[bool, typer.Option("--json", help="Stable output for programs.")]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; it goes into the receipt.")
]
OptionalReason = Annotated[
    str | None,
    typer.Option(
        "--reason", metavar="TEXT", help="Why; it goes into the receipt.", show_default=False
    ),
]
Second = Annotated[
    bool,
    typer.Option(
        "--second",
        help="Asks for the token of the second technician, where [console] two_person wants one.",
    ),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.", show_default=False)]


def day_of(text: str) -> datetime.date:
    """A day that was typed in.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=datetime.UTC).date()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day: use YYYY-MM-DD") from None


def token_of_second(*, asked: bool) -> str | None:
    """The second technician's token, typed without being shown: never in an argument, where every user can read it."""
    return getpass("Token of the second technician: ") if asked else None


class View(Protocol):
    """What the reading commands ask: the running agent, or the journal while it does not run."""

    def get(self, path: str) -> Any:
        """The answer of a GET call."""
        ...

    def receipts(self, after: int) -> list[str]:
        """A page of receipts after that ``seq``."""
        ...


def settings_of(config: Path | None) -> Settings:
    """The station's configuration."""
    from agent.config import load_settings

    return load_settings(config)


def client_of(config: Path | None) -> Client:
    """Calls to the running agent."""
    return Client(settings_of(config).http.socket)


def view_of(config: Path | None) -> View:
    """The running agent, or, said on standard error, the journal."""
    settings = settings_of(config)
    client = Client(settings.http.socket)
    if client.runs():
        return client
    from agent.cli.journal_view import JournalView

    view = JournalView(settings)
    sys.stderr.write(
        "print-agent: the agent does not run; this is what the journal says"
        " (start it with `systemctl start print-agent`)\n"
    )
    return view
