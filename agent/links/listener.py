"""The three listeners of the HTTP interface, and what each refuses before a call is looked at."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from typing import Any

from agent.errors import RequestRefused

AUTHORITY_PATHS = frozenset({"/v1/messages", "/v1/receipts", "/healthz"})


class Listener(enum.StrEnum):
    """Where a call came in."""

    UNIX = "unix"
    LOOPBACK = "loopback"
    AUTHORITY = "authority"


def refusal_of(scope: Mapping[str, Any]) -> RequestRefused | None:
    """Why this listener does not serve the call, or None."""
    match scope.get("listener"):
        case Listener.UNIX:
            return None
        case Listener.LOOPBACK:
            return None if all(is_loopback(host) for host in _hosts(scope)) else _misdirected()
        case Listener.AUTHORITY:
            if scope["path"] in AUTHORITY_PATHS:
                return None
            return RequestRefused(
                404, "not-found", "this listener serves the authority's calls only"
            )
        case _:
            raise AssertionError("the server names the listener of every call")


def _hosts(scope: Mapping[str, Any]) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]


def _misdirected() -> RequestRefused:
    # A page of the internet whose name was rebound to loopback must get nothing.
    return RequestRefused(
        421, "misdirected-request", "the Host of a call to this listener is localhost or 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Whether a Host header names this computer: localhost, 127.0.0.0/8 or [::1], with any port."""
    name, _, port = host.partition("]") if host.startswith("[") else host.partition(":")
    if host.startswith("["):
        name, port = name[1:], port.removeprefix(":")
    if port and not port.isdecimal():
        return False
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
