"""What an agent and a printer said to each other, as a file to read and to replay.

host     1B 40 00*1028 1D 49 01         ; who spoke, the bytes in hexadecimal digits, what they mean
printer  02                             ; QueuedStatus(value=2)
host     ... 2048                       ; so many bytes of a page are left out
# a remark
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.drivers import escpos

HOST, PRINTER = "host", "printer"
BYTES_A_LINE = 16
RUN_MIN = 8  # equal bytes that are told as a run
SHOWN_MAX = 400  # bytes of one piece; a longer one is a page

_MEANINGS = {
    escpos.CLEAR_BUFFERS: "DLE DC4 fn 8: clear the buffers",
    escpos.CANCEL_SLIP_WAITING: "DLE ENQ 3: wait for no book",
    escpos.RECOVER_AND_CLEAR: "DLE ENQ 2: recover from an error",
    escpos.LOAD_FENCE: "GS I 1: model ID, a fence",
    escpos.identity(escpos.Identity.MODEL): "GS I 67: model",
    escpos.identity(escpos.Identity.SERIAL_NUMBER): "GS I 68: serial number",
    escpos.PAGE_MODE: "ESC L: page mode, and the page",
    escpos.FORM_FEED: "FF and the completion request: print",
    b"\x10\x04\x02": "DLE EOT 2: why offline",
    b"\x10\x04\x03": "DLE EOT 3: which error",
    b"\x10\x04\x05": "DLE EOT 5: where the book is",
    b"\x1da": "GS a: automatic status",
    b"\x1dg2": "GS g 2: counter",
    b"\x1d(H\x03": "GS ( H fn 49: tell when offline",
    bytes(16): "NULs for a half-sent command, ESC @",
}
_TOKEN = re.compile(r"([0-9A-F]{2})(?:\*(\d+))?")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A piece of the talk; ``data`` is None where bytes were left out."""

    speaker: str
    data: bytes | None


def lines(speaker: str, data: bytes) -> Iterator[str]:
    """The lines of one piece."""
    if len(data) > SHOWN_MAX and len(set(data)) > RUN_MIN:
        yield f"{speaker:8} ... {len(data)}"
        return
    tokens = list(_tokens(data))
    step = BYTES_A_LINE if speaker == HOST else len(tokens)
    for start in range(0, len(tokens), step):
        shown = " ".join(tokens[start : start + step])
        meaning = "" if start else _meaning(speaker, data)
        yield f"{speaker:8} {shown:48}" + (f" ; {meaning}" if meaning else "")


def _tokens(data: bytes) -> Iterator[str]:
    for byte, run in itertools.groupby(data):
        count = sum(1 for _ in run)
        if count >= RUN_MIN:
            yield f"{byte:02X}*{count}"
        else:
            yield from [f"{byte:02X}"] * count


def _meaning(speaker: str, data: bytes) -> str:
    if speaker == PRINTER:
        return ", ".join(map(repr, escpos.ReplyParser().feed(data)))
    return next((told for start, told in _MEANINGS.items() if data.startswith(start)), "")


def read(text: str) -> list[Spoken]:
    """The talk of a file: what the host says until it is answered is one piece, each line of the printer is one.

    Raises:
        ValueError: a line is no line of a transcript.
    """
    talk: list[Spoken] = []
    for number, line in enumerate(text.splitlines(), 1):
        said = re.split("[;#]", line, maxsplit=1)[0].split()
        if not said:
            continue
        piece = _piece(number, said)
        last = talk[-1] if talk else None
        if piece.speaker == PRINTER or last is None or last.speaker == PRINTER:
            talk.append(piece)
        elif last.data and piece.data:
            talk[-1] = Spoken(HOST, last.data + piece.data)
        elif piece != last:
            talk.append(piece)
    return talk


def _piece(number: int, said: list[str]) -> Spoken:
    speaker, *tokens = said
    if speaker not in (HOST, PRINTER) or not tokens:
        raise ValueError(f"line {number}: begins with neither host nor printer and bytes")
    if tokens[0] == "...":
        return Spoken(speaker, None)
    found = [_TOKEN.fullmatch(token) for token in tokens]
    if not all(found):
        raise ValueError(f"line {number}: bytes are two hexadecimal digits, or 00*16 for a run")
    return Spoken(
        speaker, b"".join(bytes.fromhex(one[1]) * int(one[2] or 1) for one in found if one)
    )
