"""The station's keys as a systemd credential (`keys.sealed`): only this computer can open it, for this service only."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from agent.crypto.jose import parse_json
from agent.crypto.keys import (
    CREDENTIAL_NAME,
    CREDENTIALS_VARIABLE,
    StationKeys,
    load_station_keys,
    sync_directory,
)
from agent.errors import ConfigurationInvalid

# LoadCredentialEncrypted=station.jwks of the unit finds it here, systemd.exec(5).
CREDENTIAL = Path("/etc/credstore.encrypted") / CREDENTIAL_NAME


def seal_new_keys() -> StationKeys:
    """Makes keys that never lie on the disk in clear.

    Raises:
        ConfigurationInvalid: They cannot be sealed.
    """
    keys = StationKeys.generate()
    seal_keys(keys)
    return keys


def seal_keys(keys: StationKeys) -> None:
    """Puts keys in the credential's place: the old ones or the new ones survive a power cut.

    Raises:
        ConfigurationInvalid: They cannot be sealed.
    """
    fresh = CREDENTIAL.with_name(f"{CREDENTIAL.name}.new")
    try:
        fresh.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        _systemd_creds("encrypt", "-", str(fresh), data=json.dumps(keys.to_jwks()).encode())
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(CREDENTIAL)
        sync_directory(fresh.parent)
    except OSError as error:
        raise ConfigurationInvalid(
            f"{CREDENTIAL}: {error.strerror}; it must run as root"
        ) from error


def open_station_keys(path: Path, *, sealed: bool) -> StationKeys:
    """As ``load_station_keys``; where the service has not opened the credential, root does.

    Raises:
        ConfigurationInvalid: They cannot be opened.
    """
    if sealed and CREDENTIALS_VARIABLE not in os.environ:
        return unseal_keys()
    return load_station_keys(path, sealed=sealed)


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
