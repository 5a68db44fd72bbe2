"""Signed messages in, signed receipts out."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.client import SEQUENCE_TIMEOUT_S, CallFailed, Client, decoded, sentence_of
from agent.cli.options import Config, Json, client_of, view_of
from agent.errors import PrintAgentError

commands = typer.Typer()
PANEL = "Messages and receipts"
MESSAGE = "application/jose"
SEQUENCE = "application/jose-seq"

_REFUSALS = {
    "too-large": "it is too large",
    "malformed": "it is malformed",
    "bad-signature": "no key that this station trusts signed it so",
    "wrong-station": "it is for another station, or from another authority",
    "conflict": "its jti, seq or book belongs to another message, or its version is no newer one",
    "expired": "its exp has passed",
    "bad-document": "its document cannot be opened or must not be printed",
    "disk-full": "the disk is full: free some room and submit it again",
}


@commands.command(rich_help_panel=PANEL)
def submit(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="x.jws: one message; x.jose-seq: one a line.",
            show_default=False,
        ),
    ],
    config: Config = None,
) -> None:
    """Hands signed messages over."""
    client = client_of(config)
    for file in files:
        # Nothing is sent while a name is mistyped.
        if not file.is_file():
            raise CallFailed(f"{file}: there is no such file; nothing was submitted")
    refused = 0
    for file in files:
        rows = _submit(client, file)
        for place, row in rows:
            refused += row["status"] >= 300
            sys.stdout.write(f"{place}\t{row['status']}\t{_told(row)}\n")
            sys.stdout.flush()
    if refused:
        raise CallFailed(
            "one message was refused" if refused == 1 else f"{refused} messages were refused"
        )


def _submit(client: Client, file: Path) -> list[tuple[str, dict[str, Any]]]:
    with file.open("rb") as content:
        status, raw = client.call(
            "POST",
            "/v1/messages",
            content,
            kind=SEQUENCE if file.suffix == ".jose-seq" else MESSAGE,
            size=os.fstat(content.fileno()).st_size,
            timeout_s=SEQUENCE_TIMEOUT_S,
        )
    answer = decoded(raw)
    if isinstance(answer, list):
        return [(f"{file}#{number}", row) for number, row in enumerate(answer, 1)]
    if status < 300:
        return [(str(file), {**answer, "status": status})]
    return [
        (
            str(file),
            {"status": status, "type": answer.get("type"), "detail": sentence_of(answer, status)},
        )
    ]


def _told(row: dict[str, Any]) -> str:
    about = f" job {row['job']}" if row.get("job") else ""
    match row["status"]:
        case 201:
            return "accepted" + about
        case 200:
            return "known already" + about
        case _:
            name = str(row.get("type") or "").rpartition(":")[2]
            sentence = row.get("detail") or _REFUSALS.get(name, "no reason given")
            return f"refused{about}: {name + ': ' if name else ''}{sentence}"


@commands.command(rich_help_panel=PANEL)
def receipts(
    config: Config = None,
    after: Annotated[int, typer.Option(min=0, metavar="N", help="Only those after this seq.")] = 0,
    as_json: Json = False,
) -> None:
    """The signed chain, one receipt a line.

    With --json the claims of each receipt, one object a line.
    """
    view = view_of(config)
    while True:
        lines = view.receipts(after)
        if not lines:
            return
        for line in lines:
            sys.stdout.write(
                (json.dumps(claims_of(line), ensure_ascii=False) if as_json else line) + "\n"
            )
        # A number may be missing after a `resume`, so it is read and not counted.
        after = claims_of(lines[-1])["seq"]


def claims_of(receipt: str) -> dict[str, Any]:
    """The claims of a receipt, unverified.

    Raises:
        PrintAgentError: It is none.
    """
    try:
        text = receipt.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (IndexError, ValueError):
        raise PrintAgentError("a line is no receipt") from None
    return claims
