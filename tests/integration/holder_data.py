"""Looks for holder data byte by byte, in every encoding that it could hide in."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from agent.model import Raster, TravelDocument

PIECE_SIZE = 32  # bytes of a photo or page: long enough to be met by no accident
BLOCK_SIZE = 256 * 1024
GRAM = 5  # bytes
SECRET_LENGTH_MIN = 6  # characters; shorter ones (a sex, a state's code) are met everywhere


def secrets_of(document: TravelDocument, raster: Raster) -> set[bytes | str]:
    """What of a holder must be met nowhere: names, numbers, zone, pieces of the photo and of the page."""
    texts = {
        document.primary_identifier,
        document.secondary_identifier,
        document.place_of_birth,
        document.personal_number,
        document.date_of_birth,
        *document.mrz,
    }
    inked = [row for index in range(raster.height) if (row := raster.row(index).strip(b"\0"))]
    rows = sorted(inked, key=lambda row: len(set(row)), reverse=True)[:40]
    photo = document.photo
    pieces = [photo[at : at + PIECE_SIZE] for at in range(200, len(photo) - PIECE_SIZE, 997)]
    return {text for text in texts if len(text) >= SECRET_LENGTH_MIN} | {
        piece for piece in (*pieces, *rows) if len(set(piece)) > 8
    }


def forms(secret: bytes | str) -> Mapping[str, bytes]:
    """A secret in all the ways in which bytes may spell it."""
    if isinstance(secret, bytes):
        return {"raw": secret, **_carried(secret)}
    found: dict[str, bytes] = {}
    zone = secret.upper().replace(" ", "<").replace("'", "").replace("-", "<")
    for name, text in (("", secret), ("lower ", secret.lower()), ("zone ", zone)):
        data = text.encode()
        found |= {
            f"{name}UTF-8": data,
            f"{name}UTF-16 LE": text.encode("utf-16-le"),
            f"{name}UTF-16 BE": text.encode("utf-16-be"),
            f"{name}UTF-32 LE": text.encode("utf-32-le"),
            f"{name}Latin-1": text.encode("latin-1", "replace"),
            f"{name}JSON": json.dumps(text)[1:-1].encode(),
            f"{name}JSON escapes": "".join(f"\\u{ord(c):04x}" for c in text).encode(),
            f"{name}JSON ESCAPES": "".join(f"\\u{ord(c):04X}" for c in text).encode(),
            f"{name}Python": ascii(text)[1:-1].encode(),
            f"{name}percent": urllib.parse.quote(text).encode(),
            f"{name}form": urllib.parse.quote_plus(text).encode(),
        }
        found |= {f"{name}{form}": spelled for form, spelled in _carried(data).items()}
    return found


def _carried(data: bytes) -> dict[str, bytes]:
    """Bytes as hexadecimal digits, and as base64 wherever in a longer text they begin."""
    found = {"hex": data.hex().encode(), "HEX": data.hex().upper().encode()}
    for shift in range(3):
        whole = bytes(shift) + data
        # Characters that carry bits of the neighbours are cut off.
        first, end = -(-shift * 8 // 6), len(whole) * 8 // 6
        found[f"base64 {shift}"] = base64.b64encode(whole)[first:end]
        found[f"base64url {shift}"] = base64.urlsafe_b64encode(whole)[first:end]
    return found


def _grams(data: bytes) -> Iterator[tuple[int, ...]]:
    """All runs of GRAM bytes."""
    return zip(*(data[offset:] for offset in range(GRAM)), strict=False)


def _gram(data: bytes, at: int) -> tuple[int, ...]:
    return tuple(data[at : at + GRAM])


class Search:
    """All forms of all secrets; knows how much it has looked at, and what it has met.

    Args:
        secrets: Texts, and bytes of photos and pages.
    """

    def __init__(self, secrets: Iterable[bytes | str]) -> None:
        self._forms = {
            form: (str(secret)[:12], name)
            for secret in secrets
            for name, form in forms(secret).items()
        }
        self._longest = max(map(len, self._forms))
        self.looked_at = 0
        self.met: list[tuple[str, str, str]] = []

    def look(self, where: str, data: bytes) -> None:
        """Searches one thing, in blocks that overlap; a form is sought where its first and last bytes are met."""
        self.looked_at += len(data)
        data = data.replace(bytes(64), b"\0")  # what was reserved, and what was erased
        for start in range(0, len(data), BLOCK_SIZE):
            block = data[start : start + BLOCK_SIZE + self._longest]
            grams = set(_grams(block))
            self.met += [
                (where, *about)
                for form, about in self._forms.items()
                if _gram(form, 0) in grams and _gram(form, len(form) - GRAM) in grams
                if form in block
            ]

    def look_below(self, folder: Path, *, but: str = "\0") -> None:
        """Searches every file below a folder, its name too, but for what lies in folders of one name."""
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if but in inside.parts:
                continue
            self.look("a name", str(inside).encode())
            if path.is_file():
                self.look(str(inside), path.read_bytes())

    def look_at_processes(self) -> None:
        """Searches what every user may read of every process: its arguments and its name."""
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "comm"):
                try:
                    self.look(f"{process.name} {name}", (process / name).read_bytes())
                except OSError:
                    continue  # it ended
