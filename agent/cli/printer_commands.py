"""Books and printers."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.cli.client import Client, part
from agent.cli.options import (
    Config,
    Json,
    Reason,
    Second,
    client_of,
    settings_of,
    token_of_second,
    view_of,
)

commands = typer.Typer()
printer = typer.Typer(no_args_is_help=True, help="What a technician decides about a printer.")
PANEL = "Books and printers"


@commands.command(rich_help_panel=PANEL)
def present(
    number: Annotated[
        str, typer.Argument(metavar="NUMBER", help="The book's number.", show_default=False)
    ],
    printer_name: Annotated[
        str | None,
        typer.Option(
            "--printer",
            metavar="NAME",
            help="Where; not needed with one printer.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Presents a blank book: its job goes next."""
    from agent.cli.output import say

    settings = settings_of(config)
    if printer_name is None:
        if len(settings.printers) > 1:
            raise typer.BadParameter(
                f"say which printer: --printer {' or '.join(settings.printers)}"
            )
        printer_name = next(iter(settings.printers))
    answer = Client(settings.http.socket).post(
        f"/v1/printers/{part(printer_name)}/book", {"number": number}
    )
    say(f"book {number} was presented to {printer_name}: job {answer['job']} goes next")


@commands.command(rich_help_panel=PANEL)
def printers(config: Config = None, as_json: Json = False) -> None:
    """What each printer does, and what it wants."""
    from agent.cli.output import Column, Styled, say_json, say_table
    from agent.cli.words import PRINTER_STATE_STYLES

    found = view_of(config).get("/v1/printers")
    if as_json:
        say_json(found)
        return
    rows = [
        [
            row["name"],
            Styled(row["state"], PRINTER_STATE_STYLES.get(row["state"], "")),
            row["job"] or "-",
            row["presented"] or "-",
            {True: "in", False: "none", None: "-"}[row["book_in"]],
            row.get("detail") or ", ".join(row["reasons"]) or "-",
        ]
        for row in found
    ]
    columns = [
        Column("PRINTER"),
        Column("STATE"),
        Column("JOB", folds=True),
        Column("PRESENTED"),
        Column("BOOK"),
        Column("WHAT NOW", folds=True),
    ]
    say_table(columns, rows)


@printer.command("accept")
def printer_accept(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The printer's name.", show_default=False)
    ],
    reason: Reason,
    second: Second = False,
    config: Config = None,
) -> None:
    """Accepts a printer that was changed or used elsewhere; declares one that is away switched off."""
    from agent.cli.output import say

    given = {"reason": reason, "second": token_of_second(asked=second)}
    body = {key: value for key, value in given.items() if value is not None}
    answer = client_of(config).post(f"/v1/printers/{part(name)}/accept", body)
    say(f"printer {answer['name']} is accepted; it is {answer['state']}")
