"""The command `print-agent`: its parts, and the boundary behind which no traceback is seen."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from agent import __version__
from agent.cli import (
    authority_takeover,
    authority_verify,
    demo_command,
    doctor_command,
    job_commands,
    message_commands,
    printer_commands,
    setup_command,
    station_commands,
    takeover,
)
from agent.cli.authority import authority
from agent.cli.journal_commands import journal
from agent.cli.key_commands import keys
from agent.cli.technician_commands import technician
from agent.errors import PrintAgentError
from agent.privacy import keep_memory_private, place_of
from agent.service_manager import error_line

EXIT_REFUSED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    name="print-agent",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"print-agent {__version__}\n")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Its version."),
    ] = False,
) -> None:
    """Prints signed passport authorizations into blank books: none lost, none twice.

    Exit status: 0 done, 1 refused or failed with one line on standard error, 2 wrong usage.
    """


app.add_typer(setup_command.commands)
app.add_typer(station_commands.commands)
app.add_typer(job_commands.commands)
app.add_typer(printer_commands.commands)
app.add_typer(printer_commands.printer, name="printer", rich_help_panel=printer_commands.PANEL)
app.add_typer(message_commands.commands)
app.add_typer(station_commands.clock, name="clock", rich_help_panel=station_commands.PANEL)
app.add_typer(journal, name="journal", rich_help_panel=station_commands.PANEL)
app.add_typer(keys, name="keys", rich_help_panel=station_commands.PANEL)
app.add_typer(doctor_command.commands)
app.add_typer(technician, name="technician", rich_help_panel=station_commands.PANEL)
app.add_typer(takeover.commands)
app.add_typer(demo_command.commands)
authority.add_typer(authority_verify.commands)
authority.add_typer(authority_takeover.commands)
app.add_typer(authority, name="authority", rich_help_panel=demo_command.PANEL)


def main() -> int:
    """Runs the command that the process was started with; gives the exit code."""
    keep_memory_private()
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; the interpreter must not complain about the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_REFUSED
    return code


def _run() -> int:
    try:
        app(prog_name="print-agent")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except PrintAgentError as error:
        return _failed(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        advice = "; use sudo" if isinstance(error, PermissionError) else ""
        return _failed(f"{name}{error.strerror or type(error).__name__}{advice}")
    except Exception as error:  # noqa: BLE001 - its text and its frames could hold holder data
        return _failed(f"a bug: {place_of(error)}; tell support")
    return 0


def _failed(sentence: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(error_line(" ".join(sentence.split())))
    return EXIT_REFUSED
