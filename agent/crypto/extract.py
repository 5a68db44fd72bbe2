"""An extract for an auditor: an unbroken run of a station's chain, under a signed statement of what it is. Pure.

Its lines: the statement (a JWS, ``typ`` ``print-extract+jwt``), the ``keys-rotated`` receipts outside the
run, then the run itself, whole receipts. Inside the run the chain proves that nothing is missing or altered.
That nothing outside of it belongs here is the statement's word: signed, and refuted by any such receipt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.crypto import jose
from agent.crypto.keys import Signer
from agent.crypto.receipts import (
    EVENT_KEYS_ROTATED,
    ChainBroken,
    ChainVerifier,
    Fault,
    claims_unverified,
    compact,
    first_prev,
    hash_of,
    read_receipt,
    read_signed,
    rotated_keys,
    sign_claims,
)
from agent.model import TYP_EXTRACT


@dataclass(frozen=True, slots=True)
class Scope:
    """What an extract is about; one of the three.

    ``start`` and ``end`` are NumericDates, the end not included.
    """

    job: str | None = None
    book: str | None = None
    start: int | None = None
    end: int | None = None

    def claims(self) -> dict[str, Any]:
        """As the statement has it."""
        given = {"job": self.job, "book": self.book, "from": self.start, "to": self.end}
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def of(cls, claims: object) -> Scope:
        """Of the statement's claims; what is not there is None."""
        told = claims if isinstance(claims, dict) else {}
        return cls(told.get("job"), told.get("book"), told.get("from"), told.get("to"))

    def holds(self, *, job: str | None, book: str | None, iat: int) -> bool:
        """Whether a receipt belongs to it."""
        if self.job is not None:
            return job == self.job
        if self.book is not None:
            return book == self.book
        return self.start is not None and self.end is not None and self.start <= iat < self.end


def build_extract(
    keys: Signer,
    *,
    station_id: str,
    authority_id: str,
    now: int,
    scope: Scope,
    before: str | None,
    run: Sequence[str],
    rotations: Sequence[str],
    head: str,
) -> list[str]:
    """The lines of an extract.

    Args:
        keys: the station's signing key.
        station_id: whose chain it is.
        authority_id: to whom the receipts are addressed.
        now: NumericDate.
        scope: what it is about.
        before: the receipt before the run, None where the run begins the chain.
        run: the receipts from the first to the last that the scope holds, one at least.
        rotations: the ``keys-rotated`` receipts outside of the run.
        head: the chain's newest receipt.
    """
    lines = [*rotations, *run]
    claims = {
        "iss": station_id,
        "aud": authority_id,
        "iat": now,
        "scope": scope.claims(),
        "first": claims_unverified(run[0])["seq"],
        "last": claims_unverified(run[-1])["seq"],
        "after": 0 if before is None else claims_unverified(before)["seq"],
        "prev": first_prev(station_id) if before is None else hash_of(before),
        "through": claims_unverified(head)["seq"],
        "head": hash_of(head),
        "rotations": len(rotations),
        "sha256": _digest(lines),
    }
    payload, signature = sign_claims(keys, claims, typ=TYP_EXTRACT)
    return [compact(keys.kid, payload, signature, typ=TYP_EXTRACT), *lines]


def _digest(lines: Sequence[str]) -> str:
    return jose.sha256_base64url("\n".join(lines).encode("utf-8", "surrogatepass"))


def is_extract(lines: Sequence[str]) -> bool:
    """Whether these lines say that they are an extract, and no plain chain."""
    return bool(lines) and "sha256" in claims_unverified(lines[0])


@dataclass(frozen=True, slots=True)
class Extract:
    """What an extract says of itself.

    Attributes:
        station: Whose chain it is.
        iat: When it was signed, NumericDate.
        scope: What it is about.
        first: The run's first receipt.
        last: Its last.
        through: The chain's newest receipt at that time.
        run: The receipts.
        verifier: Follows the run from its beginning.
        faults: What is wrong with the statement, the signatures up to it included.
    """

    station: str
    iat: int
    scope: Scope
    first: int
    last: int
    through: int
    run: tuple[str, ...]
    verifier: ChainVerifier
    faults: tuple[Fault, ...]

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {
            "iat": self.iat,
            "scope": self.scope.claims(),
            "first": self.first,
            "last": self.last,
            "through": self.through,
        }


def read_extract(lines: Sequence[str], keys: Mapping[str, Ed25519PublicKey]) -> Extract:
    """Reads and proves an extract, all but the run itself.

    Args:
        lines: of the file.
        keys: the station's public signing keys when its chain began.

    Raises:
        ChainBroken: it is no extract of this station.
    """
    claims = claims_unverified(lines[0])
    numbers = [
        claims.get(name) for name in ("iat", "first", "last", "after", "through", "rotations")
    ]
    texts = [claims.get(name) for name in ("iss", "aud", "prev", "head", "sha256")]
    if not all(jose.is_integer(number) for number in numbers) or not all(
        isinstance(text, str) for text in texts
    ):
        raise ChainBroken(None, "the first line is no statement of an extract")
    count = claims["rotations"]
    rotations, run = lines[1 : 1 + count], lines[1 + count :]
    earlier = [
        line for line in rotations if claims_unverified(line).get("seq", 0) < claims["first"]
    ]
    at_start = _keys_after(keys, earlier, station_id=claims["iss"])
    verifier = ChainVerifier(
        claims["iss"],
        at_start,
        authority_id=claims["aud"],
        seq=claims["after"],
        head=claims["prev"],
    )
    inside = [line for line in run if claims_unverified(line).get("event") == EVENT_KEYS_ROTATED]
    signing = _keys_after(at_start, [*inside, *rotations[len(earlier) :]], station_id=claims["iss"])
    read_signed(lines[0], signing, typ=TYP_EXTRACT)
    faults = []
    ends = [claims_unverified(line).get("seq") for line in (*run[:1], *run[-1:])]
    if _digest(lines[1:]) != claims["sha256"] or ends != [claims["first"], claims["last"]]:
        faults.append(Fault(None, "the lines are not the ones that the station signed"))
    return Extract(
        station=claims["iss"],
        iat=claims["iat"],
        scope=Scope.of(claims.get("scope")),
        first=claims["first"],
        last=claims["last"],
        through=claims["through"],
        run=tuple(run),
        verifier=verifier,
        faults=tuple(faults),
    )


def _keys_after(
    keys: Mapping[str, Ed25519PublicKey], rotations: Sequence[str], *, station_id: str
) -> dict[str, Ed25519PublicKey]:
    """The keys behind these rotations, each signed by the one before."""
    held = dict(keys)
    for line in rotations:
        claims = read_receipt(line, held)
        if claims["event"] != EVENT_KEYS_ROTATED or claims["iss"] != station_id:
            raise ChainBroken(claims["seq"], "no keys-rotated of this station")
        held = rotated_keys(claims)
    return held
