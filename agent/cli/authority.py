"""`print-agent authority …`: the small reference authority, for trials and training."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.clock import SystemClock, random_name
from agent.errors import ConfigurationInvalid
from agent.model import Action

authority_app = typer.Typer(no_args_is_help=True, help="A small reference authority for trials.")

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="the authority's folder")]
Station = Annotated[str, typer.Option(help="the station's id")]
DAY_S = 86_400


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationInvalid(
            f"{path}: cannot be read as JSON ({type(error).__name__})"
        ) from error


@authority_app.command("init")
def authority_init(
    directory: Directory, authority_id: Annotated[str, typer.Option("--id")]
) -> None:
    """Makes an authority and its public trust.jwks."""
    from agent.authority import Authority

    authority = Authority.create(directory, authority_id)
    trust = directory / "trust.jwks"
    trust.write_text(json.dumps(authority.trust_jwks(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{trust}\n")


@authority_app.command("authorize")
def authority_authorize(
    directory: Directory,
    station: Station,
    book: Annotated[list[str], typer.Option(help="a book's number; again for the next entry")],
    station_keys: Annotated[
        Path | None, typer.Option(help="the station's public keys, the first time")
    ] = None,
    document: Annotated[
        Path | None, typer.Option(help="the travel document as JSON; absent: somebody invented")
    ] = None,
    job: Annotated[str | None, typer.Option(help="the job's id")] = None,
    days: Annotated[int, typer.Option(help="how long it may be printed")] = 30,
    priority: Annotated[int, typer.Option()] = 50,
    application: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Signs a print authorization to standard output."""
    from agent.authority import Authority, random_document

    authority = Authority.load(directory)
    if station_keys is not None:
        authority.add_station(station, _read_json(station_keys))
    now = SystemClock().now()
    made = _read_json(document) if document else random_document(book[0], random.SystemRandom())
    made.pop("mrz", None)
    message = authority.authorize(
        station,
        books=[(number, made) for number in book],
        jti=job or f"job-{random_name()}",
        exp=now + days * DAY_S,
        now=now,
        priority=priority,
        application=application,
    )
    sys.stdout.write(message + "\n")


@authority_app.command("direct")
def authority_direct(
    directory: Directory,
    action: Annotated[Action, typer.Argument(help="what to direct")],
    station: Station,
    job: Annotated[str | None, typer.Option()] = None,
    reason: Annotated[str, typer.Option()] = "by the reference authority",
    to: Annotated[str | None, typer.Option()] = None,
    through: Annotated[int | None, typer.Option()] = None,
    head: Annotated[str | None, typer.Option()] = None,
    printed: Annotated[list[str] | None, typer.Option()] = None,
    version: Annotated[int | None, typer.Option()] = None,
    jwks: Annotated[Path | None, typer.Option()] = None,
    days: Annotated[int, typer.Option()] = 30,
) -> None:
    """Signs a directive to standard output."""
    from agent.authority import Authority

    claims: dict[str, Any] = {
        "job": job,
        "to": to,
        "through": through,
        "head": head,
        "version": version,
    }
    if action in (Action.REVOKE, Action.HOLD, Action.RELEASE, Action.TRANSFER, Action.RETIRE):
        claims["reason"] = reason
    if action is Action.RESUME:
        claims["printed"] = printed or []
    if jwks is not None:
        claims["jwks"] = _read_json(jwks)
    now = SystemClock().now()
    given = {name: value for name, value in claims.items() if value is not None}
    sys.stdout.write(
        Authority.load(directory).direct(station, action, exp=now + days * DAY_S, now=now, **given)
        + "\n"
    )


@authority_app.command("verify")
def authority_verify(
    directory: Directory,
    file: Annotated[Path, typer.Argument(help="receipts, one a line; - for standard input")],
    station: Station,
    job: Annotated[str | None, typer.Option(help="what became of this job")] = None,
    book: Annotated[str | None, typer.Option(help="what became of this book")] = None,
) -> None:
    """Proves a chain of receipts with the public keys alone."""
    from agent.authority import Authority

    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="ascii")
    audit = Authority.load(directory).verify(station, text.split())
    entries = audit.job(job) if job else audit.book(book) if book else []
    for entry in entries:
        sys.stdout.write(
            f"{entry.seq}\t{entry.event}\t{entry.job or '-'}\t{entry.state or '-'}\t{entry.book or '-'}\t{entry.actor or '-'}\n"
        )
    for fault in audit.faults:
        sys.stdout.write(f"! {fault.seq}: {fault.detail}\n")
    sys.stdout.write(
        f"{len(audit.entries)} receipts, {'the chain is whole' if audit.is_whole() else 'the chain is BROKEN'}\n"
    )
    raise typer.Exit(0 if audit.is_whole() else 1)
