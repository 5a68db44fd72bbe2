"""Opens the travel documents of an authorization, in memory only: CONTRACT sections 3.1 and 3.2.

Every fault is 422 ``bad-document`` with a text that names the member and never its value.
"""

from __future__ import annotations

import binascii
import datetime
import io
import re
from collections.abc import Callable, Mapping
from typing import Any

from joserfc import jwe
from joserfc.errors import JoseError
from PIL import Image

from agent.crypto import jose
from agent.crypto.keys import ALG_ENCRYPTION, EncryptionKey, StationKeys
from agent.errors import MessageRefused
from agent.model import MESSAGE_SIZE_MAX, TYP_DOCUMENT, Authorization, BookEntry, TravelDocument

ENC = "A256GCM"
PHOTO_SIDE_MIN = 64  # pixels, CONTRACT section 3.2
PHOTO_SIDE_MAX = 4096
TEXT_LENGTH_MAX = 64  # characters, CONTRACT section 3.2

CheckMrz = Callable[[TravelDocument], None]
"""Raises ``ValueError`` where the MRZ is not the document's: ``agent.page.mrz.check_mrz``.

An argument, because ``crypto`` and ``page`` do not know each other.
"""

_HEADER_STRINGS = {"alg": ALG_ENCRYPTION, "enc": ENC, "typ": TYP_DOCUMENT}
_HEADER_MEMBERS = frozenset({"alg", "enc", "typ", "kid", "epk"})
_EPK_MEMBERS = frozenset({"kty", "crv", "x"})
_POINT_LENGTH = 32  # bytes, RFC 7748 section 5
# Encrypted key (32 bytes and 8 of key wrap), initialization vector, tag: RFC 7518, 4.4 and 5.3.
_PART_LENGTHS = {1: 54, 2: 16, 4: 22}  # characters of base64url

_DOCUMENT_TYPE = re.compile(r"P[PEDORTSLM]?")
_STATE_CODE = re.compile(r"[A-Z]{1,3}")  # Doc 9303-3 section 5
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SEXES = frozenset({"F", "M", "X"})
_MRZ_LINE_LENGTH = 44
_PHOTO_FORMATS = {
    "image/jpeg": ("JPEG", b"\xff\xd8\xff"),
    "image/png": ("PNG", b"\x89PNG\r\n\x1a\n"),
}
_OWN_TO_A_BOOK = frozenset({"document_number", "mrz"})

# joserfc refuses by default what is larger than 64 KiB; a message has its own limit already.
_REGISTRY = jwe.JWERegistry(algorithms=[ALG_ENCRYPTION, ENC])
_REGISTRY.max_ciphertext_length = MESSAGE_SIZE_MAX


def open_documents(
    authorization: Authorization, keys: StationKeys, *, now: int, check_mrz: CheckMrz
) -> tuple[TravelDocument, ...]:
    """Check 9: opens and checks the documents of all entries, in the order of ``books``.

    Args:
        authorization: what the verifier let through.
        keys: the station's keys; a retired encryption key counts until its end.
        now: NumericDate.
        check_mrz: ``agent.page.mrz.check_mrz``.

    Raises:
        MessageRefused: 422 ``bad-document``.
    """
    documents: list[TravelDocument] = []
    first: dict[str, Any] = {}
    for entry in authorization.books:
        members = _decrypt(entry.document, keys, now=now)
        if not documents:
            first = members
            photo = _checked_photo(members.get("photo"))
        elif _without_own(members) != _without_own(first):
            raise _bad("Two documents of one authorization differ beyond number and MRZ")
        else:
            photo = documents[0].photo  # equal to one that was decoded already
        document = _checked_document(members, entry.number, photo)
        try:
            check_mrz(document)
        except ValueError as error:
            raise _bad(f"The MRZ is none that Doc 9303 allows for these fields: {error}") from None
        documents.append(document)
    return tuple(documents)


def open_document(entry: BookEntry, keys: StationKeys) -> TravelDocument:
    """Opens the document of one accepted book, to print or preview it.

    The end of a retired key does not count here, or a rotation would strand accepted jobs; nor is
    the MRZ checked again, which ``open_documents`` did.

    Raises:
        MessageRefused: 422 ``bad-document``: the keys that it was accepted with are gone.
    """
    members = _decrypt(entry.document, keys, now=None)
    return _checked_document(members, entry.number, _checked_photo(members.get("photo")))


def _without_own(members: Mapping[str, Any]) -> dict[str, Any]:
    """What all documents of an authorization share; an absent member equals an empty one."""
    optional = {"secondary_identifier": "", "personal_number": ""}
    shared = {name: value for name, value in members.items() if name not in _OWN_TO_A_BOOK}
    return optional | shared


def _decrypt(text: str, keys: StationKeys, *, now: int | None) -> dict[str, Any]:
    key = _encryption_key(text, keys, now=now)
    try:
        plaintext = jwe.decrypt_compact(text, key.okp, registry=_REGISTRY).plaintext
    except (JoseError, ValueError):
        # ValueError: a point of low order, or a wrapped key that is none.
        raise _bad("The document does not decrypt with this station's key") from None
    if plaintext is None:
        raise _bad("The document is empty")
    try:
        return jose.parse_object(plaintext)
    except ValueError as error:
        raise _bad(f"The decrypted document is no strict JSON object: {error}") from None


def _encryption_key(text: str, keys: StationKeys, *, now: int | None) -> EncryptionKey:
    """Checks a JWE's form and header exactly (CONTRACT section 3.1), and finds its key.

    It comes before joserfc, which would follow a header to other algorithms and inflate ``zip``; the other
    parts' base64url is read by joserfc alone, as strictly as ``jose`` does.
    """
    parts = text.encode("utf-8", "surrogatepass").split(b".", 5)
    if len(parts) != 5:
        raise _bad("The document is no JWE of five parts")
    try:
        header = jose.parse_object(jose.decode_base64url(parts[0]))
    except ValueError as error:
        raise _bad(f"The document is no strict JWE: {error}") from None
    if any(len(parts[position]) != length for position, length in _PART_LENGTHS.items()):
        raise _bad("The document's key, initialization vector or tag has another length")
    if header.keys() != _HEADER_MEMBERS or not isinstance(header["kid"], str):
        raise _bad("The document's header holds other than exactly alg, enc, typ, kid and epk")
    for name, value in _HEADER_STRINGS.items():
        if header[name] != value:
            raise _bad(f"The document's {name} is not {value}")
    _require_epk(header["epk"])
    key = keys.encryption_key(header["kid"], now=now)
    if key is None:
        raise _bad("The document is encrypted to a kid that is not, or no longer, this station's")
    return key


def _require_epk(epk: object) -> None:
    if not isinstance(epk, dict) or epk.keys() != _EPK_MEMBERS:
        raise _bad("The document's epk holds other than exactly kty, crv and x")
    if epk["kty"] != "OKP" or epk["crv"] != "X25519" or not isinstance(epk["x"], str):
        raise _bad("The document's epk is no OKP key on X25519")
    try:
        point = jose.decode_base64url(epk["x"].encode())
    except ValueError as error:
        raise _bad(f"The document's epk is no OKP key on X25519: {error}") from None
    if len(point) != _POINT_LENGTH:
        raise _bad(f"The document's epk has not {_POINT_LENGTH} bytes")


def _checked_document(members: Mapping[str, Any], number: str, photo: bytes) -> TravelDocument:
    """The members of CONTRACT section 3.2 but for the photo, which is checked already."""
    document_type = _text(members, "document_type")
    if not _DOCUMENT_TYPE.fullmatch(document_type):
        raise _bad('The document_type is neither "P" nor "P" and one of P E D O R T S L M')
    codes = {}
    for name in ("issuing_state", "nationality"):
        codes[name] = _text(members, name)
        if not _STATE_CODE.fullmatch(codes[name]):
            raise _bad(f"The {name} is no code of one to three letters A-Z")
    if _text(members, "document_number") != number:
        raise _bad("The document_number is not the number of its book")
    if _text(members, "sex") not in _SEXES:
        raise _bad("The sex is none of F, M and X")
    birth, issue, expiry = (
        _date(members, name) for name in ("date_of_birth", "date_of_issue", "date_of_expiry")
    )
    if not birth <= issue <= expiry:
        raise _bad("The dates of birth, issue and expiry are not in this order")
    return TravelDocument(
        document_type=document_type,
        issuing_state=codes["issuing_state"],
        nationality=codes["nationality"],
        primary_identifier=_text(members, "primary_identifier"),
        secondary_identifier=_optional_text(members, "secondary_identifier"),
        document_number=number,
        date_of_birth=birth.isoformat(),
        date_of_issue=issue.isoformat(),
        date_of_expiry=expiry.isoformat(),
        sex=members["sex"],
        place_of_birth=_text(members, "place_of_birth"),
        issuing_authority=_text(members, "issuing_authority"),
        personal_number=_optional_text(members, "personal_number"),
        mrz=_mrz_lines(members.get("mrz")),
        photo=photo,
    )


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= TEXT_LENGTH_MAX:
        raise _bad(f"The {name} is no string of 1..{TEXT_LENGTH_MAX} characters")
    return value


def _optional_text(members: Mapping[str, Any], name: str) -> str:
    return _text(members, name) if members.get(name, "") != "" else ""


def _date(members: Mapping[str, Any], name: str) -> datetime.date:
    text = _text(members, name)
    # date.fromisoformat alone takes other forms of ISO 8601 too, such as 20010101.
    if _DATE.fullmatch(text):
        try:
            return datetime.date.fromisoformat(text)
        except ValueError:
            pass
    raise _bad(f"The {name} is no existing date YYYY-MM-DD")


def _mrz_lines(value: object) -> tuple[str, str]:
    match value:
        case [str(upper), str(lower)] if len(upper) == len(lower) == _MRZ_LINE_LENGTH:
            return upper, lower
        case _:
            raise _bad(f"The mrz is not two strings of {_MRZ_LINE_LENGTH} characters")


def _checked_photo(value: object) -> bytes:
    """The photo's bytes, after it was decoded in full once."""
    if not isinstance(value, dict):
        raise _bad("The photo is no object")
    media_type, data = value.get("media_type"), value.get("data")
    if not isinstance(media_type, str) or media_type not in _PHOTO_FORMATS:
        raise _bad("The photo's media_type is neither image/jpeg nor image/png")
    if not isinstance(data, str):
        raise _bad("The photo's data is no string")
    try:
        if len(data) % 4:  # strict_mode takes a superfluous "="
            raise ValueError("not padded")
        photo = binascii.a2b_base64(data, strict_mode=True)  # ValueError where it is not ASCII
    except ValueError:
        raise _bad("The photo's data is not padded base64 without line breaks") from None
    image_format, signature = _PHOTO_FORMATS[media_type]
    if not photo.startswith(signature):
        raise _bad(f"The photo is no {media_type}")
    fault = _photo_fault(photo, image_format)
    if fault:
        raise _bad(fault)
    return photo


def _photo_fault(photo: bytes, image_format: str) -> str | None:
    """Why the photo cannot be printed; its header gives its size before anything is decoded."""
    try:
        with Image.open(io.BytesIO(photo), formats=[image_format]) as image:
            if not all(PHOTO_SIDE_MIN <= side <= PHOTO_SIDE_MAX for side in image.size):
                return f"The photo's sides are not {PHOTO_SIDE_MIN}..{PHOTO_SIDE_MAX} pixels"
            image.load()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow's decoders raise nearly anything on hostile files
        return "The photo cannot be decoded in full"
    return None


def _bad(detail: str) -> MessageRefused:
    return MessageRefused(422, "bad-document", f"{detail}.")
