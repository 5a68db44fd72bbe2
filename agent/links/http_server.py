"""The listeners of the HTTP interface: unix socket, loopback, and the authority's with mutual TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.config import HttpAuthoritySettings, Settings
from agent.errors import ConfigurationInvalid, StationBusy
from agent.links.http_api import build_app, problem

if TYPE_CHECKING:
    from agent.station import Station

SOCKET_MODE = 0o660
BACKLOG = 128
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
AUTHORITY_PATHS = frozenset({"/v1/messages", "/v1/receipts", "/healthz"})


class PeerProtocol(H11Protocol):
    """HTTP over the unix socket: the client is the uid that the kernel names (SO_PEERCRED)."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        _, uid, _ = struct.unpack("3i", peer)
        self.client = ("uid", uid)


class Listener:
    """One application as one listener shows it."""

    def __init__(self, app: Any, kind: str) -> None:
        self._app = app
        self._kind = kind

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["listener"] = self._kind
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Any) -> Any:
        if self._kind == "authority" and scope["path"] not in AUTHORITY_PATHS:
            return problem(404, "not-found", "this listener serves the authority's calls only")
        if self._kind == "loopback":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            # A page of the internet whose name was rebound to loopback must get nothing.
            if name not in LOOPBACK_HOSTS and not name.startswith("127."):
                return problem(
                    403, "wrong-host", "the Host of a call to this listener is a loopback name"
                )
        return None


class HttpServer:
    """All listeners in one thread."""

    def __init__(self, station: Station, settings: Settings) -> None:
        self._station = station
        self._settings = settings
        self._servers: list[tuple[uvicorn.Server, socket.socket]] = []
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Binds everything, then serves.

        Raises:
            ConfigurationInvalid: A listener cannot be bound.
        """
        app = build_app(self._station)
        http = self._settings.http
        self._add(Listener(app, "unix"), bind_unix(http.socket), protocol=PeerProtocol)
        if http.listen is not None:
            self._add(
                Listener(app, "loopback"),
                bind_tcp(http.listen.host, http.listen.port, "http.listen"),
            )
        if http.authority is not None:
            listen = http.authority.listen
            bound = bind_tcp(listen.host, listen.port, "http.authority.listen")
            self._add(Listener(app, "authority"), bound, tls=http.authority)
        self._thread.start()

    def _add(
        self,
        app: Listener,
        bound: socket.socket,
        *,
        protocol: Any = H11Protocol,
        tls: HttpAuthoritySettings | None = None,
    ) -> None:
        secure: dict[str, Any] = {}
        if tls is not None:
            secure = {
                "ssl_certfile": str(tls.cert),
                "ssl_keyfile": str(tls.key),
                "ssl_ca_certs": str(tls.client_ca),
                "ssl_cert_reqs": ssl.CERT_REQUIRED,
            }
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(STOP_TIMEOUT_S) - 2,
            **secure,
        )
        self._servers.append((uvicorn.Server(config), bound))

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - a dead thread must end the process
            self._station.failed(error)

    async def _serve(self) -> None:
        # uvicorn installs signal handlers in serve(); _serve() is the same without them, outside the main thread.
        await asyncio.gather(*(server.serve(sockets=[bound]) for server, bound in self._servers))

    def stop(self) -> None:
        """Stops taking calls, and waits a little for those under way."""
        for server, _ in self._servers:
            server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        self._settings.http.socket.unlink(missing_ok=True)


def bind_unix(path: Path) -> socket.socket:
    """A listening unix socket with the group's access; a dead agent's file is replaced, a live one's never.

    Raises:
        StationBusy: Somebody answers on it.
        ConfigurationInvalid: It cannot be bound.
    """
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink(missing_ok=True)
            else:
                raise StationBusy(f"another agent answers on {path}; stop it first")
    bound = socket.socket(socket.AF_UNIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = os.umask(0o777 & ~SOCKET_MODE)
        try:
            bound.bind(str(path))
        finally:
            os.umask(before)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigurationInvalid(
            f"http.socket: {path} cannot be bound ({error.strerror or error}); allowed: a path of up to 107 bytes in a folder of ours"
        ) from error
    return bound


def bind_tcp(host: str, port: int, key: str) -> socket.socket:
    """A listening TCP socket.

    Raises:
        ConfigurationInvalid: It cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigurationInvalid(
            f"{key}: {host}:{port} cannot be bound ({error.strerror}); choose a free port"
        ) from error
    return bound
