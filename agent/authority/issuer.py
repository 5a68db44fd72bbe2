"""Issues authorizations and directives; its state is a directory.

``authority.json``         the authority's id
``authority.jwks``         its private keys, mode 0600: issuers, roots, and one that seals documents
``stations/ID.jwks``       a station's public keys
``issued/ID.jsonl``        what was issued to it, one line each; the last one holds the last ``seq``
``kept/ID/SEQ.jwe``        an authorization's documents, sealed for the authority itself
``kept/ID/SEQ.jws``        a message that must be had again byte for byte: what a takeover issued
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from agent.authority.audit import Audit
from agent.authority.signing_keys import SigningKey, SigningKeys
from agent.crypto import jose
from agent.crypto.keys import (
    ALG_ENCRYPTION,
    Algorithm,
    sync_directory,
    write_private_file,
)
from agent.crypto.receipts import ChainVerifier, public_keys
from agent.errors import ConfigurationInvalid
from agent.model import (
    MESSAGE_SIZE_MAX,
    TYP_AUTHORIZATION,
    TYP_DIRECTIVE,
    TYP_DOCUMENT,
    Action,
    Role,
)
from agent.page.mrz import compose_mrz

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE_SIZE_MAX = 64 * 1024  # bytes; a line of the issued list has some 200
_TYP_KEPT = "documents+json"
# joserfc refuses by default what is larger than 64 KiB; four portraits are.
_REGISTRY = jwe.JWERegistry(algorithms=[ALG_ENCRYPTION, "A256GCM"])
_REGISTRY.max_ciphertext_length = 4 * MESSAGE_SIZE_MAX
_MRZ_FIELDS = (
    "document_type",
    "issuing_state",
    "nationality",
    "primary_identifier",
    "document_number",
    "date_of_birth",
    "date_of_expiry",
    "sex",
)


class Replaced(NamedTuple):
    """A job of a dead station."""

    station: str
    job: str


class Authority:
    """Its signing keys, and for each station its keys and what was issued to it."""

    def __init__(
        self, directory: Path, authority_id: str, keys: SigningKeys, sealing_key: OKPKey
    ) -> None:
        self.directory = directory
        self.id = authority_id
        self._keys = keys
        self._sealing_key = sealing_key

    @classmethod
    def create(cls, directory: Path, authority_id: str) -> Authority:
        """Makes a new authority in a directory that holds none yet.

        Raises:
            ConfigurationInvalid: there is one, or it cannot be written.
        """
        keys = SigningKeys.generate()
        sealing_key = OKPKey.generate_key("X25519", {"use": "enc", "kid": "documents-1"})
        authority = cls(directory, authority_id, keys, sealing_key)
        for folder in (directory, *(directory / name for name in ("stations", "issued", "kept"))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private_file(directory / "authority.jwks", authority._private_jwks())
        write_private_file(directory / "authority.json", {"authority": authority_id})
        return authority

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """Opens the authority that ``create`` made.

        Raises:
            ConfigurationInvalid: there is none; one line.
        """
        try:
            about = jose.parse_object((directory / "authority.json").read_bytes())
            jwks = jose.parse_object((directory / "authority.jwks").read_bytes())
            sealing_key = OKPKey.import_key(_encryption_jwk(jwks))
            keys = SigningKeys.from_jwks(jwks["keys"])
            return cls(directory, about["authority"], keys, sealing_key)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ConfigurationInvalid(
                f"{directory}: no reference authority; make one with `print-agent authority init`"
            ) from None

    def trust_jwks(self) -> dict[str, Any]:
        """What a station's ``trust.jwks`` holds: the public keys."""
        return self._keys.trust_jwks()

    @property
    def trust_version(self) -> int:
        """The newest version of the trust store, 0 where no key was ever replaced."""
        return self._keys.version

    def rotate(self, role: Role) -> None:
        """Replaces the issuer or the root; each station learns it by a ``trust`` update.

        The key until now signs nothing more, but for a root: it signs the update that brings the next one.
        """
        told = [
            row.get("version", 0) for station in self.stations() for row in self.issued(station)
        ]
        self._keys = self._keys.rotated(role, version=max([self.trust_version, *told]) + 1)
        _replace(self.directory / "authority.jwks", self._private_jwks())

    def _private_jwks(self) -> dict[str, Any]:
        return {"keys": [*self._keys.to_jwks(), self._sealing_key.as_dict(private=True)]}

    def add_station(self, station_id: str, public_jwks: Mapping[str, Any]) -> None:
        """Registers a station by what ``print-agent keys show`` prints; again after a rotation.

        Older keys are kept behind the new ones: receipts are followed from the first key on.

        Raises:
            ConfigurationInvalid: an id that cannot be a file's name, or no public station keys.
        """
        if not _NAME.fullmatch(station_id):
            raise ConfigurationInvalid("station: allowed: 1..64 characters A-Z a-z 0-9 . _ -")
        try:
            public_keys(public_jwks)
            _encryption_jwk(public_jwks)
        except ValueError as error:
            raise ConfigurationInvalid(f"station {station_id}: {error}") from None
        keys = list(public_jwks["keys"])
        if any("d" in jwk for jwk in keys):
            raise ConfigurationInvalid(f"station {station_id}: private keys; allowed: public ones")
        path = self.directory / "stations" / f"{station_id}.jwks"
        if path.exists():
            known = {jwk["kid"] for jwk in keys}
            keys += [jwk for jwk in self._station(station_id)["keys"] if jwk["kid"] not in known]
        _replace(path, {"keys": keys})

    def stations(self) -> list[str]:
        """The ids of the registered stations."""
        return sorted(path.stem for path in (self.directory / "stations").glob("*.jwks"))

    def authorize(
        self,
        station_id: str,
        *,
        books: Sequence[tuple[str, Mapping[str, Any]]],
        jti: str,
        exp: int,
        now: int,
        nbf: int | None = None,
        priority: int = 50,
        application: str | None = None,
        replaces: Replaced | None = None,
    ) -> str:
        """Signs a print authorization; its ``seq`` is durable before it is returned.

        Args:
            station_id: a registered station.
            books: book numbers and the documents of CONTRACT section 3.2; ``document_number`` is
                set to the number, and ``mrz`` is composed where it is absent.
            jti: the job's id.
            exp: not printed after.
            now: ``iat``.
            nbf: not printed before.
            priority: 1..100.
            application: the number that staff see.
            replaces: the dead station's job that it stands for; its message is kept.

        Raises:
            ConfigurationInvalid: no such station.
            ValueError: a name or number that cannot be written in an MRZ.
        """
        key = OKPKey.import_key(_encryption_jwk(self._station(station_id)))
        documents = [(number, complete_document(number, document)) for number, document in books]
        entries = [
            {"number": number, "document": seal(document, key, typ=TYP_DOCUMENT)}
            for number, document in documents
        ]
        terms: dict[str, Any] = {"exp": exp, "priority": priority}
        terms |= {} if nbf is None else {"nbf": nbf}
        terms |= {} if application is None else {"application": application}
        about = terms | {"books": [number for number, _ in documents]}
        about |= {} if replaces is None else {"replaces": replaces._asdict()}
        return self._issue(
            station_id,
            TYP_AUTHORIZATION,
            {"jti": jti, "iat": now, "books": entries} | terms,
            about,
            key=self._keys.of(Role.ISSUER),
            sealed=seal(dict(documents), self._sealing_key, typ=_TYP_KEPT),
        )

    def documents(self, station_id: str, seq: int) -> dict[str, dict[str, Any]]:
        """What an authorization printed into which book: the documents by book number.

        Raises:
            ConfigurationInvalid: they are not kept, or not readable with this authority's key.
        """
        path = self._kept_path(station_id, seq, "jwe")
        try:
            text = path.read_text(encoding="ascii")
            opened = jwe.decrypt_compact(text, self._sealing_key, registry=_REGISTRY)
        except (OSError, ValueError, JoseError):
            raise ConfigurationInvalid(f"{path}: no documents that this authority sealed") from None
        return jose.parse_object(opened.plaintext or b"")

    def kept_message(self, station_id: str, seq: int) -> str:
        """A message of a takeover, byte for byte as it was issued."""
        return self._kept_path(station_id, seq, "jws").read_text(encoding="ascii")

    def direct(
        self,
        station_id: str,
        action: Action,
        *,
        exp: int,
        now: int,
        jti: str | None = None,
        skip: int = 0,
        **claims: Any,
    ) -> str:
        """Signs a directive, a ``trust`` update with the root that the version before it names.

        A ``trust`` update without ``jwks`` brings this authority's own keys of that version.

        Args:
            station_id: a registered station.
            action: one of CONTRACT section 3.3.
            exp: not taken after.
            now: ``iat``.
            jti: its id; ``directive-SEQ`` where it is not given.
            skip: how many numbers to leave out, where somebody else may have used them.
            claims: the action's own.

        Raises:
            ConfigurationInvalid: no such station.
        """
        self._station(station_id)
        key = self._keys.of(Role.ISSUER)
        if action is Action.TRUST:
            version = min(claims["version"], self.trust_version + 1)
            claims.setdefault("jwks", self._keys.trust_jwks(version=version))
            key = self._keys.of(Role.ROOT, version=max(version - 1, 0))
        about = {"action": action.value, "exp": exp}
        told = ("job", "to", "through", "version")
        about |= {name: claims[name] for name in told if name in claims}
        body = {"jti": jti, "iat": now, "exp": exp, "action": action.value} | claims
        return self._issue(station_id, TYP_DIRECTIVE, body, about, key=key, skip=skip)

    def verify(self, station_id: str, receipts: Iterable[str]) -> Audit:
        """Follows a station's receipts from the first one, and compares them with what was issued.

        Raises:
            ConfigurationInvalid: no such station.
        """
        keys = self.first_keys(station_id)
        verifier = ChainVerifier(station_id, keys, authority_id=self.id)
        return Audit.of(receipts, verifier, issued=self.issued(station_id))

    def first_keys(self, station_id: str) -> dict[str, Ed25519PublicKey]:
        """The station's signing key with which its chain began: behind a rotated key stands the older one."""
        return dict(list(public_keys(self._station(station_id)).items())[-1:])

    def issued(self, station_id: str) -> list[dict[str, Any]]:
        """What was issued to a station: ``seq``, ``jti``, ``books`` or ``action`` and ``job``."""
        path = self._issued_path(station_id)
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]  # a line that lacks its end never left
        return [jose.parse_object(line) for line in lines]

    def _issue(
        self,
        station_id: str,
        typ: str,
        claims: dict[str, Any],
        about: dict[str, Any],
        *,
        key: SigningKey,
        skip: int = 0,
        sealed: str | None = None,
    ) -> str:
        with locked(self._issued_path(station_id)) as file:
            seq = _last_seq(file) + skip + 1
            claims["jti"] = claims["jti"] or f"directive-{seq}"
            message = _sign(key, typ, {"iss": self.id, "aud": station_id, "seq": seq} | claims)
            # Both are durable before the row is: what has a row can be given out again.
            if sealed is not None:
                self._keep(station_id, seq, "jwe", sealed)
            if "replaces" in about or about.get("action") == Action.RETIRE:
                self._keep(station_id, seq, "jws", message)
            row = {"seq": seq, "jti": claims["jti"], "iat": claims["iat"]} | about
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            sync_directory(self.directory / "issued")
        return message

    def _keep(self, station_id: str, seq: int, suffix: str, text: str) -> None:
        path = self._kept_path(station_id, seq, suffix)
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            sync_directory(path.parent.parent)
        with path.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)

    def _kept_path(self, station_id: str, seq: int, suffix: str) -> Path:
        return self.directory / "kept" / station_id / f"{seq}.{suffix}"

    def require_station(self, station_id: str) -> None:
        """Raises ``ConfigurationInvalid`` where the station is not registered."""
        self._station(station_id)

    def _station(self, station_id: str) -> dict[str, Any]:
        path = self.directory / "stations" / f"{station_id}.jwks"
        if not _NAME.fullmatch(station_id) or not path.exists():
            raise ConfigurationInvalid(
                f"station {station_id}: unknown; registered: {', '.join(self.stations()) or 'none'}"
            )
        return jose.parse_object(path.read_bytes())

    def _issued_path(self, station_id: str) -> Path:
        return self.directory / "issued" / f"{station_id}.jsonl"


def _sign(key: SigningKey, typ: str, claims: Mapping[str, Any]) -> str:
    header = {"alg": Algorithm.ED25519.value, "kid": key.kid, "typ": typ}
    signing_input = f"{_segment(header)}.{_segment(claims)}"
    signature = key.private.sign(signing_input.encode("ascii"))
    return f"{signing_input}.{jose.encode_base64url(signature)}"


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    """Puts a private file in another's place: the old one or the new one survives a power cut."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    write_private_file(fresh, content)
    fresh.replace(path)
    sync_directory(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """A file for one process at a time: two of them must not give out one ``seq``, or one job twice."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _last_seq(file: BinaryIO) -> int:
    """The ``seq`` of the last whole line, 0 for none; a torn one after it is cut off."""
    end = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, end - _LINE_SIZE_MAX))
    tail = file.read()
    whole = tail[: tail.rfind(b"\n") + 1]
    file.truncate(start + len(whole))
    file.seek(start + len(whole))
    if not whole:
        return 0
    seq: int = jose.parse_object(whole[:-1].rpartition(b"\n")[2])["seq"]
    return seq


def _encryption_jwk(jwks: Mapping[str, Any]) -> dict[str, Any]:
    for jwk in jwks["keys"]:
        if jwk.get("crv") == "X25519" and jwk.get("use") == "enc":
            return dict(jwk)
    raise ValueError("no X25519 key for encryption")


def complete_document(number: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The travel document of one book: its number, and its MRZ where none is given."""
    whole = dict(document) | {"document_number": number}
    if "mrz" not in whole:
        fields = {name: whole[name] for name in _MRZ_FIELDS}
        for name in ("secondary_identifier", "personal_number"):
            fields[name] = whole.get(name, "")
        whole["mrz"] = list(compose_mrz(**fields))
    return whole


def seal(content: Mapping[str, Any], key: OKPKey, *, typ: str) -> str:
    """A JWE compact serialization that only the key's owner can open."""
    header = {"alg": ALG_ENCRYPTION, "enc": "A256GCM", "typ": typ, "kid": key.kid}
    return jwe.encrypt_compact(header, _json(content), key, registry=_REGISTRY)


def _segment(value: Mapping[str, Any]) -> str:
    return jose.encode_base64url(_json(value))


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
