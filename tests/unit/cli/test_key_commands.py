"""`print-agent keys`: made once, rotated with overlap, sealed for one computer; and the authority's own, replaced."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from agent.authority import Authority
from agent.cli import main
from agent.crypto import sealed_keys
from agent.crypto.keys import StationKeys, TrustStore
from agent.crypto.receipts import claims_unverified
from agent.crypto.verifier import open_envelope
from agent.errors import MessageRefused
from agent.model import Action, Role
from tests.unit.cli.test_setup import SEALER

STATION, AUTHORITY, NOW = "sambas-01", "imigrasi", 1_893_456_000
CONFIGURATION = """\
[station]
id = "sambas-01"
state_dir = "s"
[authority]
id = "imigrasi"
[keys]
sealed = {sealed}
[printers.main]
driver = "virtual"
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def call(*words: str, sealed: bool = False) -> tuple[int, str, str]:
        (tmp_path / "station.toml").write_text(CONFIGURATION.format(sealed=str(sealed).lower()))
        (tmp_path / "s").mkdir(exist_ok=True)
        where = ("--config", str(tmp_path / "station.toml"))
        monkeypatch.setattr(sys, "argv", ["print-agent", *words, *where])
        code = main()
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def credential(tmp_path, monkeypatch) -> Path:
    """Where the sealed keys lie; a program stands in for systemd-creds."""
    program = tmp_path / "bin" / "systemd-creds"
    program.parent.mkdir()
    program.write_text(SEALER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path = tmp_path / "credstore" / "station.jwks"
    monkeypatch.setattr(sealed_keys, "CREDENTIAL", path)
    return path


def test_a_rotation_keeps_the_file_private_and_the_key_that_hands_over(run, tmp_path):
    assert run("keys", "init")[0] == 0
    file = tmp_path / "s" / "station.jwks"
    before = StationKeys.from_jwks(json.loads(file.read_text()))
    assert run("keys", "rotate", "--overlap-days", "2")[0] == 0
    after = StationKeys.from_jwks(json.loads(file.read_text()))
    assert file.stat().st_mode & 0o777 == 0o600
    assert after.signer(before.kid) == before.signing
    assert after.encryption_key(before.encryption[0].kid) is not None
    assert [key["kid"] for key in json.loads(run("keys", "show")[1])["keys"]] == [
        *(after.kid, after.encryption[0].kid)
    ]


def test_sealed_keys_are_made_shown_and_rotated_and_never_lie_in_clear(run, credential, tmp_path):
    assert run("keys", "init", sealed=True)[0] == 0
    first = sealed_keys.unseal_keys()
    again = run("keys", "init", sealed=True)
    assert again[0] == 1
    assert "never overwritten" in again[2]
    shown = json.loads(run("keys", "show", sealed=True)[1])
    assert shown == first.public_jwks()
    code, out, _ = run("keys", "rotate", sealed=True)
    assert code == 0
    second = sealed_keys.unseal_keys()
    assert second.thumbprint() in out
    assert second.signer(first.kid) == first.signing
    assert second.encryption_key(first.encryption[0].kid) is not None
    assert not (tmp_path / "s" / "station.jwks").exists()
    assert not any(b'"d"' in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_rotation_that_cannot_be_sealed_leaves_the_keys_that_were_there(
    run, credential, tmp_path
):
    run("keys", "init", sealed=True)
    before = credential.read_bytes()
    (tmp_path / "bin" / "systemd-creds").write_text(
        SEALER.replace('base64 >"$4"', 'echo half >"$4"; exit 1')
    )
    code, _, err = run("keys", "rotate", sealed=True)
    assert (code, err.count("\n")) == (1, 1)
    assert credential.read_bytes() == before


def test_the_credential_s_name_is_the_contract_s_whatever_the_file_is_called(monkeypatch, tmp_path):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    keys = StationKeys.generate()
    (tmp_path / "station.jwks").write_text(json.dumps(keys.to_jwks()))
    assert sealed_keys.open_station_keys(Path("/nowhere/other.jwks"), sealed=True) == keys


# The authority's own


@pytest.fixture
def authority(tmp_path) -> str:
    folder = tmp_path / "imigrasi"
    issuer = Authority.create(folder, AUTHORITY)
    issuer.add_station(STATION, StationKeys.generate().public_jwks())
    (tmp_path / "first").write_text(json.dumps(issuer.trust_jwks()))
    return str(folder)


def taken(message: str, trust: TrustStore) -> TrustStore:
    """The trust store after an update that a station of this trust takes."""
    envelope = open_envelope(
        message.encode(), trust=trust, station_id=STATION, authority_id=AUTHORITY
    )
    return TrustStore.from_jwks(envelope.claims["jwks"], version=envelope.claims["version"])


def test_each_trust_update_is_signed_by_the_root_of_the_version_before(run, authority, tmp_path):
    trust = TrustStore.from_jwks(json.loads((tmp_path / "first").read_text()))
    direct = ("authority", "direct", authority, "trust", "--station", STATION)
    for role, key in (("issuer", "issuer-2"), ("root", "root-2"), ("root", "root-3")):
        code, out, _ = run("authority", "rotate", authority, role)
        assert code == 0
        assert f"print-agent authority direct {authority} trust --station {STATION}" in out
        trust = taken(run(*direct)[1].strip(), trust)
        assert key in trust.keys
        assert len(trust.keys) == 2
    assert trust.version == 3
    assert json.loads(Path(authority, "trust.jwks").read_text()) == trust.to_jwks()
    # A station that slept takes them one after the other, and no other way.
    slept = TrustStore.from_jwks(json.loads((tmp_path / "first").read_text()))
    with pytest.raises(MessageRefused):
        taken(run(*direct)[1].strip(), slept)
    for version in ("1", "2", "3"):
        slept = taken(run(*direct, "--version", version)[1].strip(), slept)
    assert slept == trust


def test_a_new_issuer_signs_from_then_on_and_the_old_one_is_trusted_no_more(run, authority):
    old = signed_hold(run, authority)
    trust_before = TrustStore.from_jwks(Authority.load(Path(authority)).trust_jwks())
    assert run("authority", "rotate", authority, "issuer")[0] == 0
    new = signed_hold(run, authority)
    trust = TrustStore.from_jwks(Authority.load(Path(authority)).trust_jwks())
    for message, good, bad in ((old, trust_before, trust), (new, trust, trust_before)):
        open_envelope(message.encode(), trust=good, station_id=STATION, authority_id=AUTHORITY)
        with pytest.raises(MessageRefused, match="key"):
            open_envelope(message.encode(), trust=bad, station_id=STATION, authority_id=AUTHORITY)


def signed_hold(run, authority: str) -> str:
    return run("authority", "direct", authority, "hold", "--station", STATION, "--job", "a")[
        1
    ].strip()


def test_a_version_that_a_station_was_told_is_never_given_again(run, authority):
    issuer = Authority.load(Path(authority))
    issuer.direct(STATION, Action.TRUST, exp=NOW, now=NOW, version=7)
    issuer.rotate(Role.ISSUER)
    assert Authority.load(Path(authority)).trust_version == 8
    direct = ("authority", "direct", authority, "trust", "--station", STATION)
    assert claims_unverified(run(*direct)[1].strip())["version"] == 8


def test_a_trust_update_of_an_authority_that_replaced_no_key_needs_a_version(run, authority):
    direct = ("authority", "direct", authority, "trust", "--station", STATION)
    assert run(*direct)[0] == 2
    assert run(*direct, "--version", "1")[0] == 0


def test_the_authority_s_private_keys_stay_private(run, authority):
    run("authority", "rotate", authority, "root")
    path = Path(authority, "authority.jwks")
    assert path.stat().st_mode & 0o777 == 0o600
    secrets = [key["d"] for key in json.loads(path.read_text())["keys"]]
    assert not any(secret in Path(authority, "trust.jwks").read_text() for secret in secrets)
