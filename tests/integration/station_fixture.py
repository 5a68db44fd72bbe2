"""A real station for integration tests: the service in this process, or the command as a process of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.cli.client import CallFailed, Client
from agent.clock import SystemClock, sleep
from agent.config import load_settings
from agent.crypto import jose
from agent.model import TYP_DIRECTIVE
from agent.service import Service, hold_state_directory
from tests.unit.crypto.crypto_samples import sign

VECTORS = Path(__file__).parents[1] / "vectors"
START_SECONDS_MAX = 30.0

CONFIGURATION = """\
[station]
id = "sambas-01"
state_dir = "s"
[authority]
id = "imigrasi-jakarta"
[http]
socket = "a.sock"
[printers.main]
{printer}
"""
VIRTUAL = 'driver = "virtual"\noverrides = {page_seconds = 5.0}'
ABSENT = 'port = "/nonexistent/printer"'


class FixedClock:
    """A wall clock that stands where it is put."""

    def __init__(self, now: int) -> None:
        self.wall = now
        self._real = SystemClock()
        self._set_at = self._real.monotonic()

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        # Both clocks stand, so that no jump is seen.
        return self._set_at


def prepare(folder: Path, printer: str, *, listen: str | None = None) -> Path:
    """A configuration with the vectors' keys, where the folder holds none of its own yet."""
    state = folder / "s"
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("station.jwks", "trust.jwks"):
        if not (state / name).exists():
            shutil.copyfile(VECTORS / name, state / name)
            (state / name).chmod(0o600)
    path = folder / "station.toml"
    text = CONFIGURATION.format(printer=printer)
    if listen is not None:
        text = text.replace("[http]\n", f'[http]\nlisten = "{listen}"\n')
    path.write_text(text, encoding="utf-8")
    return path


@contextlib.contextmanager
def serving(
    folder: Path, *, printer: str = ABSENT, clock: Any = None, listen: str | None = None
) -> Iterator[Client]:
    """The service in this process, over its real socket."""
    with serving_station(prepare(folder, printer, listen=listen), clock=clock) as (_, client):
        yield client


@contextlib.contextmanager
def serving_station(configuration: Path, *, clock: Any = None) -> Iterator[tuple[Service, Client]]:
    """The same of any configuration, with a way into the service."""
    settings = load_settings(configuration)
    with hold_state_directory(settings):
        service = Service(settings, clock=clock)
        service.start()
        client = Client(settings.http.socket)
        await_healthy(client)
        try:
            yield service, client
        finally:
            service.stop()
        assert service.failure is None


def eventually(holds: Callable[[], object], otherwise: str = "it never came true") -> None:
    """Returns once something holds."""
    deadline = SystemClock().monotonic() + START_SECONDS_MAX
    while SystemClock().monotonic() < deadline:
        if holds():
            return
        sleep(0.02)
    raise AssertionError(otherwise)


def await_healthy(client: Client) -> None:
    """Returns once the station serves."""

    def serves() -> bool:
        with contextlib.suppress(CallFailed):
            return client.call("GET", "/healthz")[0] == 200
        return False

    eventually(serves, "the station does not serve")


def start_process(
    configuration: Path, *, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """The command itself."""
    with (configuration.parent / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )


def processor_s(pid: int) -> float:
    """The processor time of a living process and all its threads (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def resident_kib(pid: int) -> int:
    """The memory of a process that is not swapped out, proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def index() -> dict[str, Any]:
    """The vectors' index."""
    found: dict[str, Any] = json.loads((VECTORS / "index.json").read_text(encoding="utf-8"))
    return found


ISSUER = "issuer-ed25519-1"


def authority_key(kid: str = ISSUER) -> Ed25519PrivateKey:
    """A private key of the vectors' authority."""
    jwks = json.loads((VECTORS / "authority-private.jwks").read_text(encoding="utf-8"))
    secret = next(jwk["d"] for jwk in jwks["keys"] if jwk["kid"] == kid)
    return Ed25519PrivateKey.from_private_bytes(jose.decode_base64url(secret.encode()))


def directive(seq: int, action: str, **claims: Any) -> bytes:
    """A directive of the vectors' authority; ``reason`` and ``to`` are given where it has them."""
    kid = "root-1" if action == "trust" else ISSUER
    body = {"iss": index()["authority"], "aud": index()["station"], "seq": seq}
    body |= {"jti": f"directive-{seq}", "iat": 1_700_000_000, "exp": 4_000_000_000}
    body |= {"action": action, "reason": "a test", "to": "sambas-02"} | claims
    return sign(body, key=authority_key(kid), kid=kid, typ=TYP_DIRECTIVE)
