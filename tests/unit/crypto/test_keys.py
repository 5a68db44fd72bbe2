from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent.crypto import jose
from agent.crypto.keys import (
    StationKeys,
    TrustStore,
    init_station_keys,
    load_station_keys,
    load_trust,
    replace_station_keys,
)
from agent.errors import ConfigurationInvalid
from agent.model import Role
from tests.unit.crypto.crypto_samples import ISSUER, ROOT, TRUST_JWKS, public_jwk


def bent(**over: Any) -> dict[str, Any]:
    jwks = copy.deepcopy(TRUST_JWKS)
    jwks["keys"][0] = {k: v for k, v in (jwks["keys"][0] | over).items() if v is not None}
    return jwks


@pytest.mark.parametrize(
    ("jwks", "text"),
    [
        ([], "no JWK Set"),
        ({"keys": {}}, "no JWK Set"),
        ({"keys": []}, "0 keys"),
        ({"keys": TRUST_JWKS["keys"] * 40}, "80 keys"),
        ({"keys": [7]}, "key 1: no JSON object"),
        (bent(d="AAAA"), "private key"),
        (bent(kid=None), '"kid"'),
        (bent(kid=7), '"kid"'),
        (bent(kid="root"), "key 2.*earlier key"),
        (bent(alg="HS256"), '"alg" is not "Ed25519"'),
        (bent(alg="ES256"), '"alg" is not "Ed25519"'),
        (bent(alg=["Ed25519"]), '"alg" is not "Ed25519"'),
        (bent(alg=None), '"alg" is not "Ed25519"'),
        (bent(use="enc"), '"use"'),
        (bent(role="boss"), '"role"'),
        (bent(role=[]), '"role"'),
        (bent(kty="RSA"), "neither an Ed25519 key"),
        (bent(kty="oct", k="AQAB"), "neither an Ed25519 key"),
        (bent(crv="Ed448"), "neither an Ed25519 key"),
        (bent(crv=["Ed25519"]), "neither an Ed25519 key"),
        (bent(x="AAAA"), "32 bytes"),
        (bent(x=None), "32 bytes"),
        (bent(kty="EC", crv="P-256", alg="ES256", y="A" * 43), "not on the curve"),
        (bent() | {"version": -1}, '"version"'),
        (bent() | {"version": "1"}, '"version"'),
    ],
)
def test_a_trust_store_that_is_wrong_is_refused(jwks: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TrustStore.from_jwks(jwks)


def test_roles_and_versions_are_read(vectors_dir: Path) -> None:
    store = load_trust(vectors_dir / "trust.jwks")
    assert store.version == 0
    assert {key.role for key in store.keys.values()} == {Role.ISSUER, Role.ROOT}
    assert TrustStore.from_jwks(TRUST_JWKS | {"version": 4}).version == 4
    assert TrustStore.from_jwks(TRUST_JWKS | {"version": 4}, version=5).version == 5


def test_a_role_that_is_not_named_is_issuer() -> None:
    assert TrustStore.from_jwks(bent(role=None)).keys["issuer"].role is Role.ISSUER


def test_the_older_name_of_the_algorithm_is_taken_and_written_as_the_newer() -> None:
    store = TrustStore.from_jwks(bent(alg="EdDSA"))
    assert store.to_jwks()["keys"][0]["alg"] == "Ed25519"
    assert TrustStore.from_jwks(store.to_jwks()) == store


def test_an_update_without_root_would_lock_everybody_out() -> None:
    with pytest.raises(ValueError, match="no root key"):
        TrustStore.from_jwks({"keys": [public_jwk(ISSUER, "a")]}).require_root()
    TrustStore.from_jwks({"keys": [public_jwk(ROOT, "a", "root")]}).require_root()


@pytest.mark.parametrize("content", [b"{", b'{"keys":[],"keys":[]}', b"\xff", b""])
def test_a_trust_file_that_is_no_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trust.jwks"
    path.write_bytes(content)
    with pytest.raises(ConfigurationInvalid, match=r"trust\.jwks") as refused:
        load_trust(path)
    assert "\n" not in str(refused.value)


def test_a_missing_trust_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationInvalid,
        match=r"authority\.trust: .*trust\.jwks: No such file; .* put its public keys there",
    ):
        load_trust(tmp_path / "trust.jwks")


def test_a_named_pipe_instead_of_keys_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trust.jwks")
    with pytest.raises(ConfigurationInvalid, match="no regular file"):
        load_trust(tmp_path / "trust.jwks")


def test_station_keys_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "station.jwks"
    keys = init_station_keys(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_station_keys(path) == keys
    assert keys.thumbprint() == jose.thumbprint(keys.public_jwks()["keys"][0])


def test_init_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "station.jwks"
    init_station_keys(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationInvalid, match="never overwritten"):
        init_station_keys(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620])
def test_keys_that_others_can_read_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "station.jwks"
    init_station_keys(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationInvalid, match=f"chmod 600 {path}"):
        load_station_keys(path)


def test_sealed_keys_come_from_the_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = init_station_keys(tmp_path / "station.jwks")
    (tmp_path / "station.jwks").chmod(0o440)  # an access list of systemd shows as group bits
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_station_keys(Path("/nowhere/station.jwks"), sealed=True) == keys
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ConfigurationInvalid, match=r"keys\.sealed"):
        load_station_keys(Path("/nowhere/station.jwks"), sealed=True)


def test_the_public_set_and_repr_hold_no_secret() -> None:
    keys = StationKeys.generate()
    secrets = [key["d"] for key in keys.to_jwks()["keys"]]
    for shown in (json.dumps(keys.public_jwks()), repr(keys)):
        assert not any(secret in shown for secret in secrets)


def test_a_rotated_key_still_opens_and_its_end_is_for_new_messages_only(tmp_path: Path) -> None:
    old = StationKeys.generate()
    new = old.rotate(1000, 60)
    replace_station_keys(tmp_path / "station.jwks", old)
    replace_station_keys(tmp_path / "station.jwks", new)
    new = load_station_keys(tmp_path / "station.jwks")
    kid = old.encryption[0].kid
    assert new.encryption_key(kid, now=1060) is not None
    assert new.encryption_key(kid, now=1061) is None
    assert new.encryption_key(kid) is not None
    assert kid not in json.dumps(new.public_jwks())
    assert new.kid != old.kid
    assert new.signer(old.kid) == old.signing
    assert new.signer(new.kid) == new.signing
    assert new.signer("other") is None


def test_two_rotations_keep_both_older_encryption_keys() -> None:
    first = StationKeys.generate()
    third = StationKeys.from_jwks(first.rotate(10, 5).rotate(20, 5).to_jwks())
    assert [key.retired_until for key in third.encryption] == [None, 25, 15]


@pytest.mark.parametrize(
    ("position", "over", "text"),
    [
        (0, {"kid": "x"}, "thumbprint"),
        (0, {"d": "AAAA"}, "32 bytes"),
        (0, {"d": "A" * 43}, "not the public key"),
        (0, {"use": "enc"}, "allowed"),
        (1, {"alg": "ECDH-ES"}, "allowed"),
        (1, {"kty": "EC"}, "no OKP key"),
        (1, {"retired_until": "soon"}, "retired_until"),
        (1, {"retired_until": 5}, "0 current encryption keys"),
    ],
)
def test_station_keys_that_are_wrong_are_refused(
    position: int, over: dict[str, Any], text: str
) -> None:
    jwks = StationKeys.generate().to_jwks()
    secret = jwks["keys"][position]["d"]
    jwks["keys"][position] |= over
    with pytest.raises(ValueError, match=text) as refused:
        StationKeys.from_jwks(jwks)
    assert secret not in str(refused.value)


def test_station_keys_of_the_vectors_are_read(vectors_dir: Path) -> None:
    jwks = json.loads((vectors_dir / "station.jwks").read_text())
    assert StationKeys.from_jwks(jwks).to_jwks() == jwks | {"keys": [*jwks["keys"]]}
