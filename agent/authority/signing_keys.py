"""The authority's signing keys over time: each version of its trust store names one issuer and one root."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.crypto import jose
from agent.crypto.keys import Algorithm
from agent.model import Role


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key of the authority, and the version of the trust store from which on it is the one of its role."""

    kid: str
    role: Role
    since: int
    private: Ed25519PrivateKey = field(repr=False, compare=False)

    def public_jwk(self) -> dict[str, Any]:
        """As a station's trust store holds it."""
        x = jose.encode_base64url(self.private.public_key().public_bytes_raw())
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "use": "sig"}
        return jwk | {"alg": Algorithm.ED25519.value, "role": self.role.value}

    def to_jwk(self) -> dict[str, Any]:
        """The private key, for the authority's own file."""
        private = jose.encode_base64url(self.private.private_bytes_raw())
        return self.public_jwk() | {"since": self.since, "d": private}


class SigningKeys:
    """All keys of both roles, also the replaced ones: the next root is announced by the one before it."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self._keys = tuple(sorted(keys, key=lambda key: key.since))

    @classmethod
    def generate(cls) -> SigningKeys:
        """A first issuer and a first root."""
        return cls(SigningKey(f"{role}-1", role, 0, Ed25519PrivateKey.generate()) for role in Role)

    @classmethod
    def from_jwks(cls, jwks: Sequence[dict[str, Any]]) -> SigningKeys:
        """Reads what ``to_jwks`` gave; entries without a role are others' affair.

        Raises:
            ValueError, KeyError, TypeError: it is not that, or a role has no key.
        """
        keys = cls(
            SigningKey(
                jwk["kid"],
                Role(jwk["role"]),
                jwk.get("since", 0),
                Ed25519PrivateKey.from_private_bytes(jose.decode_base64url(jwk["d"].encode())),
            )
            for jwk in jwks
            if "role" in jwk
        )
        for role in Role:
            keys.of(role)
        return keys

    def to_jwks(self) -> list[dict[str, Any]]:
        """The private keys, for the authority's own file."""
        return [key.to_jwk() for key in self._keys]

    @property
    def version(self) -> int:
        """The newest version of the trust store."""
        return self._keys[-1].since

    def of(self, role: Role, *, version: int | None = None) -> SigningKey:
        """The key of a role in a version of the trust store; in the newest one without.

        Raises:
            KeyError: there is none.
        """
        known = [
            key
            for key in self._keys
            if key.role is role and (version is None or key.since <= version)
        ]
        if not known:
            raise KeyError(role)
        return known[-1]

    def trust_jwks(self, *, version: int | None = None) -> dict[str, Any]:
        """A version of the trust store: the public keys."""
        keys = [self.of(role, version=version).public_jwk() for role in Role]
        return {"version": self.version if version is None else version, "keys": keys}

    def rotated(self, role: Role, *, version: int) -> SigningKeys:
        """The same with a new key of that role, from a new version on."""
        number = sum(key.role is role for key in self._keys) + 1
        new = SigningKey(f"{role}-{number}", role, version, Ed25519PrivateKey.generate())
        return SigningKeys((*self._keys, new))
