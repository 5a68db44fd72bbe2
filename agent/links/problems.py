"""Problem details (RFC 9457) with the contract's names, for whatever carries them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_URN = "urn:print-agent:"

TITLES = {
    "bad-document": "The travel document is not one that can be printed",
    "bad-signature": "The signature is not a trusted one",
    "conflict": "It conflicts with what was accepted before",
    "disk-full": "The station's disk is full",
    "expired": "The message has expired",
    "internal-error": "The station failed",
    "malformed": "The request is malformed",
    "method-not-allowed": "This path has no such method",
    "misdirected-request": "The Host header does not name this computer",
    "not-allowed": "This is not allowed now",
    "not-found": "There is nothing at this path",
    "not-ready": "The station is not ready",
    "printer-not-clear": "The page may still print",
    "request-timeout": "The request did not arrive in time",
    "too-large": "It is too large",
    "too-many-requests": "There are too many requests at once",
    "unauthorized": "Who asks is not known",
    "unknown-act": "There is no such act",
    "unknown-book": "No waiting job has this book",
    "unknown-job": "There is no such job",
    "unknown-printer": "There is no such printer",
    "unknown-technician": "There is no such technician",
    "unsupported-media-type": "The media type is not one that is taken here",
    "wrong-station": "It is not for this station",
}


def problem_details(status: int, name: str, detail: str | None) -> dict[str, Any]:
    """The object of RFC 9457.

    Args:
        status: The HTTP status.
        name: The problem's name without its URN.
        detail: What failed, and the next action; no holder data.
    """
    title = TITLES.get(name) or HTTPStatus(status).phrase
    return {
        "type": PROBLEM_URN + name,
        "title": title,
        "status": status,
        "detail": detail or title,
    }


def problem_name(urn: str | None) -> str:
    """The name in a problem's URN."""
    return (urn or "").removeprefix(PROBLEM_URN) or "malformed"
