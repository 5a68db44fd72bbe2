"""`print-agent demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import UnusedConfig

commands = typer.Typer()
PANEL = "Trials and training"


@commands.command(rich_help_panel=PANEL)
def demo(
    serve: Annotated[bool, typer.Option("--serve", help="Leave a live station running.")] = False,
    directory: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where everything of the demo goes; an earlier demo there is deleted.",
        ),
    ] = Path("demo"),
    books: Annotated[int, typer.Option(min=1, max=2_000, help="How many books.")] = 80,
    speed: Annotated[
        float, typer.Option(min=0.1, max=1_000, help="How many times faster than a real printer.")
    ] = 40.0,
    config: UnusedConfig = None,  # noqa: ARG001 - every command takes it
) -> None:
    """A working day on a virtual printer, plug pulled twice."""
    from agent.cli.demo import run_demo

    raise typer.Exit(run_demo(directory, books=books, speed=speed, serve=serve))
