"""How a command prints: for people coloured and fitted to the terminal, else plain; JSON for programs."""

from __future__ import annotations

import datetime
import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console


WIDE_COLUMNS = 110
FOLDED_WIDTH_MIN = 8


class Styled(NamedTuple):
    """Text with a Rich style, which only a terminal shows."""

    text: str
    style: str


Piece = str | Styled


class Column(NamedTuple):
    """A column; ``folds`` means that it may break its text over several lines."""

    name: str
    folds: bool = False


def is_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


def is_wide() -> bool:
    """Whether there is room for more than what is needed to act; a program has any."""
    return not is_terminal() or shutil.get_terminal_size().columns >= WIDE_COLUMNS


def say(*pieces: Piece) -> None:
    """One line."""
    if not is_terminal():
        sys.stdout.write("".join(_text(piece) for piece in pieces) + "\n")
        return
    from rich.text import Text

    line = Text()
    for piece in pieces:
        line.append(*(piece if isinstance(piece, Styled) else (piece,)))
    # A long line is the terminal's affair: a command in it can be copied whole.
    _console().print(line, soft_wrap=True)


def say_json(value: object) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def say_qr(text: str) -> None:
    """The text as a QR code, light on dark whatever the terminal's colours are; only a person can use it."""
    if not is_terminal():
        return
    import io

    import segno
    from rich.text import Text

    drawn = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(drawn, compact=True)
    for line in drawn.getvalue().splitlines():
        _console().print(Text(line, "white on black"), soft_wrap=True)


def say_table(columns: Sequence[Column], rows: Sequence[Sequence[Piece]]) -> None:
    """A table; one line a row where nobody but a program looks."""
    if is_terminal():
        _say_rich_table(columns, rows)
        return
    plain = [[column.name for column in columns], *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in plain) for index in range(len(columns))]
    for row in plain:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _say_rich_table(columns: Sequence[Column], rows: Sequence[Sequence[Piece]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        width = FOLDED_WIDTH_MIN if column.folds else None
        table.add_column(column.name, overflow="fold", no_wrap=not column.folds, min_width=width)
    for row in rows:
        table.add_row(
            *(Text(*cell) if isinstance(cell, Styled) else Text(cell) for cell in row),
        )
    _console().print(table)


def moment(seconds: int | None) -> str:
    """A NumericDate in local time, ``-`` for none."""
    if seconds is None:
        return "-"
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"


def _text(piece: Piece) -> str:
    return piece.text if isinstance(piece, Styled) else piece


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
