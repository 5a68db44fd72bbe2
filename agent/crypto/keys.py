"""The keys: whom the station trusts, and what it signs and decrypts with. CONTRACT section 2."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from joserfc.jwk import OKPKey

from agent.crypto import jose
from agent.errors import ConfigurationInvalid
from agent.model import Role
from agent.owner import give_back

KEY_FILE_SIZE_MAX = 1024 * 1024  # bytes; a key set of a few keys has under 2 KB
TRUSTED_KEYS_MAX = 64  # keys; an authority has a handful
KID_LENGTH_MAX = 256  # characters; a thumbprint has 43
ALG_ENCRYPTION = "ECDH-ES+A256KW"  # CONTRACT section 2
_SHARED_MODE_BITS = 0o077
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"  # systemd.exec(5), LoadCredentialEncrypted=
CREDENTIAL_NAME = "station.jwks"  # CONTRACT section 2


class Algorithm(enum.StrEnum):
    """The signature algorithms that a trusted key may be pinned to."""

    ED25519 = "Ed25519"
    ES256 = "ES256"


# RFC 9864: EdDSA is the older, polymorphic name; CONTRACT section 2 takes it for an Ed25519 key.
_NAMES_IN_HEADER = {
    Algorithm.ED25519: frozenset({"Ed25519", "EdDSA"}),
    Algorithm.ES256: frozenset({"ES256"}),
}
_KEY_TYPES = {("OKP", "Ed25519"): Algorithm.ED25519, ("EC", "P-256"): Algorithm.ES256}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518 section 6


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key of the authority with the algorithm and role that are pinned to it."""

    kid: str
    alg: Algorithm
    role: Role
    public: Ed25519PublicKey | ec.EllipticCurvePublicKey = field(repr=False, compare=False)
    jwk: Mapping[str, str] = field(repr=False)

    def allows(self, alg: str) -> bool:
        """Whether a message of this key may name ``alg`` in its header."""
        return alg in _NAMES_IN_HEADER[self.alg]

    def verify(self, signature: bytes, signing_input: bytes) -> bool:
        """Whether ``signature`` is this key's over ``signing_input``."""
        # `cryptography` itself and not a JOSE library: the key's own type decides the algorithm,
        # so no header can ask for another, and a bad message costs one verification and no parsing.
        try:
            if isinstance(self.public, Ed25519PublicKey):
                self.public.verify(signature, signing_input)
                return True
            if len(signature) != 64:  # RFC 7518 section 3.4: R and S, 32 bytes each
                return False
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            self.public.verify(encode_dss_signature(r, s), signing_input, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The authority's public keys by ``kid``, and the version of the set."""

    version: int
    keys: Mapping[str, TrustedKey]

    @classmethod
    def from_jwks(cls, jwks: object, *, version: int | None = None) -> TrustStore:
        """Reads a JWK Set; ``version`` (of a ``trust`` directive) outranks the set's own member.

        Raises:
            ValueError: a key that is not Ed25519 or ES256, is private or repeats a ``kid``, or no
                key at all; the text says which and what is allowed. See also ``require_root``.
        """
        if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
            raise ValueError('no JWK Set; allowed: an object with an array "keys"')
        if version is None:
            version = jwks.get("version", 0)
        if not jose.is_integer(version):
            raise ValueError('"version" is no integer; allowed: 0..2^53-1')
        entries = jwks["keys"]
        if not 1 <= len(entries) <= TRUSTED_KEYS_MAX:
            raise ValueError(f"{len(entries)} keys; allowed: 1..{TRUSTED_KEYS_MAX}")
        keys: dict[str, TrustedKey] = {}
        for position, entry in enumerate(entries, start=1):
            try:
                key = _trusted_key(entry)
            except ValueError as error:
                raise ValueError(f"key {position}: {error}") from None
            if key.kid in keys:
                raise ValueError(f'key {position}: its "kid" is that of an earlier key')
            keys[key.kid] = key
        return cls(version, keys)

    def require_root(self) -> None:
        """Refuses a set that no later trust update could replace.

        Raises:
            ValueError: no key has the role ``root``.
        """
        if not any(key.role is Role.ROOT for key in self.keys.values()):
            raise ValueError('no root key; needed: a key with "role": "root"')

    def to_jwks(self) -> dict[str, Any]:
        """The JWK Set that ``from_jwks`` reads back to an equal store."""
        return {"version": self.version, "keys": [dict(key.jwk) for key in self.keys.values()]}


def _trusted_key(entry: object) -> TrustedKey:
    if not isinstance(entry, dict):
        raise ValueError("no JSON object")
    kid, use, role_name = entry.get("kid"), entry.get("use", "sig"), entry.get("role", Role.ISSUER)
    if not isinstance(kid, str) or not 1 <= len(kid) <= KID_LENGTH_MAX:
        raise ValueError(f'"kid" is no string of 1..{KID_LENGTH_MAX} characters')
    if use != "sig":
        raise ValueError('"use" is not "sig"')
    if not isinstance(role_name, str) or role_name not in set(Role):
        raise ValueError('"role" is neither "issuer" nor "root"')
    kind = (entry.get("kty"), entry.get("crv"))
    algorithm = next((alg for known, alg in _KEY_TYPES.items() if known == kind), None)
    if algorithm is None:
        raise ValueError("neither an Ed25519 key (OKP) nor an ES256 key (EC, P-256)")
    if not _PRIVATE_MEMBERS.isdisjoint(entry):
        raise ValueError("a private key; a trust store holds public keys only")
    alg = entry.get("alg")
    if not isinstance(alg, str) or alg not in _NAMES_IN_HEADER[algorithm]:
        raise ValueError(f'"alg" is not "{algorithm}", which its kind of key is for')
    jwk: dict[str, Any] = {"kty": entry["kty"], "crv": entry["crv"], "x": entry.get("x")}
    public: Ed25519PublicKey | ec.EllipticCurvePublicKey
    if algorithm is Algorithm.ED25519:
        public = Ed25519PublicKey.from_public_bytes(_coordinate(entry, "x"))
    else:
        jwk["y"] = entry.get("y")
        x, y = (int.from_bytes(_coordinate(entry, name), "big") for name in ("x", "y"))
        try:
            public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        except ValueError:
            raise ValueError("its point is not on the curve P-256") from None
    role = Role(role_name)
    jwk |= {"kid": kid, "alg": algorithm.value, "use": "sig", "role": role.value}
    return TrustedKey(kid, algorithm, role, public, jwk)


def _coordinate(entry: Mapping[str, Any], name: str) -> bytes:
    """A member of 32 bytes as base64url: what X25519, Ed25519 and P-256 have in common."""
    value = entry.get(name)
    if isinstance(value, str) and value.isascii():
        with contextlib.suppress(ValueError):
            data = jose.decode_base64url(value.encode())
            if len(data) == 32:
                return data
    raise ValueError(f'"{name}" is not base64url of 32 bytes')


def load_trust(path: Path) -> TrustStore:
    """Reads ``trust.jwks``.

    Raises:
        ConfigurationInvalid: one line with the file, what was found and what is allowed.
    """
    try:
        return TrustStore.from_jwks(jose.parse_json(_read_limited(path, modes_refused=0)))
    except FileNotFoundError:
        raise ConfigurationInvalid(
            f"authority.trust: {path}: No such file; the authority gives it out, put its public keys there"
        ) from None
    except ValueError as error:
        raise ConfigurationInvalid(f"authority.trust: {path}: {error}") from None


class Signer(Protocol):
    """What signs receipts: a key with its thumbprint."""

    @property
    def kid(self) -> str:
        """The RFC 7638 thumbprint."""
        ...

    def sign(self, signing_input: bytes) -> bytes:
        """The Ed25519 signature, 64 bytes."""
        ...


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private Ed25519 key of the station."""

    kid: str
    private: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> SigningKey:
        """The key with its thumbprint."""
        return cls(jose.thumbprint(_public_okp("Ed25519", private)), private)

    def sign(self, signing_input: bytes) -> bytes:
        return self.private.sign(signing_input)

    def public_jwk(self) -> dict[str, Any]:
        """What the authority checks receipts with."""
        jwk = _public_okp("Ed25519", self.private)
        return jwk | {"kid": self.kid, "alg": Algorithm.ED25519.value, "use": "sig"}

    def to_jwk(self) -> dict[str, Any]:
        """The private key, for the key file only."""
        return self.public_jwk() | {"d": jose.encode_base64url(self.private.private_bytes_raw())}


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """A private X25519 key of the station.

    ``retired_until`` is None for the current key. A retired one takes new messages up to that
    second, and still opens what was accepted before.
    """

    kid: str
    private: X25519PrivateKey = field(repr=False, compare=False)
    okp: OKPKey = field(repr=False, compare=False)
    retired_until: int | None = None

    @classmethod
    def of(cls, private: X25519PrivateKey, *, retired_until: int | None = None) -> EncryptionKey:
        """The key with its thumbprint."""
        jwk = _public_okp("X25519", private)
        okp = OKPKey.import_key(jwk | {"d": jose.encode_base64url(private.private_bytes_raw())})
        return cls(jose.thumbprint(jwk), private, okp, retired_until)

    def public_jwk(self) -> dict[str, Any]:
        """What the authority encrypts documents to."""
        jwk = _public_okp("X25519", self.private)
        return jwk | {"kid": self.kid, "alg": ALG_ENCRYPTION, "use": "enc"}

    def to_jwk(self) -> dict[str, Any]:
        """The private key, for the key file only."""
        jwk = self.public_jwk() | {"d": jose.encode_base64url(self.private.private_bytes_raw())}
        return jwk if self.retired_until is None else jwk | {"retired_until": self.retired_until}


@dataclass(frozen=True, slots=True)
class StationKeys:
    """The station's private keys.

    ``encryption`` begins with the current key. ``previous`` is the signing key before the last
    rotation: it signs ``keys-rotated``, should the power go between the key file and that receipt.
    """

    signing: SigningKey
    encryption: tuple[EncryptionKey, ...]
    previous: SigningKey | None = None

    @classmethod
    def generate(cls) -> StationKeys:
        """Fresh keys."""
        return cls(
            SigningKey.of(Ed25519PrivateKey.generate()),
            (EncryptionKey.of(X25519PrivateKey.generate()),),
        )

    @property
    def kid(self) -> str:
        """The signing key's thumbprint."""
        return self.signing.kid

    def thumbprint(self) -> str:
        """The signing key's RFC 7638 thumbprint: what a person compares over the telephone."""
        return self.signing.kid

    def sign(self, signing_input: bytes) -> bytes:
        """Signs with the current signing key."""
        return self.signing.sign(signing_input)

    def signer(self, kid: str) -> SigningKey | None:
        """The current or the previous signing key, by thumbprint."""
        known = (self.signing, self.previous)
        return next((key for key in known if key is not None and key.kid == kid), None)

    def encryption_key(self, kid: str, *, now: int | None = None) -> EncryptionKey | None:
        """The encryption key of that thumbprint; with ``now`` only one that takes new messages."""
        for key in self.encryption:
            if key.kid == kid:
                end = key.retired_until
                return None if now is not None and end is not None and now > end else key
        return None

    def rotate(self, now: int, overlap_seconds: int) -> StationKeys:
        """New keys; the encryption key until now takes messages for ``overlap_seconds`` more.

        Retired encryption keys stay in the file: documents accepted in time may wait for months.
        """
        current, *older = self.encryption
        retired = replace(current, retired_until=now + overlap_seconds)
        new = StationKeys.generate()
        encryption = (*new.encryption, retired, *older)
        return StationKeys(new.signing, encryption, previous=self.signing)

    def public_jwks(self) -> dict[str, Any]:
        """The current public keys: what the authority needs, the evidence of ``keys-rotated``."""
        return {"keys": [self.signing.public_jwk(), self.encryption[0].public_jwk()]}

    def to_jwks(self) -> dict[str, Any]:
        """The private JWK Set, for the key file only."""
        entries = [self.signing.to_jwk(), *(key.to_jwk() for key in self.encryption)]
        if self.previous is not None:
            entries.append(self.previous.to_jwk() | {"previous": True})
        return {"keys": entries}

    @classmethod
    def from_jwks(cls, jwks: object) -> StationKeys:
        """Reads the private JWK Set of ``to_jwks``.

        Raises:
            ValueError: it is not one; the text says what is allowed and holds no key material.
        """
        if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
            raise ValueError('no JWK Set; allowed: an object with an array "keys"')
        signing: list[SigningKey] = []
        previous: list[SigningKey] = []
        current: list[EncryptionKey] = []
        retired: list[EncryptionKey] = []
        for position, entry in enumerate(jwks["keys"], start=1):
            try:
                key = _station_key(entry)
            except ValueError as error:
                raise ValueError(f"key {position}: {error}") from None
            if isinstance(key, EncryptionKey):
                (current if key.retired_until is None else retired).append(key)
            else:
                (previous if entry.get("previous") is True else signing).append(key)
        if len(signing) != 1 or len(current) != 1 or len(previous) > 1:
            raise ValueError(
                f"{len(signing)} signing and {len(current)} current encryption keys; "
                'allowed: one of each (Ed25519 with "use": "sig", X25519 with "use": "enc")'
            )
        return cls(signing[0], (*current, *retired), previous[0] if previous else None)


def _public_okp(curve: str, private: Ed25519PrivateKey | X25519PrivateKey) -> dict[str, Any]:
    public = private.public_key().public_bytes_raw()
    return {"kty": "OKP", "crv": curve, "x": jose.encode_base64url(public)}


def _station_key(entry: object) -> SigningKey | EncryptionKey:
    if not isinstance(entry, dict) or entry.get("kty") != "OKP":
        raise ValueError("no OKP key")
    secret = _coordinate(entry, "d")
    retired_until = entry.get("retired_until")
    if retired_until is not None and not jose.is_integer(retired_until):
        raise ValueError('"retired_until" is no integer of seconds')
    key: SigningKey | EncryptionKey
    match entry.get("crv"), entry.get("use"), entry.get("alg"):
        case "Ed25519", "sig", "Ed25519" | "EdDSA" | None:
            key = SigningKey.of(Ed25519PrivateKey.from_private_bytes(secret))
        case "X25519", "enc", "ECDH-ES+A256KW":
            private = X25519PrivateKey.from_private_bytes(secret)
            key = EncryptionKey.of(private, retired_until=retired_until)
        case _:
            raise ValueError(
                'allowed: "crv": "Ed25519", "use": "sig", or "crv": "X25519", "use": "enc", '
                f'"alg": "{ALG_ENCRYPTION}"'
            )
    if entry.get("x") != key.public_jwk()["x"]:
        raise ValueError('"x" is not the public key of "d"')
    if entry.get("kid") != key.kid:
        raise ValueError('"kid" is not the RFC 7638 thumbprint')
    return key


def load_station_keys(path: Path, *, sealed: bool = False) -> StationKeys:
    """Reads ``station.jwks``, or the systemd credential of its name where ``sealed``.

    Raises:
        ConfigurationInvalid: not there, open to others, or not the station's keys; one line.
    """
    modes_refused = _SHARED_MODE_BITS
    if sealed:
        directory = os.environ.get(CREDENTIALS_VARIABLE)
        if not directory:
            raise ConfigurationInvalid(
                f"keys.sealed: {CREDENTIAL_NAME}: no ${CREDENTIALS_VARIABLE}; sealed = true is allowed "
                "only in a systemd unit with LoadCredentialEncrypted="
            )
        # systemd guards the directory; its access lists can show as group bits on the file.
        path, modes_refused = Path(directory) / CREDENTIAL_NAME, 0
    try:
        data = _read_limited(path, modes_refused=modes_refused)
        return StationKeys.from_jwks(jose.parse_json(data))
    except FileNotFoundError:
        raise ConfigurationInvalid(
            f"keys.station: {path}: No such file; put it back from its safe copy, or, at a new station, let"
            " `print-agent setup` make it"
        ) from None
    except ValueError as error:
        raise ConfigurationInvalid(f"keys.station: {path}: {error}") from None


def init_station_keys(path: Path) -> StationKeys:
    """Makes the station's keys in a new file of mode 0600, durable when it returns.

    Raises:
        ConfigurationInvalid: the file exists (it is never overwritten), or cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationInvalid(f"keys.station: {path.parent}: {error.strerror}") from error
    keys = StationKeys.generate()
    write_private_file(path, keys.to_jwks())
    return keys


def replace_station_keys(path: Path, keys: StationKeys) -> None:
    """Puts ``keys`` in the place of the file: the old set or the new one survives a power cut.

    Raises:
        ConfigurationInvalid: the file cannot be written.
    """
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    write_private_file(fresh, keys.to_jwks())
    try:
        fresh.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise ConfigurationInvalid(f"keys.station: {path}: {error.strerror}") from error


def write_private_file(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON to a new file of mode 0600 and makes it durable.

    Raises:
        ConfigurationInvalid: the file exists, or cannot be written.
    """
    data = (json.dumps(content, indent=1) + "\n").encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationInvalid(f"{path}: exists already; it is never overwritten") from None
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigurationInvalid(f"{path}: {error.strerror}") from error


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_limited(path: Path, *, modes_refused: int) -> bytes:
    """The file's bytes; ``ValueError`` says why not, where it is there."""
    try:
        # Without O_NONBLOCK a named pipe in the file's place would hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("no regular file")
            mode = stat.S_IMODE(status.st_mode)
            if mode & modes_refused:
                raise ValueError(
                    f"others can read it (mode {mode:04o}); allowed: 0600 (chmod 600 {path})"
                )
            data = file.read(KEY_FILE_SIZE_MAX + 1)
    except FileNotFoundError:
        raise
    except PermissionError:
        raise ValueError(f"Permission denied; {give_back(path)}") from None
    except OSError as error:
        raise ValueError(error.strerror or "cannot be read") from None
    if len(data) > KEY_FILE_SIZE_MAX:
        raise ValueError(f"more than {KEY_FILE_SIZE_MAX} bytes")
    return data
