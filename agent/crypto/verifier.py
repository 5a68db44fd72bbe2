"""Whether the station takes a message: CONTRACT section 3, its checks in its order and numbered.

 1. size                                                            413 too-large
 2. three strict parts, a header object of exactly three strings    400 malformed
 3. typ, kid, role, alg, signature                                  401 bad-signature
 4. a payload object with well-formed jti seq iat exp nbf iss aud   400 malformed
 5. iss and aud                                                     403 wrong-station
 6. known, and exp (the intake, which has journal and clock)        200, 409, 410
 7. the other claims, the action, books but for the documents       400 malformed
 8. book numbers and trust versions (the intake)                    409 conflict
 9. the documents (agent.crypto.documents)                          422 bad-document

``open_envelope`` makes the checks 1 to 5 and ``read_claims`` the check 7; both are pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from agent.crypto import jose
from agent.crypto.keys import TrustedKey, TrustStore
from agent.errors import MessageRefused
from agent.model import (
    BOOK_NUMBER,
    INTEGER_MAX,
    MESSAGE_SIZE_MAX,
    TYP_AUTHORIZATION,
    TYP_DIRECTIVE,
    Action,
    Authorization,
    BookEntry,
    Directive,
    Envelope,
    Role,
)

PRIORITY_DEFAULT = 50  # CONTRACT section 3.1
PRIORITY_MAX = 100
APPLICATION_LENGTH_MAX = 64  # characters
BOOKS_MAX = 4  # entries
REASON_LENGTH_MAX = 256  # characters, CONTRACT section 3.3
STATION_ID_LENGTH_MAX = 64  # characters
# The next receipt gets a higher number, and those after it must stay integers of section 3 for ever.
THROUGH_MAX = 2**52
FOUND_DIGITS_MAX = 10  # of an integer that an error text repeats: a time, and no personal number

_WHITE_SPACE = b" \t\r\n"
_HEADER_MEMBERS = frozenset({"alg", "kid", "typ"})
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH_LENGTH = 43  # characters of base64url for the 32 bytes of a SHA-256


def open_envelope(raw: bytes, *, trust: TrustStore, station_id: str, authority_id: str) -> Envelope:
    """Checks 1 to 5: the message is well formed, signed by a trusted key, and for this station.

    Raises:
        MessageRefused: with the answer of the first check that fails, and nothing else.
    """
    text = raw.strip(_WHITE_SPACE)
    if len(text) > MESSAGE_SIZE_MAX:  # 1
        raise MessageRefused(
            413, "too-large", f"The message has {len(text)} bytes; the limit is {MESSAGE_SIZE_MAX}."
        )
    header, payload, signature, signing_input = _split(text)  # 2
    key = _verified_key(header, signature, signing_input, trust)  # 3
    claims = _claims(payload, typ=header["typ"], role=key.role)  # 3 for the role, 4
    try:
        _check_envelope(claims)  # 4
        _check_addressee(claims, iss=authority_id, aud=station_id)  # 5
    except MessageRefused as refused:
        refused.jti = claims["jti"] if _is_job_id(claims.get("jti")) else None
        refused.seq = claims["seq"] if jose.is_integer(claims.get("seq"), at_least=1) else None
        raise
    return Envelope(
        typ=header["typ"],
        kid=key.kid,
        role=key.role.value,
        jti=claims["jti"],
        seq=claims["seq"],
        iat=claims["iat"],
        exp=claims["exp"],
        nbf=claims.get("nbf"),
        claims=claims,
        sha256=hashlib.sha256(payload).digest(),
        text=text,
    )


def _split(text: bytes) -> tuple[dict[str, str], bytes, bytes, bytes]:
    """Check 2: header, payload bytes, signature bytes and what was signed."""
    parts = text.split(b".", 3)
    if len(parts) != 3:
        raise _malformed("The message is no JWS of three parts separated by dots.")
    try:
        head, payload, signature = (jose.decode_base64url(part) for part in parts)
        header = jose.parse_object(head)
    except ValueError as error:
        raise _malformed(f"The message is no strict JWS: {error}.") from None
    if header.keys() != _HEADER_MEMBERS or not all(isinstance(v, str) for v in header.values()):
        raise _malformed("The header holds other than exactly the strings alg, kid and typ.")
    return header, payload, signature, text[: text.rindex(b".")]


def _verified_key(
    header: Mapping[str, str], signature: bytes, signing_input: bytes, trust: TrustStore
) -> TrustedKey:
    """Check 3, the cheap comparisons first: strangers' messages cost no verification."""
    if header["typ"] not in (TYP_AUTHORIZATION, TYP_DIRECTIVE):
        raise _bad_signature(f"The typ is neither {TYP_AUTHORIZATION} nor {TYP_DIRECTIVE}.")
    key = trust.keys.get(header["kid"])
    if key is None:
        raise _bad_signature("The kid is of no key in the trust store.")
    if key.role is Role.ROOT and header["typ"] != TYP_DIRECTIVE:
        raise _bad_signature("A root key signs trust updates and nothing else.")
    if not key.allows(header["alg"]):
        raise _bad_signature(f"The alg is not {key.alg}, which the trust store pins to this key.")
    if not key.verify(signature, signing_input):
        raise _bad_signature("The signature is not this key's over this message.")
    return key


def _claims(payload: bytes, *, typ: str, role: Role) -> dict[str, Any]:
    """The payload's object, and what is left of check 3: who may sign which action."""
    claims: dict[str, Any] | None = None
    fault = ""
    try:
        claims = jose.parse_object(payload)
    except ValueError as error:
        fault = str(error)
    is_trust = typ == TYP_DIRECTIVE and claims is not None and claims.get("action") == Action.TRUST
    if is_trust != (role is Role.ROOT):
        # CONTRACT section 2: also where the payload is no JSON, so that it has no action at all.
        raise _bad_signature("A root key signs trust updates and nothing else; only it signs them.")
    if claims is None:
        raise _malformed(f"The payload is no strict JSON object: {fault}.")
    return claims


def _check_envelope(claims: Mapping[str, Any]) -> None:
    """Check 4."""
    _require_job_id(claims, "jti")
    _require_integer(claims, "seq", at_least=1)
    _require_integer(claims, "iat")
    _require_integer(claims, "exp")
    if "nbf" in claims:
        _require_integer(claims, "nbf")
    _require_string(claims, "iss")
    _require_string(claims, "aud")


def _check_addressee(claims: Mapping[str, Any], **wanted: str) -> None:
    """Check 5."""
    for name, value in wanted.items():
        if claims[name] != value:
            raise MessageRefused(
                403,
                "wrong-station",
                f"The {name} is {_found(claims[name])}, here it must be {value!r}: send it where it belongs.",
            )


def read_claims(envelope: Envelope) -> Authorization | Directive:
    """Check 7: the claims beside the envelope's, for whichever ``typ`` it has.

    Raises:
        MessageRefused: 400 ``malformed``.
    """
    if envelope.typ == TYP_AUTHORIZATION:
        return _read_authorization(envelope)
    return _read_directive(envelope)


def _read_authorization(envelope: Envelope) -> Authorization:
    claims = envelope.claims
    priority = PRIORITY_DEFAULT
    if "priority" in claims:
        priority = _require_integer(claims, "priority", at_least=1, at_most=PRIORITY_MAX)
    application = None
    if "application" in claims:
        application = _require_string(claims, "application", length_max=APPLICATION_LENGTH_MAX)
    return Authorization(envelope, priority, application, _read_books(claims.get("books")))


def _read_books(books: object) -> tuple[BookEntry, ...]:
    if not isinstance(books, list) or not 1 <= len(books) <= BOOKS_MAX:
        raise _malformed(f"The claim books is no array of 1..{BOOKS_MAX} entries.")
    entries = []
    for book in books:
        number = book.get("number") if isinstance(book, dict) else None
        document = book.get("document") if isinstance(book, dict) else None
        if not isinstance(number, str) or not BOOK_NUMBER.fullmatch(number):
            raise _malformed("A book's number is no string of 1..9 characters A-Z 0-9.")
        if not isinstance(document, str):
            raise _malformed("A book's document is no string.")
        entries.append(BookEntry(number, document))
    if len({entry.number for entry in entries}) != len(entries):
        raise _malformed("Two entries of books have the same number.")
    return tuple(entries)


def _read_directive(envelope: Envelope) -> Directive:
    claims = envelope.claims
    name = claims.get("action")
    if not isinstance(name, str) or name not in set(Action):
        raise _malformed(f"The action is {_found(name)}; allowed: {', '.join(Action)}.")
    action = Action(name)
    match action:
        case Action.REVOKE | Action.HOLD | Action.RELEASE:
            job = _require_job_id(claims, "job")
            return Directive(envelope, action, job=job, reason=_require_reason(claims))
        case Action.TRANSFER:
            job = _require_job_id(claims, "job")
            to = _require_string(claims, "to", length_min=1, length_max=STATION_ID_LENGTH_MAX)
            return Directive(envelope, action, job=job, to=to)
        case Action.RETIRE:
            return Directive(envelope, action, reason=_require_reason(claims))
        case Action.ACKNOWLEDGE:
            through, head = _require_chain_end(claims)
            return Directive(envelope, action, through=through, head=head)
        case Action.RESUME:
            through, head = _require_chain_end(claims, at_most=THROUGH_MAX)
            printed = _require_job_ids(claims.get("printed"))
            return Directive(envelope, action, through=through, head=head, printed=printed)
        case Action.TRUST:
            return _read_trust(envelope)


def _read_trust(envelope: Envelope) -> Directive:
    version = _require_integer(envelope.claims, "version")
    try:
        store = TrustStore.from_jwks(envelope.claims.get("jwks"), version=version)
        store.require_root()
    except ValueError as error:
        raise _malformed(f"The claim jwks: {error}.") from None
    return Directive(envelope, Action.TRUST, version=version, jwks=store.to_jwks())


def _require_integer(
    claims: Mapping[str, Any], name: str, *, at_least: int = 0, at_most: int = INTEGER_MAX
) -> int:
    value = claims.get(name)
    if not jose.is_integer(value, at_least=at_least, at_most=at_most):
        raise _malformed(
            f"The claim {name} is no integer of {at_least}..{at_most}: it is {_found(value)}."
        )
    assert isinstance(value, int)
    return value


def _require_string(
    claims: Mapping[str, Any], name: str, *, length_min: int = 0, length_max: int | None = None
) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise _malformed(f"The claim {name} is no string: it is {_found(value)}.")
    if len(value) < length_min or (length_max is not None and len(value) > length_max):
        raise _malformed(
            f"The claim {name} has not {length_min}..{length_max} characters: it has {len(value)}."
        )
    return value


def _found(value: object) -> str:
    """What stands there, in words that repeat neither a text nor a number as long as a person's."""
    match value:
        case None:
            return "missing or null"
        case bool():
            return str(value).lower()
        case int() if len(str(value)) <= FOUND_DIGITS_MAX:
            return str(value)
        case str():
            return f"a string of {len(value)} characters"
        case list() | dict():
            return "an array" if isinstance(value, list) else "an object"
        case _:
            return "another number"


def _require_reason(claims: Mapping[str, Any]) -> str:
    return _require_string(claims, "reason", length_max=REASON_LENGTH_MAX)


def _is_job_id(value: object) -> bool:
    return isinstance(value, str) and _JOB_ID.fullmatch(value) is not None


def _require_job_id(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not _is_job_id(value):
        raise _malformed(
            f"The claim {name} is no string of 1..64 characters A-Z a-z 0-9 . _ - "
            "that begins with a letter or digit."
        )
    assert isinstance(value, str)
    return value


def _require_job_ids(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(_is_job_id(job) for job in value):
        raise _malformed("The claim printed is no array of job ids.")
    return tuple(value)


def _require_chain_end(claims: Mapping[str, Any], *, at_most: int = INTEGER_MAX) -> tuple[int, str]:
    """The claims ``through`` and ``head`` of ``acknowledge`` and ``resume``."""
    through = _require_integer(claims, "through", at_most=at_most)
    head = _require_string(claims, "head")
    try:
        jose.require_base64url(head.encode())
    except ValueError as error:
        raise _malformed(f"The claim head is no hash: {error}.") from None
    if len(head) != _HASH_LENGTH:
        raise _malformed(f"The claim head is no hash: it has not {_HASH_LENGTH} characters.")
    return through, head


def _malformed(detail: str) -> MessageRefused:
    return MessageRefused(400, "malformed", detail)


def _bad_signature(detail: str) -> MessageRefused:
    return MessageRefused(401, "bad-signature", detail)
