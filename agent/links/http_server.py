"""The listeners of the HTTP interface: unix socket, loopback, and the authority's with mutual TLS.

One thread and one uvicorn server serve all three.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h11
import uvicorn

from agent.config import Address, HttpAuthoritySettings, Settings
from agent.errors import ConfigurationInvalid, StationBusy
from agent.links.http_api import HttpApi, SessionActor
from agent.links.http_connection import Connection, Crowd
from agent.links.listener import Listener
from agent.privacy import place_of

if TYPE_CHECKING:
    from agent.station import Station

_log = logging.getLogger(__name__)

SOCKET_MODE = 0o660
BACKLOG = 512
KEEP_ALIVE_S = 30
TLS_HANDSHAKE_TIMEOUT_S = 10.0
ACCEPT_PAUSE_S = 0.1  # where the process has no descriptor left
TICK_S = 1.0  # the Date header's step
CLOSE_STEP_S = 0.05  # how often the stopping server looks for connections without a call
PROBE_TIMEOUT_S = 2.0
START_TIMEOUT_S = 20.0
GRACE_S = 5  # for calls under way when the server stops
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that listens, and what it is for."""

    listener: Listener
    socket: socket.socket
    tls: ssl.SSLContext | None = None


class _Server(uvicorn.Server):
    """uvicorn with listeners of our own, and without its ten wake-ups a second."""

    def __init__(self, config: uvicorn.Config, listeners: list[Bound]) -> None:
        super().__init__(config)
        self._listeners = listeners
        self._loop: asyncio.AbstractEventLoop | None = None
        self._doors: list[asyncio.Task[None]] = []
        self._accepting: set[asyncio.Task[None]] = set()
        self._wake: asyncio.Event | None = None
        self.ready = threading.Event()
        self.progress = 0  # the steps of the event loop, also of one that nobody calls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        del sockets  # ours are bound already
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(_tell_place_only)
        self._wake = asyncio.Event()
        self.servers = []
        await self.on_tick(0)
        for bound in self._listeners:
            bound.socket.settimeout(0.0)
            self._doors.append(self._begin(self._accept(bound, loop)))
        self.started = True
        self.ready.set()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        return task

    async def _accept(self, bound: Bound, loop: asyncio.AbstractEventLoop) -> None:
        """Takes what comes in, as many as there may be; a handshake under way counts too."""
        crowd = Crowd()
        while True:
            try:
                line, _ = await loop.sock_accept(bound.socket)
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            if crowd.make_room():
                connection = Connection(
                    config=self.config,
                    server_state=self.server_state,
                    app_state={},
                    listener=bound.listener,
                    crowd=crowd,
                )
                connection.arrival = self._begin(_welcome(line, bound.tls, connection, crowd))
            else:
                line.close()
            # Those who are in go on before the next one comes.
            await asyncio.sleep(0)

    async def main_loop(self) -> None:
        assert self._wake is not None
        while not await self.on_tick(0):
            for door in self._doors:
                if door.done():
                    door.result()  # a door that shut is a bug: it ends the process
            self.progress += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in list(self._accepting):
            task.cancel()
        # A connection that was made while uvicorn counted would keep it waiting for nothing.
        closing = asyncio.create_task(self._close_idle_connections())
        try:
            await super().shutdown(sockets)
        finally:
            closing.cancel()
            for connection in self._open_connections():
                connection.transport.abort()
            await asyncio.sleep(0)

    async def _close_idle_connections(self) -> None:
        while True:
            for connection in self._open_connections():
                with contextlib.suppress(h11.LocalProtocolError):
                    connection.shutdown()
            await asyncio.sleep(CLOSE_STEP_S)

    def _open_connections(self) -> list[Connection]:
        return [
            connection
            for connection in self.server_state.connections
            if isinstance(connection, Connection) and not connection.transport.is_closing()
        ]

    def ask_to_stop(self) -> None:
        """Ends ``main_loop``; from any thread."""
        self.should_exit = True
        if self._loop is not None and self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._wake.set)


async def _welcome(
    line: socket.socket, tls: ssl.SSLContext | None, connection: Connection, crowd: Crowd
) -> None:
    """Gives the connection its transport, after the handshake where there is one."""
    timeout_s = None if tls is None else TLS_HANDSHAKE_TIMEOUT_S
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection, line, ssl=tls, ssl_handshake_timeout=timeout_s
        )
    except OSError:
        crowd.discard(connection)  # no handshake came of it


def _tell_place_only(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback of one connection failed; asyncio's own account would repeat what it was given."""
    _log.error("connection-failed", extra={"sentence": place_of(context.get("exception"))})


class HttpServer:
    """All listeners in one thread.

    Args:
        station: Whom the calls ask; told when the thread dies.
        settings: Where to listen.
        session_actor: Whose session a request's cookie is (the console's), or None.
    """

    def __init__(
        self, station: Station, settings: Settings, *, session_actor: SessionActor | None = None
    ) -> None:
        self._station = station
        self._http = settings.http
        self.api = HttpApi(station, session_actor=session_actor)
        self._bound: list[Bound] = []
        self._socket_identity: tuple[int, int] | None = None
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Binds everything, then serves; returns once calls are answered.

        Raises:
            ConfigurationInvalid: A listener cannot be bound, or its certificate not be read.
            StationBusy: Another agent answers on the socket.
        """
        try:
            self._bind()
        except BaseException:
            self._unbind()
            raise
        config = uvicorn.Config(
            self.api,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Server(config, self._bound)
        self._thread.start()
        self._server.ready.wait(START_TIMEOUT_S)

    def _bind(self) -> None:
        # What may be wrong in the configuration is found before the first listener exists.
        authority = self._http.authority
        tls = None if authority is None else tls_context(authority)
        self._bound.append(Bound(Listener.UNIX, bind_unix(self._http.socket)))
        self._socket_identity = _identity(self._http.socket)
        if self._http.listen is not None:
            for bound in bind_tcp(self._http.listen, "http.listen"):
                self._bound.append(Bound(Listener.LOOPBACK, bound))
        if authority is not None:
            for bound in bind_tcp(authority.listen, "http.authority.listen"):
                self._bound.append(Bound(Listener.AUTHORITY, bound, tls))

    def _run(self) -> None:
        assert self._server is not None
        try:
            asyncio.run(self._server.serve())
        except BaseException as error:  # noqa: BLE001 - a dead thread must end the process
            self._station.failed(error)
        finally:
            self._server.ready.set()

    @property
    def progress(self) -> object:
        """Another value after every step of the event loop."""
        return None if self._server is None else self._server.progress

    def addresses(self, listener: Listener) -> list[Any]:
        """Where a listener is bound, as the socket module tells it."""
        return [bound.socket.getsockname() for bound in self._bound if bound.listener is listener]

    def stop(self) -> None:
        """Takes no more calls, waits a little for those under way, gives the socket's file back."""
        self.api.stop()
        if self._server is not None:
            self._server.ask_to_stop()
            self._thread.join(STOP_TIMEOUT_S)
        self._unbind()
        self.api.close()

    def _unbind(self) -> None:
        for bound in self._bound:
            bound.socket.close()
        # Another agent may have put its own there since.
        if (
            self._socket_identity is not None
            and _identity(self._http.socket) == self._socket_identity
        ):
            self._http.socket.unlink(missing_ok=True)
        self._socket_identity = None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def bind_unix(path: Path) -> socket.socket:
    """A listening unix socket with the group's access; a dead agent's file is replaced.

    Raises:
        StationBusy: Somebody answers on it.
        ConfigurationInvalid: It cannot be bound.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(path)
        # The file is made with this mode, so there is no moment with a wider one.
        os.fchmod(bound.fileno(), SOCKET_MODE)
        bound.bind(str(path))
        path.chmod(SOCKET_MODE)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigurationInvalid(
            f"http.socket: {path} cannot be bound ({error.strerror or error});"
            " allowed: a path of up to 107 bytes in a folder that this user may write"
        ) from error
    except BaseException:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path) -> None:
    """Removes what a dead agent left; only a refused connection proves that nobody listens."""
    if not path.is_socket() or path.is_symlink():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            raise StationBusy(
                f"{path} is in use ({error.strerror or error}); stop what listens there first"
            ) from error
    raise StationBusy(f"another agent answers on {path}; stop it first")


def bind_tcp(address: Address, key: str) -> list[socket.socket]:
    """Listening TCP sockets; a name such as localhost may have an address of each family.

    Raises:
        ConfigurationInvalid: None can be bound.
    """
    host, port = address
    found: list[socket.socket] = []
    failure: OSError | None = None
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationInvalid(f"{key}: {host} is no address of this computer") from error
    for family, kind, protocol, _, place in places:
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind(place)
            bound.listen(BACKLOG)
        except OSError as error:
            bound.close()
            if failure is None or error.errno == errno.EADDRINUSE:
                failure = error
            continue
        found.append(bound)
    in_use = failure is not None and failure.errno == errno.EADDRINUSE
    if not found or in_use:
        for bound in found:
            bound.close()
        reason = "nothing to bind" if failure is None else failure.strerror
        raise ConfigurationInvalid(
            f"{key}: {host}:{port} cannot be bound ({reason}); choose an address of this computer"
            " and a free port"
        ) from failure
    return found


def tls_context(settings: HttpAuthoritySettings) -> ssl.SSLContext:
    """Mutual TLS: a client without a certificate of ``client_ca`` is not even heard.

    Raises:
        ConfigurationInvalid: A file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    for key, file in (
        ("cert", settings.cert),
        ("key", settings.key),
        ("client_ca", settings.client_ca),
    ):
        if not os.access(file, os.R_OK):
            raise ConfigurationInvalid(
                f"http.authority.{key}: {file} cannot be read; allowed: a readable PEM file"
            )
    try:
        # An encrypted key must not ask for its passphrase on a terminal that nobody sees.
        context.load_cert_chain(settings.cert, settings.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise ConfigurationInvalid(
            f"http.authority.cert: {settings.cert} and {settings.key} are no pair of certificate"
            " and private key; allowed: PEM files without a passphrase"
        ) from error
    try:
        context.load_verify_locations(settings.client_ca)
    except (OSError, ValueError) as error:
        raise ConfigurationInvalid(
            f"http.authority.client_ca: {settings.client_ca} holds no certificate; allowed: PEM"
        ) from error
    return context
