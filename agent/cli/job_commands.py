"""Jobs: what waits, what stopped, and what a technician decides."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.client import CallFailed, part
from agent.cli.options import (
    Config,
    JobId,
    Json,
    OptionalReason,
    Reason,
    Second,
    client_of,
    token_of_second,
    view_of,
)
from agent.model import JobState
from agent.model import Reason as JobReason

PAGE_JOBS = 1_000  # what one call gives at most, CONTRACT section 5
ID_WIDTH = 26  # a longer id is broken, so that the other columns have room
MRZ_LINES = 2

commands = typer.Typer()
PANEL = "Jobs"


class Outcome(StrEnum):
    """What the book in the hand is."""

    PRINTED = "printed"
    BLANK = "blank"
    SPOILED = "spoiled"


@commands.command(rich_help_panel=PANEL)
def jobs(
    config: Config = None,
    state: Annotated[JobState | None, typer.Option(help="Only these.", show_default=False)] = None,
    application: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Only this one's.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """The jobs, and what is to do about those that stopped."""
    from agent.cli.output import say_json

    asked = {"state": state, "application": application}
    filters = [f"{name}={part(value)}" for name, value in asked.items() if value is not None]
    view = view_of(config)
    found: list[dict[str, Any]] = []
    while True:
        after = [f"after={part(found[-1]['id'])}"] if found else []
        query = "&".join([*filters, *after])
        page = view.get(f"/v1/jobs?{query}" if query else "/v1/jobs")
        found += page
        if len(page) < PAGE_JOBS:
            break
    say_json(found) if as_json else _say_jobs(found)


@commands.command(rich_help_panel=PANEL)
def job(job_id: JobId, config: Config = None, as_json: Json = False) -> None:
    """One job, and what to do about it."""
    from agent.cli.output import say_json

    found = view_of(config).get(f"/v1/jobs/{part(job_id)}")
    say_json(found) if as_json else _say_job(found)


@commands.command(rich_help_panel=PANEL)
def resolve(
    job_id: JobId,
    outcome: Annotated[
        Outcome, typer.Option(help="What the book in your hand is.", show_default=False)
    ],
    book: Annotated[
        str,
        typer.Option(
            metavar="NUMBER", help="The number of the book in your hand.", show_default=False
        ),
    ],
    attempt: Annotated[
        int | None, typer.Option(min=1, help="The attempt in doubt.", show_default=False)
    ] = None,
    reason: OptionalReason = None,
    second: Second = False,
    config: Config = None,
) -> None:
    """Says what the book of a stopped job is."""
    _act(
        config,
        job_id,
        "resolve",
        second=second,
        outcome=outcome.value,
        book=book,
        attempt=attempt,
        reason=reason,
    )


@commands.command(
    rich_help_panel=PANEL,
    # Whatever follows is refused here and never repeated: it could be holder data.
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def verify(
    context: typer.Context,
    job_id: JobId,
    mrz: Annotated[
        str,
        typer.Option(
            metavar="-", help="Always -: the two lines come on standard input.", show_default=False
        ),
    ],
    second: Second = False,
    config: Config = None,
) -> None:
    """Compares an MRZ that was read back from a book."""
    if mrz != "-" or context.args:
        raise typer.BadParameter(
            "use --mrz - and give the two lines on standard input: never holder data in arguments"
        )
    found = _act(config, job_id, "verify", second=second, mrz=_read_mrz())
    if JobReason.VERIFY_FAILED in found["reasons"]:
        raise CallFailed(
            f"job {job_id}: what was read is not the MRZ of this document; look at the book and resolve the job"
        )


@commands.command(rich_help_panel=PANEL)
def hold(
    job_id: JobId, reason: OptionalReason = None, second: Second = False, config: Config = None
) -> None:
    """Keeps a job from being printed."""
    _act(config, job_id, "hold", second=second, reason=reason)


@commands.command(rich_help_panel=PANEL)
def release(
    job_id: JobId, reason: OptionalReason = None, second: Second = False, config: Config = None
) -> None:
    """Ends a technician's hold."""
    _act(config, job_id, "release", second=second, reason=reason)


@commands.command(rich_help_panel=PANEL)
def cancel(job_id: JobId, reason: Reason, second: Second = False, config: Config = None) -> None:
    """Ends a job that has no ink."""
    _act(config, job_id, "cancel", second=second, reason=reason)


@commands.command(rich_help_panel=PANEL)
def replay(
    job_id: JobId, reason: OptionalReason = None, second: Second = False, config: Config = None
) -> None:
    """Returns a job to the queue, where no book can have ink."""
    _act(config, job_id, "replay", second=second, reason=reason)


@commands.command("request-transfer", rich_help_panel=PANEL)
def request_transfer(
    job_id: JobId,
    to: Annotated[
        str, typer.Option(metavar="STATION", help="The other station.", show_default=False)
    ],
    reason: OptionalReason = None,
    second: Second = False,
    config: Config = None,
) -> None:
    """Asks the authority to give a job to another station."""
    _act(config, job_id, "request-transfer", second=second, to=to, reason=reason)


def _act(
    config: Path | None, job_id: str, act: str, *, second: bool, **body: Any
) -> dict[str, Any]:
    body["second"] = token_of_second(asked=second)
    given = {name: value for name, value in body.items() if value is not None}
    found: dict[str, Any] = client_of(config).post(f"/v1/jobs/{part(job_id)}/{act}", given)
    from agent.cli.output import Styled, say
    from agent.cli.words import STATE_STYLES, why

    state = Styled(found["state"], STATE_STYLES[JobState(found["state"])])
    say(
        f"job {found['id']}, book {found['book']}: ",
        state,
        f" ({why(found)})" if found["reasons"] else "",
    )
    return found


def _read_mrz() -> list[str]:
    if sys.stdin.isatty():
        sys.stderr.write("The two lines of the machine-readable zone:\n")
        lines = [sys.stdin.readline() for _ in range(MRZ_LINES)]
    else:
        lines = sys.stdin.read(4096).splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    if len(lines) != MRZ_LINES:
        raise CallFailed("standard input must hold the two lines of the MRZ, and nothing else")
    return lines


def _say_jobs(found: Sequence[dict[str, Any]]) -> None:
    from agent.cli.output import Column, Styled, is_terminal, is_wide, moment, say, say_table
    from agent.cli.words import STATE_STYLES, why

    if not found:
        say("no jobs")
        return
    wide = is_wide()
    more = [Column("PRIORITY"), Column("TRIES"), Column("ACCEPTED")] if wide else []
    rows = [
        [
            job["id"],
            job["book"],
            Styled(job["state"], STATE_STYLES[JobState(job["state"])]),
            job["application"] or "-",
            *(
                [str(job["priority"]), str(job["attempts"]), moment(job["accepted_at"])]
                if wide
                else []
            ),
            why(job),
        ]
        for job in found
    ]
    columns = [
        Column("JOB", folds=max(len(job["id"]) for job in found) > ID_WIDTH),
        Column("BOOK"),
        Column("STATE"),
        Column("APPLICATION", folds=True),
        *more,
        Column("WHY", folds=True),
    ]
    say_table(columns, rows)
    stopped = [job for job in found if job["state"] == JobState.PROCESSING_STOPPED]
    if stopped and is_terminal():
        say()
        say(
            Styled(f"{len(stopped)} stopped; a person decides. What to look at is told by:", "bold")
        )
        for job in stopped:
            say(f"  print-agent job {job['id']}")


def _say_job(found: dict[str, Any]) -> None:
    from agent.cli.output import Styled, moment, say
    from agent.cli.words import STATE_STYLES, next_steps, why

    say("job          ", Styled(found["id"], "bold"))
    say("state        ", Styled(found["state"], STATE_STYLES[JobState(found["state"])]))
    if found["reasons"]:
        say("reasons      ", ", ".join(found["reasons"]))
        say("that is      ", why(found))
    say("book         ", found["book"])
    say("application  ", found["application"] or "-")
    say("priority     ", str(found["priority"]))
    say("attempts     ", str(found["attempts"]))
    say("accepted     ", moment(found["accepted_at"]))
    if found["nbf"] is not None:
        say("not before   ", moment(found["nbf"]))
    say("not after    ", moment(found["exp"]))
    if found["ended_at"] is not None:
        say("ended        ", moment(found["ended_at"]))
    steps = next_steps(found)
    if steps:
        say()
        say(Styled("What to do", "bold"))
        for step in steps:
            say("  ", step)
