"""The manual page print-agent(1), from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

import typer

from agent import __version__
from agent.cli.app import app

HEAD = f"""\
.TH PRINT-AGENT 1 "" "passport-print-agent {__version__}" "Passport print agent"
.SH NAME
print-agent \\- prints signed passport authorizations into blank books
.SH SYNOPSIS
.B print-agent
.I COMMAND
.RB [ \\-\\-config
.IR FILE ]
.RB [ \\-\\-json ]
\\&...
.SH DESCRIPTION
"""
TAIL = """\
.SH EXIT STATUS
0 done; 1 refused or failed, with one line on standard error; 2 wrong usage.
.SH ENVIRONMENT
.TP
.B PRINT_AGENT_CONFIG
The station's configuration, where no \\-\\-config names one.
.SH FILES
.TP
.I /etc/print-agent/station.toml
The configuration; station.toml.example beside it has every key.
.TP
.I /var/lib/print-agent
Journal, keys and inbox. The journal is a legal record: removing or purging the package keeps it.
.TP
.I /run/print-agent/agent.sock
The agent's socket; people in the group print-agent may use it.
.TP
.I /etc/credstore.encrypted/station.jwks
The keys, where keys.sealed is true.
.SH SEE ALSO
.BR systemctl (1),
.BR journalctl (1);
the administrator's manual with troubleshooting by symptom, in
.I /usr/share/doc/passport\\-print\\-agent/docs/manual
"""


def text() -> str:
    """The page in man(7) macros."""
    group = typer.main.get_command(app)
    about = group.help or ""
    first = about.split("\n\n")[0]
    return HEAD + plain(first) + "\n.SH COMMANDS\n" + "".join(_commands(group, ())) + TAIL


def _commands(group: typer.core.TyperGroup, path: tuple[str, ...]) -> Iterator[str]:
    for name, command in group.commands.items():
        words = (*path, name)
        if command.hidden:
            continue
        if isinstance(command, typer.core.TyperGroup):
            yield from _commands(command, words)
            continue
        yield f".SS {plain(' '.join(words))}{_arguments(command)}\n{plain(command.help or '')}\n"
        for parameter in command.params:
            if (
                parameter.param_type_name == "option"
                and parameter.name != "config"
                and not parameter.hidden
            ):
                metavar = "" if parameter.is_flag else f" \\fI{_metavar(parameter)}\\fR"
                yield f".TP\n\\fB{plain(', '.join(parameter.opts))}\\fR{metavar}\n"
                yield f"{plain(parameter.help or '')}\n"


def _arguments(command: typer.core.TyperCommand) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    return "".join(f" {_metavar(argument)}" for argument in arguments)


def _metavar(parameter: typer.core.TyperOption | typer.core.TyperArgument) -> str:
    return plain(parameter.metavar or str(parameter.name).upper())


def plain(told: str) -> str:
    """Text that no macro is read from; a blank line begins a new paragraph."""
    escaped = told.strip().replace("\\", "\\e").replace("-", "\\-")
    lines = [re.sub(r"^([.'])", r"\\&\1", line.strip()) for line in escaped.splitlines()]
    return "\n".join(line or ".PP" for line in lines)
