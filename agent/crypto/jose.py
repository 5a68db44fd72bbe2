"""Strict base64url, strict JSON and JWK values, as CONTRACT section 3 asks; no I/O.

Everything raises ``ValueError`` with a text that says what is wrong and never repeats the data.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NoReturn

from agent.model import INTEGER_MAX, base64url

encode_base64url = base64url  # the other half of decode_base64url

DIGITS_MAX = 400  # of an integer that no claim has; without a limit it takes long to read
JSON_DEPTH_MAX = 16  # nested arrays and objects, the outer one is 1; CONTRACT section 3

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# The last character of an incomplete group carries 2 or 4 bits that nobody reads: they must be
# zero, or one value would have several spellings.
_LAST_CHARACTERS = {2: frozenset(_ALPHABET[::16]), 3: frozenset(_ALPHABET[::4])}
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs"})
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


def decode_base64url(text: bytes) -> bytes:
    """The bytes of unpadded base64url in its only spelling.

    Raises:
        ValueError: padding, another alphabet, an impossible length, or bits set that carry nothing.
    """
    rest = len(text) % 4
    if rest == 1:
        raise ValueError("base64url of an impossible length")
    if rest and text[-1] not in _LAST_CHARACTERS[rest]:
        raise ValueError("base64url whose last character has bits too many")
    if b"+" in text or b"/" in text or b"=" in text:
        raise ValueError("not base64url without padding")
    standard = text.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-rest % 4)
    try:
        return binascii.a2b_base64(standard, strict_mode=True)
    except binascii.Error:
        raise ValueError("not base64url without padding") from None


def require_base64url(text: bytes) -> None:
    """Checks what ``decode_base64url`` checks, without decoding.

    Raises:
        ValueError: as there.
    """
    rest = len(text) % 4
    if rest == 1 or text.translate(None, _ALPHABET):
        raise ValueError("not base64url without padding")
    if rest and text[-1] not in _LAST_CHARACTERS[rest]:
        raise ValueError("base64url whose last character has bits too many")


def sha256_base64url(data: bytes) -> str:
    """The SHA-256 of ``data`` as base64url: 43 characters."""
    return encode_base64url(hashlib.sha256(data).digest())


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The RFC 7638 thumbprint of an OKP or EC key."""
    names = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y")}[jwk["kty"]]
    required = {name: jwk[name] for name in names}
    return sha256_base64url(json.dumps(required, sort_keys=True, separators=(",", ":")).encode())


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member comes twice in one JSON object")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _parse_integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise ValueError(f"an integer of more than {DIGITS_MAX} digits")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_constant=_refuse_constant, parse_int=_parse_integer
)


def parse_json(data: bytes) -> Any:
    """Strict JSON: UTF-8 without a mark, no duplicate member, no NaN, depth and strings limited.

    Raises:
        ValueError: it is not that; the text never repeats the data.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if data.count(b"[") + data.count(b"{") > JSON_DEPTH_MAX:
        _require_shallow(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError:
        raise ValueError("not JSON") from None
    # Raw control characters are no JSON: an ASCII text without an escape and DEL has no other.
    if not data.isascii() or b"\\" in data or b"\x7f" in data:
        _require_plain_strings(value)
    return value


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object under the rules of ``parse_json``.

    Raises:
        ValueError: it is not one.
    """
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _require_shallow(text: str) -> None:
    """Counts brackets outside of strings, so that the parser never recurses too deep."""
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        first = match[0][0]
        if first in "[{":
            depth += 1
            if depth > JSON_DEPTH_MAX:
                raise ValueError(f"JSON nested deeper than {JSON_DEPTH_MAX}")
        elif first in "]}":
            depth -= 1


def _require_plain_strings(value: Any) -> None:
    match value:
        case str():
            if not is_plain(value):
                raise ValueError("a string holds a control, format or surrogate character")
        case list():
            for item in value:
                _require_plain_strings(item)
        case dict():
            for name, item in value.items():
                _require_plain_strings(name)
                _require_plain_strings(item)
        case _:
            pass  # numbers, true, false and null


def is_plain(text: str) -> bool:
    """Whether a string holds no control, format or surrogate character (Unicode Cc, Cf, Cs)."""
    return text.isprintable() or not any(
        unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in text
    )


def is_integer(value: object, *, at_least: int = 0, at_most: int = INTEGER_MAX) -> bool:
    """Whether a JSON value is an integer in the range; ``true`` is none, nor is 1.0."""
    return type(value) is int and at_least <= value <= at_most
