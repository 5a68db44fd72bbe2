"""`print-agent authority …`: the small reference authority, for trials and training."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.options import UnusedConfig
from agent.clock import SystemClock, random_name
from agent.errors import ConfigurationInvalid, PrintAgentError
from agent.model import BATCH_LINES_MAX, Action, Role

if TYPE_CHECKING:
    from agent.authority import Audit, Authority

authority = typer.Typer(no_args_is_help=True, help="A small reference authority.")

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="The authority's folder.", show_default=False)
]
Station = Annotated[
    str, typer.Option("--station", metavar="ID", help="The station's id.", show_default=False)
]
Moment = Annotated[
    str,
    typer.Option(metavar="WHEN", help="12h, 30d from now, or a NumericDate.", show_default=True),
]
OptionalMoment = Annotated[
    str | None, typer.Option(metavar="WHEN", help="As --exp.", show_default=False)
]
SECONDS_OF = {"h": 3_600, "d": 86_400}

# What CONTRACT section 3.3 asks of each action: needed claims, and those that may be given.
_NEEDED = {
    Action.REVOKE: ("job", "reason"),
    Action.HOLD: ("job", "reason"),
    Action.RELEASE: ("job", "reason"),
    Action.TRANSFER: ("job", "to"),
    Action.RETIRE: ("reason",),
    Action.ACKNOWLEDGE: ("through", "head"),
    Action.TRUST: ("version",),
    Action.RESUME: ("through", "head", "printed"),
}
_OPTIONAL = {Action.TRUST: ("jwks",)}


@authority.command("init")
def authority_init(
    directory: Directory,
    authority_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="The authority's id.", show_default=False)
    ],
    config: UnusedConfig = None,  # noqa: ARG001 - every command takes it
) -> None:
    """Makes an authority; its public keys, for the station's trust.jwks, are in DIR/trust.jwks."""
    from agent.authority import Authority

    made = Authority.create(directory, authority_id)
    _write_trust(directory, made)
    sys.stdout.write(f"{directory / 'trust.jwks'}\n")


@authority.command("rotate")
def authority_rotate(
    directory: Directory,
    role: Annotated[Role, typer.Argument(help="Which key to replace.", show_default=False)],
    config: UnusedConfig = None,  # noqa: ARG001 - every command takes it
) -> None:
    """Replaces the issuer's or the root's key; every station then needs a trust update, new ones DIR/trust.jwks."""
    issuer = opened_authority(directory)
    issuer.rotate(role)
    _write_trust(directory, issuer)
    sys.stdout.write(f"{directory / 'trust.jwks'}: version {issuer.trust_version}\n")
    for station in issuer.stations():
        sys.stdout.write(f"print-agent authority direct {directory} trust --station {station}\n")


def _write_trust(directory: Path, issuer: Authority) -> None:
    text = json.dumps(issuer.trust_jwks(), indent=1) + "\n"
    (directory / "trust.jwks").write_text(text, encoding="utf-8")


@authority.command("authorize")
def authority_authorize(
    directory: Directory,
    station: Station,
    book: Annotated[
        list[str],
        typer.Option(
            metavar="NUMBER", help="A blank book; again for the next entry.", show_default=False
        ),
    ],
    station_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What the station's `keys show` prints; once, it is kept.",
            show_default=False,
        ),
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The travel document, JSON; without MRZ if you like.",
            show_default=False,
        ),
    ] = None,
    invented: Annotated[
        bool, typer.Option("--random", help="For somebody who does not exist, SPECIMEN.")
    ] = False,
    count: Annotated[
        int,
        typer.Option(
            min=1, max=BATCH_LINES_MAX, help="How many, with --random; book numbers count up."
        ),
    ] = 1,
    exp: Moment = "30d",
    nbf: OptionalMoment = None,
    priority: Annotated[int, typer.Option(min=1, max=100, help="Higher first.")] = 50,
    application: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="The number that staff see.", show_default=False),
    ] = None,
    jti: Annotated[
        str | None, typer.Option(metavar="ID", help="The job's id.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A file for each, JTI.jws, instead of a line.", show_default=False
        ),
    ] = None,
    config: UnusedConfig = None,  # noqa: ARG001 - every command takes it
) -> None:
    """Signs print authorizations; they go to standard output, one a line."""
    from agent.authority import random_document

    if invented == (document is not None):
        raise typer.BadParameter("give either --document FILE or --random")
    if count > 1 and (document is not None or jti is not None):
        raise typer.BadParameter("--count goes with --random, and without --jti")
    if len(book) > 4:
        raise typer.BadParameter("an authorization has up to four books")
    issuer = opened_authority(directory)
    if station_keys is not None:
        issuer.add_station(station, read_object(station_keys))
    now = SystemClock().now()
    given = None if document is None else _read_document(document, books=len(book))
    for index in range(count):
        numbers = [_counted_up(number, index) for number in book]
        name = jti or f"job-{random_name()}"
        message = _signed(
            issuer,
            station,
            numbers=numbers,
            document=given or random_document(numbers[0], random.SystemRandom()),
            jti=name,
            exp=_moment(exp, now=now),
            nbf=None if nbf is None else _moment(nbf, now=now),
            now=now,
            priority=priority,
            application=application,
        )
        if out is None:
            sys.stdout.write(message + "\n")
        else:
            sys.stdout.write(f"{_write_message(out, name, message)}\n")


def _signed(
    issuer: Authority,
    station: str,
    *,
    numbers: list[str],
    document: dict[str, Any],
    **claims: Any,
) -> str:
    if len(numbers) > 1:
        # Each book has an MRZ of its own.
        document = {name: value for name, value in document.items() if name != "mrz"}
    try:
        return issuer.authorize(station, books=[(number, document) for number in numbers], **claims)
    except KeyError as error:
        raise PrintAgentError(f"the document has no {error.args[0]}") from None
    except (TypeError, ValueError, AttributeError):
        # What is wrong with it could be told only by repeating it.
        raise PrintAgentError(
            "no MRZ can be written for this document: check its fields against Doc 9303-4"
        ) from None


def _write_message(folder: Path, name: str, message: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jws"
    # The inbox takes a file once it has its final name.
    fresh = path.with_suffix(".new")
    fresh.write_text(message + "\n", encoding="ascii")
    fresh.replace(path)
    return path


def _counted_up(number: str, index: int) -> str:
    if index == 0:
        return number
    match = re.fullmatch(r"(.*?)([0-9]+)", number)
    if match is None:
        raise typer.BadParameter(f"with --count, book {number!r} must end in digits")
    digits = str(int(match[2]) + index).rjust(len(match[2]), "0")
    if len(digits) > len(match[2]):
        raise typer.BadParameter(f"counting up from book {number!r} runs out of digits")
    return match[1] + digits


@authority.command("direct")
def authority_direct(
    directory: Directory,
    action: Annotated[Action, typer.Argument(help="What to direct.", show_default=False)],
    station: Station,
    job: Annotated[str | None, typer.Option(metavar="ID", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", show_default=False)] = None,
    to: Annotated[str | None, typer.Option(metavar="STATION", show_default=False)] = None,
    through: Annotated[int | None, typer.Option(min=0, metavar="SEQ", show_default=False)] = None,
    head: Annotated[str | None, typer.Option(metavar="HASH", show_default=False)] = None,
    printed: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A job; again for the next.", show_default=False),
    ] = None,
    receipts: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="For acknowledge and resume: receipts that the authority holds give the claims; again for the next delivery.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    jwks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The new trust store; else this authority's.", show_default=False
        ),
    ] = None,
    exp: Moment = "30d",
    skip: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Leaves out N numbers that a thief of the key may have used."
        ),
    ] = 0,
    config: UnusedConfig = None,  # noqa: ARG001 - every command takes it
) -> None:
    """Signs a directive to standard output."""
    issuer = opened_authority(directory)
    held = None if not receipts else _held(issuer, action, station, receipts)
    claims: dict[str, Any] = {
        "job": job,
        "reason": reason,
        "to": to,
        "through": through if held is None else held.through,
        "head": head if held is None else held.head,
        "printed": _printed(held, printed or []) if action is Action.RESUME else printed,
        "version": version or (issuer.trust_version or None if action is Action.TRUST else None),
        "jwks": None if jwks is None else read_object(jwks),
    }
    given = {name: value for name, value in claims.items() if value is not None}
    if action is not Action.RETIRE and "reason" in _NEEDED[action]:
        given.setdefault("reason", "by the reference authority")
    _check_claims(action, given)
    now = SystemClock().now()
    sys.stdout.write(
        issuer.direct(station, action, exp=_moment(exp, now=now), now=now, skip=skip, **given)
        + "\n"
    )


def _held(issuer: Authority, action: Action, station: str, files: list[Path]) -> Audit:
    """What the receipts prove that the authority holds; a rollback that is to be resumed may be among them."""
    if action not in (Action.ACKNOWLEDGE, Action.RESUME):
        raise typer.BadParameter("--receipts goes with acknowledge and resume")
    audit = issuer.verify(station, [line for file in files for line in read_receipts(file)])
    faults = [fault for fault in audit.faults if action is Action.ACKNOWLEDGE or not fault.fork]
    if faults:
        raise PrintAgentError(
            f"the receipts of {station} are not whole ({faults[0].detail}), nothing was signed; see"
            " `print-agent authority verify`"
        )
    return audit


def _printed(held: Audit | None, printed: list[str]) -> list[str]:
    """The jobs that a resume tells to be printed; of what nobody can know, a word on standard error."""
    if held is None:
        return printed
    for entry in held.doubtful():
        sys.stderr.write(
            f"print-agent: job {entry.job}: book {entry.book} may have ink ({entry.event}); hold or revoke the job before you"
            " send the resume, and have somebody look at the book\n"
        )
    return [*dict.fromkeys([*held.printed(), *printed])]


def _check_claims(action: Action, given: Mapping[str, Any]) -> None:
    needed, optional = _NEEDED[action], _OPTIONAL.get(action, ())
    for name in needed:
        if name not in given:
            raise typer.BadParameter(f"{action} needs --{name}")
    for name in given:
        if name not in (*needed, *optional):
            raise typer.BadParameter(f"{action} has no --{name}")


def opened_authority(directory: Path) -> Authority:
    """The reference authority of a folder."""
    from agent.authority import Authority

    return Authority.load(directory)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ConfigurationInvalid: it holds none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise ConfigurationInvalid(f"{path}: {told}") from None
    if not isinstance(found, dict):
        raise ConfigurationInvalid(f"{path}: found no JSON object")
    return found


def _read_document(path: Path, *, books: int) -> dict[str, Any]:
    document = read_object(path)
    if books > 1:
        document.pop("mrz", None)
    return document


def read_receipts(file: Path) -> list[str]:
    """Receipts from a file, or from standard input for ``-``.

    Raises:
        PrintAgentError: these are none.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="ascii")
    except ValueError:
        raise PrintAgentError(f"{file}: these are no receipts") from None
    return text.split()


def _claims(receipt: str) -> dict[str, Any]:
    from agent.cli.message_commands import claims_of

    return claims_of(receipt)


def chain_station(receipts: list[str]) -> str:
    """Whose receipts they claim to be.

    Raises:
        PrintAgentError: there is none that says so.
    """
    name = _claims(receipts[0]).get("iss") if receipts else None
    if not isinstance(name, str):
        raise PrintAgentError("there is no receipt, so say --station ID")
    return name


def _moment(text: str, *, now: int) -> int:
    match = re.fullmatch(r"([0-9]{1,16})([hd]?)", text, re.ASCII)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no time: use 12h, 30d or a NumericDate")
    number = int(match[1])
    return now + number * SECONDS_OF[match[2]] if match[2] else number
