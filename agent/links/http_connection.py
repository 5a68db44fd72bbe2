"""One connection of the HTTP interface, and the crowd of a listener's connections: limits, and who gives way."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.links.listener import Listener
from agent.links.problems import PROBLEM_MEDIA_TYPE, problem_details

# For each listener, so that one cannot use up the process's descriptors; a body has at most 2 MiB in memory.
CONNECTIONS_MAX = 128
HEAD_TIMEOUT_S = 20.0  # for a request's head
UNREAD_BYTES_MAX = 64 * 1024 * 1024  # of a body that is refused already; then the line is closed
LINGER_S = 5.0  # for a peer that still sends when it was answered for the last time


class Crowd:
    """The connections of one listener; where they are too many, the one that was silent longest gives way."""

    def __init__(self) -> None:
        self._members: set[Connection] = set()

    def make_room(self) -> bool:
        """Whether one more may come in; false where all the others have a call under way."""
        if len(self._members) < CONNECTIONS_MAX:
            return True
        waiting = (member for member in self._members if member.gives_way)
        silent = min(waiting, key=lambda member: member.heard_at, default=None)
        if silent is None:
            return False
        silent.leave()
        return True

    def add(self, member: Connection) -> None:
        """A connection that was accepted, before its handshake."""
        self._members.add(member)

    def discard(self, member: Connection) -> None:
        """One that is gone, or never came to be."""
        self._members.discard(member)


class Connection(H11Protocol):
    """HTTP/1.1 for one connection of one listener: limits, and who the peer is.

    Args:
        listener: Where the connection came in.
        crowd: The others of that listener.

    Attributes:
        arrival: The task that makes its transport, until there is one.
        heard_at: When the peer was heard last, in the loop's seconds.
    """

    def __init__(self, *args: Any, listener: Listener, crowd: Crowd, **more: Any) -> None:
        super().__init__(*args, **more)
        self.arrival: asyncio.Task[None] | None = None
        self._listener = listener
        self._crowd = crowd
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread = 0
        self._lingers = False
        self.app = self._with_listener(self.app)
        self.heard_at = self.loop.time()
        crowd.add(self)

    def _with_listener(self, app: Any) -> Any:
        async def named(scope: Any, receive: Any, send: Any) -> None:
            scope["listener"] = self._listener
            await app(scope, receive, send)

        return named

    def connection_made(self, transport: Any) -> None:
        self.arrival = None
        super().connection_made(transport)
        self.transport = _Lingering(transport, self._linger)  # type: ignore[assignment]  # it has what is used
        if self._listener is Listener.UNIX:
            self.client = ("uid", peer_uid(transport.get_extra_info("socket")))
        self._await_head()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        if self._answered or self._lingers:
            self._unread += len(data)
            if self._unread > UNREAD_BYTES_MAX:
                self.transport.abort()
                return
        if self._lingers:
            return
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._unread = 0
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.discard(self)
        self._stop_head_timer()
        super().connection_lost(exc)

    @property
    def gives_way(self) -> bool:
        """Whether the peer is the one that is waited for: its handshake, its head, its body."""
        cycle: Any = self.cycle
        return not self._under_way or bool(cycle.more_body)

    def leave(self) -> None:
        """Cut off, whatever it was about."""
        self._crowd.discard(self)
        if self.arrival is not None:
            self.arrival.cancel()
        elif self.transport is not None:
            self.transport.abort()

    def _linger(self, transport: asyncio.Transport) -> bool:
        """Goes on reading where the peer still sends: closed at once, the line would take the answer with it."""
        if self._lingers or self.conn.their_state not in (h11.SEND_BODY, h11.ERROR):
            return False
        self._lingers = True
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()
        self.loop.call_later(LINGER_S, transport.close)
        return True

    @property
    def _answered(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and cycle.response_complete

    @property
    def _under_way(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        """While no request is under way, its head must come in time, however slowly it drips."""
        if self._under_way:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if not self._under_way:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets problem details too."""
        del msg
        body = json.dumps(problem_details(400, "malformed", "this is no HTTP/1.1 request")).encode()
        headers = [
            ("content-type", PROBLEM_MEDIA_TYPE),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Lingering:
    """A transport that asks before it closes.

    Args:
        transport: The real one.
        linger: Whether it stays open for a while.
    """

    def __init__(
        self, transport: asyncio.Transport, linger: Callable[[asyncio.Transport], bool]
    ) -> None:
        self._transport = transport
        self._linger = linger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Closes, now or later."""
        if not self._linger(self._transport):
            self._transport.close()


def peer_uid(connection: Any) -> int:
    """Who is at the other end of a unix socket, as the kernel says (SO_PEERCRED, struct ucred)."""
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    _, uid, _ = struct.unpack("iII", credentials)
    return int(uid)
