"""`print-agent takeover`: a technician at the spare counts a dead station's books, and signs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from agent.cli.client import CallFailed, Client, part
from agent.cli.options import Config, settings_of
from agent.model import BOOK_NUMBER

if TYPE_CHECKING:
    from agent.cli.tally import Reply, Tally

commands = typer.Typer()
PANEL = "The station"
LIST_SIZE_MAX = 16 * 1024 * 1024  # bytes; some 300,000 books


@commands.command(rich_help_panel=PANEL)
def takeover(
    dead: Annotated[
        str, typer.Argument(metavar="STATION", help="The dead station's id.", show_default=False)
    ],
    books: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What `authority books` prints: without it nobody can say what is missing.",
            show_default=False,
        ),
    ] = None,
    draft: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the count is kept until it is signed; else in your own state directory.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Counts a dead station's books with a barcode scanner, and signs what was found; goes on where it stopped."""
    from agent.cli.output import say
    from agent.cli.tally import HELP, Tally

    settings = settings_of(config)
    spare = settings.station.id
    if dead == spare:
        raise CallFailed(f"this is {dead} itself: the count is made at the station that takes over")
    client = Client(settings.http.socket)
    # Not after the last scan: who signs must be there.
    client.get("/v1/status")
    listed = None if books is None else _read_list(books, dead)
    path = draft or _own_draft(dead)
    with _held(path) as file:
        tally = Tally(listed)
        _resume(tally, file, path, f"# {part(dead)} counted at {part(spare)}")
        say(f"Counting the books of {dead} at {spare}.")
        say(HELP)
        if tally.fates:
            say(f"Going on with {path}: {tally.summary()}")
        if _count(tally, file):
            _sign(client, tally, dead=dead, spare=spare)
        else:
            say(f"Nothing is signed. The same command goes on; the count is kept in {path}")


def _count(tally: Tally, file: TextIO) -> bool:
    """The dialogue; whether the person wants to sign."""
    from agent.cli.output import Styled, say

    ending = False
    for line in _lines(tally):
        word = line.strip().lower()
        if word == "q":
            return False
        if word == "sign" and ending:
            return True
        ending = word == "e" and bool(tally.fates)
        if ending:
            say(tally.left_text())
            say(Styled(f"To be signed: {tally.summary()}", "bold"))
            say("Whoever signs has had each book in the hand, and looked for the missing ones.")
            say("Type sign, and Enter; or go on scanning.")
        elif word:
            _say(_kept(tally.answer(line), file))
    return False


def _lines(tally: Tally) -> Iterator[str]:
    from agent.cli.output import is_terminal

    while True:
        if is_terminal():
            sys.stdout.write(f"[{tally.pile}] ")
        sys.stdout.flush()
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError:
            line = "\N{REPLACEMENT CHARACTER}\n"  # a key of another keyboard, and no book
        if not line:
            return
        yield line


def _kept(reply: Reply, file: TextIO) -> Reply:
    """An answer is shown once what it says is durable."""
    if reply.kept is not None:
        file.write(f"{reply.kept}\n")
        file.flush()
        os.fsync(file.fileno())
    return reply


def _say(reply: Reply) -> None:
    from agent.cli.output import Styled, is_terminal, say
    from agent.cli.tally import Mood

    if reply.mood is Mood.QUIET:
        say(reply.text)
        return
    if is_terminal():
        sys.stdout.write("\a")
    say(Styled(f"!! {reply.text}", "bold red"))


def _sign(client: Client, tally: Tally, *, dead: str, spare: str) -> None:
    from agent.cli.output import Styled, say

    counted = {fate.value: numbers for fate, numbers in tally.books().items()}
    seq = client.post("/v1/inventory", {"of": dead, "books": counted})["receipt"]
    say(Styled(f"Signed: receipt {seq} of {spare}.", "green"), f" {tally.summary()}")
    say("The authority gets it with the receipts; to carry it:")
    say(f"  print-agent receipts > {spare}.receipts")


def _read_list(path: Path, dead: str) -> dict[str, bool]:
    """The authority's list: book to whether it is to be found."""
    if path.stat().st_size > LIST_SIZE_MAX:
        raise CallFailed(f"{path}: more than {LIST_SIZE_MAX} bytes; this is no list of books")
    first, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    if first != f"# {dead}":
        raise CallFailed(
            f'{path}: its first line is not "# {dead}": this is no list of that station\'s books'
        )
    listed: dict[str, bool] = {}
    for place, line in enumerate(lines, 2):
        number, kind, *_ = [*line.split("\t"), "", ""]
        if not BOOK_NUMBER.fullmatch(number) or kind not in ("open", "ended"):
            raise CallFailed(f"{path}: line {place} is no line of a list of books")
        # A book that an ended job gave back may be wanted for another one.
        listed[number] = listed.get(number, False) or kind == "open"
    return listed


def _own_draft(dead: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    folder = (Path(state) if state else Path.home() / ".local/state") / "print-agent"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"takeover-{part(dead)}.txt"


@contextlib.contextmanager
def _held(path: Path) -> Iterator[TextIO]:
    """The draft, for one count at a time."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+", encoding="ascii", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CallFailed(f"{path}: another window counts these books; go on there") from None
        yield file


def _resume(tally: Tally, file: TextIO, path: Path, title: str) -> None:
    """Takes what was counted before; a line that a power cut tore is cut off, its book is scanned again."""
    text = file.read()
    whole = text[: text.rfind("\n") + 1]
    if not whole:
        whole = f"{title}\n"
        file.seek(0)
        file.write(whole)
    file.seek(len(whole))
    file.truncate()
    first, *lines = whole.splitlines()
    if first != title:
        raise CallFailed(f'{path}: its first line is not "{title}": name another --draft')
    for place, line in enumerate(lines, 2):
        try:
            tally.restore(line)
        except ValueError:
            raise CallFailed(
                f"{path}: line {place} is damaged; name another --draft, and count again"
            ) from None
