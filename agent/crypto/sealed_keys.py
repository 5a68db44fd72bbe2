"""The station's keys as a systemd credential (`keys.sealed`): only this computer can open it, for this service only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from agent.crypto.jose import parse_json
from agent.crypto.keys import StationKeys
from agent.errors import ConfigurationInvalid

# LoadCredentialEncrypted=station.jwks of the unit finds it here, systemd.exec(5).
CREDENTIAL = Path("/etc/credstore.encrypted/station.jwks")


def seal_new_keys() -> StationKeys:
    """Makes keys that never lie on the disk in clear.

    Raises:
        ConfigurationInvalid: They cannot be sealed.
    """
    keys = StationKeys.generate()
    try:
        CREDENTIAL.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationInvalid(f"{CREDENTIAL.parent}: {error.strerror}") from error
    _systemd_creds("encrypt", "-", str(CREDENTIAL), data=json.dumps(keys.to_jwks()).encode())
    return keys


def unseal_keys() -> StationKeys:
    """The sealed keys, for root of this computer.

    Raises:
        ConfigurationInvalid: They cannot be opened.
    """
    try:
        return StationKeys.from_jwks(
            parse_json(_systemd_creds("decrypt", str(CREDENTIAL), "-", data=b""))
        )
    except ValueError as error:
        raise ConfigurationInvalid(f"{CREDENTIAL}: {error}") from None


def _systemd_creds(act: str, source: str, target: str, *, data: bytes) -> bytes:
    command = ["systemd-creds", act, f"--name={CREDENTIAL.name}", source, target]
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False)  # noqa: S603 - a fixed command, no shell
    except OSError as error:
        raise ConfigurationInvalid(
            f"keys.sealed: systemd-creds cannot be run ({error.strerror}); it comes with systemd 250 or newer"
        ) from error
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigurationInvalid(
            f"{CREDENTIAL}: systemd-creds failed ({told[-1] if told else 'no reason told'}); it must run as root"
        )
    return done.stdout
