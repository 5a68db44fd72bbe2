"""The chain of signed receipts: CONTRACT section 3.4. Pure."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.crypto import jose
from agent.crypto.keys import Signer, SigningKey
from agent.model import TYP_RECEIPT

ALG_RECEIPT = "Ed25519"  # CONTRACT section 3.4
EVENT_KEYS_ROTATED = "keys-rotated"
EVENT_JOURNAL_RESUMED = "journal-resumed"

_FORK = "a fork: "
_HEADER_MEMBERS = frozenset({"alg", "kid", "typ"})
_OPTIONAL = ("job", "state", "reasons", "book", "actor", "evidence", "note")


def hash_of(compact: str) -> str:
    """What the next receipt carries as ``prev``: base64url SHA-256 of the compact serialization."""
    return jose.sha256_base64url(compact.encode("ascii"))


def first_prev(station_id: str) -> str:
    """The ``prev`` of the first receipt: the hash of the station's id."""
    return jose.sha256_base64url(station_id.encode())


def build_receipt(
    keys: Signer,
    *,
    iss: str,
    aud: str,
    seq: int,
    prev: str,
    iat: int,
    event: str,
    job: str | None = None,
    state: str | None = None,
    reasons: Sequence[str] | None = None,
    book: str | None = None,
    actor: str | None = None,
    evidence: Mapping[str, Any] | None = None,
    note: str | None = None,
) -> str:
    """Signs one receipt.

    Args:
        keys: the station's keys, or one of its signing keys.
        iss: the station's id.
        aud: the authority's id.
        seq: its number in the chain, from 1.
        prev: ``hash_of`` the receipt before it, or ``first_prev``.
        iat: NumericDate.
        event: one of CONTRACT section 3.4.
        job: the job that it is about.
        state: the job's state after the event.
        reasons: the job's state reasons after the event.
        book: the number of the book that it is about.
        actor: ``agent``, ``authority`` or ``technician:NAME``.
        evidence: an object, without holder data.
        note: for people, without holder data.

    Returns:
        The compact serialization.
    """
    given = (job, state, None if reasons is None else list(reasons), book, actor, evidence, note)
    claims = {"iss": iss, "aud": aud, "seq": seq, "prev": prev, "iat": iat, "event": event}
    claims |= {
        name: value for name, value in zip(_OPTIONAL, given, strict=True) if value is not None
    }
    payload, signature = sign_claims(keys, claims)
    return compact(keys.kid, payload, signature)


def sign_claims(
    keys: Signer, claims: Mapping[str, Any], *, typ: str = TYP_RECEIPT
) -> tuple[bytes, bytes]:
    """A receipt's payload as bytes, and their signature; ``compact`` puts them together."""
    payload = _json(claims)
    signing_input = f"{_header(keys.kid, typ)}.{jose.encode_base64url(payload)}"
    return payload, keys.sign(signing_input.encode("ascii"))


def compact(kid: str, payload: bytes, signature: bytes, *, typ: str = TYP_RECEIPT) -> str:
    """The compact serialization of what ``sign_claims`` made, with whichever key."""
    parts = (_header(kid, typ), jose.encode_base64url(payload), jose.encode_base64url(signature))
    return ".".join(parts)


def hash_of_signed(kid: str, payload: bytes, signature: bytes) -> str:
    """What the next receipt carries as ``prev`` of a receipt that is kept in its pieces."""
    return hash_of(compact(kid, payload, signature))


@functools.lru_cache(maxsize=16)  # a station has few keys in its life
def _header(kid: str, typ: str) -> str:
    """The protected header: always these three members in this order."""
    return jose.encode_base64url(_json({"alg": ALG_RECEIPT, "kid": kid, "typ": typ}))


class ReceiptSigner:
    """Signs and writes receipts for the journal, which keeps payload and signature apart.

    Args:
        keys: one of the station's signing keys.
    """

    def __init__(self, keys: SigningKey) -> None:
        self._keys = keys

    @property
    def kid(self) -> str:
        return self._keys.kid

    def public_jwk(self) -> dict[str, Any]:
        """The public half, as JWK."""
        return self._keys.public_jwk()

    def sign(self, claims: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """The payload's bytes and their signature."""
        return sign_claims(self._keys, claims)

    def text(self, kid: str, payload: bytes, signature: bytes) -> str:
        """See ``compact``."""
        return compact(kid, payload, signature)

    def hash_of(self, text: str) -> str:
        """See ``hash_of``."""
        return hash_of(text)

    def first_prev(self, station_id: str) -> str:
        """See ``first_prev``."""
        return first_prev(station_id)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class ChainBroken(Exception):
    """A receipt that does not continue the chain; ``str(error)`` says how, ``seq`` where.

    ``claims`` are those of a well-signed receipt in the wrong place, else None. It is no
    ``PrintAgentError``: whoever reads the chain decides what the break means.
    """

    def __init__(
        self, seq: int | None, detail: str, *, claims: dict[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.seq = seq
        self.claims = claims


def public_keys(jwks: Mapping[str, Any]) -> dict[str, Ed25519PublicKey]:
    """The signing keys of a station's public JWK Set, by ``kid``.

    Raises:
        ValueError: no Ed25519 key with its thumbprint as ``kid``, or none that can be read.
    """
    entries = jwks.get("keys")
    if not isinstance(entries, list):
        raise ValueError('no JWK Set; allowed: an object with an array "keys"')
    keys: dict[str, Ed25519PublicKey] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("crv") != "Ed25519":
            continue
        x = entry.get("x")
        if not isinstance(x, str) or entry.get("kty") != "OKP":
            raise ValueError("an Ed25519 key that is no OKP key")
        point = jose.decode_base64url(x.encode())
        if len(point) != 32 or entry.get("kid") != jose.thumbprint(entry):
            raise ValueError('an Ed25519 key whose "kid" is not its thumbprint')
        keys[entry["kid"]] = Ed25519PublicKey.from_public_bytes(point)
    if not keys:
        raise ValueError("no Ed25519 key for signatures")
    return keys


def claims_unverified(compact: str) -> dict[str, Any]:
    """What a line claims before anybody has looked at its signature; empty where it is no JWS."""
    try:
        return jose.parse_object(jose.decode_base64url(compact.split(".")[1].encode()))
    except (IndexError, ValueError):
        return {}


def read_receipt(compact: str, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """The claims of a receipt whose form and signature are good.

    Raises:
        ChainBroken: they are not.
    """
    claims = read_signed(compact, keys, typ=TYP_RECEIPT)
    numbers = jose.is_integer(claims.get("seq"), at_least=1), jose.is_integer(claims.get("iat"))
    if not all(numbers):
        raise ChainBroken(None, "no seq or no iat")
    if not all(isinstance(claims.get(name), str) for name in ("iss", "aud", "prev", "event")):
        raise ChainBroken(claims["seq"], "no iss, aud, prev or event")
    return claims


def read_signed(compact: str, keys: Mapping[str, Ed25519PublicKey], *, typ: str) -> dict[str, Any]:
    """The claims of what the station signed, where form, type and signature are good.

    Raises:
        ChainBroken: they are not.
    """
    parts = compact.encode("utf-8", "surrogatepass").split(b".", 3)
    if len(parts) != 3:
        raise ChainBroken(None, "no JWS of three parts")
    try:
        head, payload, signature = (jose.decode_base64url(part) for part in parts)
        header = jose.parse_object(head)
        claims = jose.parse_object(payload)
    except ValueError as error:
        raise ChainBroken(None, f"no strict JWS: {error}") from None
    seq = claims.get("seq") if jose.is_integer(claims.get("seq"), at_least=1) else None
    kid = header.get("kid")
    if header.keys() != _HEADER_MEMBERS or header["typ"] != typ:
        raise ChainBroken(seq, f"the header is not exactly alg, kid and the typ {typ}")
    if header["alg"] != ALG_RECEIPT or not isinstance(kid, str) or kid not in keys:
        raise ChainBroken(seq, "signed with a key that is not the station's at this point")
    try:
        keys[kid].verify(signature, compact[: compact.rindex(".")].encode("ascii"))
    except InvalidSignature:
        raise ChainBroken(seq, "the signature is not the station's") from None
    return claims


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a chain: where, and how.

    ``fork`` means that two receipts of the station stand in one place: the one thing that a resume explains.
    """

    seq: int | None
    detail: str
    fork: bool = False


@dataclass(frozen=True, slots=True)
class Resumption:
    """A ``journal-resumed`` in its place: where the chain went on after a rollback.

    Attributes:
        seq: Its own.
        through: The newest receipt that the authority had, by the station's word.
        forked_after: The newest one that both had, by the station's word; None where it does not know.
        follows: Whether the receipt before it is among those that were read.
    """

    seq: int
    through: int
    forked_after: int | None
    follows: bool


class ChainVerifier:
    """Follows a station's receipts in their order and refuses what does not continue them.

    Signatures are checked with the keys that count at that point: ``keys-rotated``, signed by the
    old key, brings the new ones, which alone count from the next receipt on.

    Args:
        station_id: whose receipts they are.
        keys: the public signing keys at the start of what will be read.
        authority_id: to whom they are addressed; None to take any.
        seq: the last receipt known before, 0 for none.
        head: its hash; None for the chain's own start.
    """

    def __init__(
        self,
        station_id: str,
        keys: Mapping[str, Ed25519PublicKey],
        *,
        authority_id: str | None = None,
        seq: int = 0,
        head: str | None = None,
    ) -> None:
        self.station_id = station_id
        self.authority_id = authority_id
        self.keys = dict(keys)
        self.seq = seq
        self.head = first_prev(station_id) if head is None else head
        self.found: list[Fault] = []
        self.resumptions: list[Resumption] = []
        self._hashes: dict[int, str] = {seq: self.head}
        # Receipts of the station that stand beside its chain.
        self._stray: set[str] = set()

    def add(self, compact: str) -> dict[str, Any]:
        """Checks that this receipt is the next one and returns its claims.

        Raises:
            ChainBroken: it is not; the verifier stays where it was.
        """
        claims = read_receipt(compact, self.keys)
        detail = self._misplaced(claims, hash_of(compact))
        if detail is not None:
            raise ChainBroken(claims["seq"], detail, claims=claims)
        if claims["event"] == EVENT_JOURNAL_RESUMED:
            self._resume(claims)
        self._accept(compact, claims)
        return claims

    def follow(self, compact: str) -> dict[str, Any] | None:
        """As ``add``, but goes on behind a break, so that each is told once in ``found``.

        A receipt that came before, byte for byte, is no break: deliveries overlap.

        Returns:
            The claims, None where the signature is bad.
        """
        try:
            return self.add(compact)
        except ChainBroken as error:
            if error.claims is None:
                self.found.append(Fault(error.seq, str(error)))
                return None
            self._go_round(compact, error.claims, str(error))
            return error.claims

    def faults(self, receipts: Iterable[str]) -> list[Fault]:
        """Follows a whole sequence and returns its breaks."""
        for compact in receipts:
            self.follow(compact)
        return self.found

    def _go_round(self, compact: str, claims: Mapping[str, Any], detail: str) -> None:
        """Notes a break, and goes on behind it."""
        seq, digest = claims["seq"], hash_of(compact)
        if digest == self._hashes.get(seq) or digest in self._stray:
            return
        fork = detail.startswith(_FORK) and self._follows(claims)
        self.found.append(Fault(seq, detail, fork=fork))
        self._stray.add(digest)
        if seq > self.seq:
            with contextlib.suppress(ChainBroken):
                self._accept(compact, claims)

    def _follows(self, claims: Mapping[str, Any]) -> bool:
        """Whether the receipt before it was read, on the chain or beside it."""
        prev = claims["prev"]
        return prev in (self.head, self._hashes.get(claims["seq"] - 1)) or prev in self._stray

    def _accept(self, compact: str, claims: Mapping[str, Any]) -> None:
        keys = rotated_keys(claims) if claims["event"] == EVENT_KEYS_ROTATED else self.keys
        self.keys, self.seq, self.head = keys, claims["seq"], hash_of(compact)
        self._hashes[self.seq] = self.head

    def _resume(self, claims: Mapping[str, Any]) -> None:
        """The authority has settled which chain counts: the forks since the rollback are explained."""
        evidence = claims["evidence"]
        shared = evidence.get("forked_after")
        shared = shared if jose.is_integer(shared) else None
        self.resumptions.append(
            Resumption(claims["seq"], evidence["through"], shared, self._follows(claims))
        )
        if self._hashes.get(evidence["through"]) == evidence.get("head"):
            self.found = [
                fault
                for fault in self.found
                if not (fault.fork and fault.seq is not None and fault.seq > (shared or 0))
            ]

    def _misplaced(self, claims: Mapping[str, Any], digest: str) -> str | None:
        """Why a well-signed receipt is not the next one."""
        seq = claims["seq"]
        if claims["iss"] != self.station_id:
            return "the iss is another station"
        if self.authority_id is not None and claims["aud"] != self.authority_id:
            return "the aud is another authority"
        if seq <= self.seq:
            if self._hashes.get(seq, digest) == digest:
                return "a receipt that came before"
            return f"{_FORK}two receipts have this seq"
        if claims["event"] == EVENT_JOURNAL_RESUMED:
            return self._misplaced_resumption(claims)
        if seq != self.seq + 1:
            return f"a gap: {_span(self.seq + 1, seq - 1)} missing"
        if claims["prev"] != self.head:
            return f"{_FORK}prev is not the hash of receipt {self.seq}"
        return None

    def _misplaced_resumption(self, claims: Mapping[str, Any]) -> str | None:
        """CONTRACT section 3.3: only ``journal-resumed`` may jump, past what was acknowledged."""
        evidence = claims.get("evidence")
        through = evidence.get("through") if isinstance(evidence, dict) else None
        if not isinstance(evidence, dict) or not isinstance(through, int) or through < 0:
            return "journal-resumed without the evidence of what the authority holds"
        if claims["prev"] == self.head:
            if claims["seq"] == max(through, self.seq) + 1:
                return None
            return f"a gap: journal-resumed is not the receipt after {max(through, self.seq)}"
        if through == self.seq and evidence.get("head") == self.head:
            # Read from the authority's side: the branch that it holds ends here, by its own word,
            # and the station goes on from the older receipt that it was rolled back to.
            return None
        return f"{_FORK}prev is not the hash of receipt {self.seq}"


def _span(first: int, last: int) -> str:
    return f"receipt {first} is" if first == last else f"receipts {first} to {last} are"


def rotated_keys(claims: Mapping[str, Any]) -> dict[str, Ed25519PublicKey]:
    """The keys that a well-signed ``keys-rotated`` brings.

    Raises:
        ChainBroken: it brings none.
    """
    evidence = claims.get("evidence")
    try:
        return public_keys(evidence if isinstance(evidence, dict) else {})
    except ValueError as error:
        detail = f"keys-rotated without the new public keys: {error}"
        raise ChainBroken(claims["seq"], detail) from None
