"""Who may act over TCP."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agent.cli.client import part
from agent.cli.options import Config, Json, client_of

technician = typer.Typer(no_args_is_help=True, help="Who may act over TCP, by a token.")
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The technician's name.", show_default=False)
]


@technician.command("add")
def technician_add(name: Name, config: Config = None) -> None:
    """Prints a new token, this once; an earlier one of that name ends."""
    token = client_of(config).post(f"/v1/technicians/{part(name)}/add", {})["token"]
    sys.stdout.write(f"{token}\n")


@technician.command("list")
def technician_list(config: Config = None, as_json: Json = False) -> None:
    """Who has a token."""
    from agent.cli.output import Column, moment, say, say_json, say_table

    found = client_of(config).get("/v1/technicians")
    if as_json:
        say_json(found)
    elif found:
        rows = [[row["name"], moment(row["added_at"])] for row in found]
        say_table([Column("TECHNICIAN", folds=True), Column("SINCE")], rows)
    else:
        say("nobody has a token")


@technician.command("remove")
def technician_remove(name: Name, config: Config = None) -> None:
    """Ends a technician's token."""
    from agent.cli.output import say

    client_of(config).post(f"/v1/technicians/{part(name)}/remove", {})
    say(f"the token of {name} has ended")
