"""What ``/openapi.json`` says of each call, beyond what the code shows."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from agent.links.problems import PROBLEM_MEDIA_TYPE
from agent.model import BookFate, JobState

JOB_ACTS = ("cancel", "hold", "release", "replay", "resolve", "verify", "request-transfer")

_TEXT = {"type": "string"}
_SECOND = {"type": "string", "description": "a second technician's token"}
_OPTIONAL_TEXT = {"type": ["string", "null"]}
_INTEGER = {"type": "integer", "minimum": 0}
_OPTIONAL_INTEGER = {"type": ["integer", "null"], "minimum": 0}
_TEXTS = {"type": "array", "items": _TEXT}

_SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "pattern": "^urn:print-agent:"},
            "title": _TEXT,
            "status": _INTEGER,
            "detail": _TEXT,
        },
    },
    "Answer": {
        "type": "object",
        "required": ["status", "type", "job"],
        "properties": {"status": _INTEGER, "type": _OPTIONAL_TEXT, "job": _OPTIONAL_TEXT},
    },
    "Job": {
        "type": "object",
        "properties": {
            "id": _TEXT,
            "state": {"enum": [state.value for state in JobState]},
            "reasons": _TEXTS,
            "priority": _INTEGER,
            "application": _OPTIONAL_TEXT,
            "book": _TEXT,
            "attempts": _INTEGER,
            "accepted_at": _INTEGER,
            "nbf": _OPTIONAL_INTEGER,
            "exp": _INTEGER,
            "ended_at": _OPTIONAL_INTEGER,
        },
    },
    "Act": {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "maxLength": 256},
            "outcome": {"enum": ["printed", "blank", "spoiled"]},
            "book": _TEXT,
            "attempt": {"type": "integer", "minimum": 1},
            "mrz": {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2},
            "to": _TEXT,
            "second": _SECOND,
        },
    },
    "Printer": {
        "type": "object",
        "properties": {
            "name": _TEXT,
            "state": {"enum": ["idle", "processing", "stopped"]},
            "reasons": _TEXTS,
            "profile": _TEXT,
            "model": _OPTIONAL_TEXT,
            "serial": _OPTIONAL_TEXT,
            "counter": _OPTIONAL_INTEGER,
            "presented": _OPTIONAL_TEXT,
            "job": _OPTIONAL_TEXT,
            "book_in": {"type": ["boolean", "null"], "description": "what its sensors show"},
            "detail": {"type": "string", "description": "a sentence for a person"},
        },
    },
}


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: Any, media_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _call(
    summary: str, tag: str, *, body: dict[str, Any] | None = None, **answers: Any
) -> dict[str, Any]:
    call: dict[str, Any] = {
        "summary": summary,
        "tags": [tag],
        "responses": {int(name[1:]): answer for name, answer in answers.items()},
        "response_model": None,
    }
    extra: dict[str, Any] = {}
    if body is not None:
        extra["requestBody"] = {
            "content": {kind: {"schema": schema} for kind, schema in body.items()}
        }
    if tag == "technician":
        extra["security"] = [{"token": []}, {}]
    if extra:
        call["openapi_extra"] = extra
    return call


def _array(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _schema(name)}


def _reason(**more: Any) -> dict[str, Any]:
    return {
        "application/json": {
            "type": "object",
            "required": ["reason"],
            "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": 256}} | more,
        }
    }


_ONE_JOB = _answer("The job", _schema("Job"))
_OBJECT = {"type": "object"}

MESSAGES = _call(
    "Takes one signed message, or many, one a line",
    "authority",
    body={"application/jose": _TEXT, "application/jose-seq": _TEXT},
    _200=_answer("Known", _schema("Answer")),
    _201=_answer("Accepted and durable", _schema("Answer")),
    _207=_answer("Many: the answers in order", _array("Answer")),
)
RECEIPTS = _call(
    "Receipts after a seq, one a line",
    "authority",
    _200={
        **_answer("Receipts", _TEXT, "application/jose-seq"),
        "headers": {
            "Receipt-Head": {"description": "SEQ HASH of the whole chain", "schema": _TEXT}
        },
    },
)
JOBS = _call("Jobs", "technician", _200=_answer("Jobs", _array("Job")))
JOB = _call("One job", "technician", _200=_ONE_JOB)
PREVIEW = _call(
    "The page as it will print; leaves a receipt",
    "technician",
    _200=_answer("The page", {"type": "string", "format": "binary"}, "image/png"),
)
ACT = _call(
    "A technician's act on a job",
    "technician",
    body={"application/json": _schema("Act")},
    _200=_ONE_JOB,
)
PRINTERS = _call("Printers", "technician", _200=_answer("Printers", _array("Printer")))
BOOK = _call(
    "Presents a book: its job goes next",
    "technician",
    body={
        "application/json": {
            "type": "object",
            "required": ["number"],
            "properties": {"number": {"type": "string", "pattern": "^[A-Z0-9]{1,9}$"}},
        }
    },
    _200=_answer("The job", {"type": "object", "properties": {"job": _TEXT}}),
)
ACCEPT = _call(
    "A printer that stopped may print again",
    "technician",
    body=_reason(second=_SECOND),
    _200=_answer("The printer", _schema("Printer")),
)
EVENTS = _call("Live changes", "technician", _200=_answer("Events", _TEXT, "text/event-stream"))
CLOCK = _call(
    "Confirms a clock that is ahead",
    "technician",
    body=_reason(),
    _200=_answer("The status", _OBJECT),
)
INVENTORY = _call(
    "Signs what a person says of a dead station's books (receipt inventory-taken)",
    "technician",
    body={
        "application/json": {
            "type": "object",
            "required": ["of", "books"],
            "properties": {
                "of": {"type": "string", "description": "the dead station's id"},
                "books": {
                    "type": "object",
                    "properties": {fate.value: _TEXTS for fate in BookFate},
                    "additionalProperties": False,
                },
            },
        }
    },
    _200=_answer("The receipt", {"type": "object", "properties": {"receipt": _INTEGER}}),
)
TECHNICIANS = _call(
    "Who has a token",
    "technician",
    _200=_answer("Technicians", {"type": "array", "items": _OBJECT}),
)
TECHNICIAN = _call(
    "Gives or ends a technician's token; over the unix socket only",
    "technician",
    _200=_answer("The token, once", _OBJECT),
)
STATUS = _call("Counts, conditions, expected finish", "anyone", _200=_answer("The status", _OBJECT))
HEALTH = _call(
    "Whether messages are served", "anyone", _200=_answer("It serves", _TEXT, "text/plain")
)
METRICS = _call("Metrics for Prometheus", "anyone", _200=_answer("Metrics", _TEXT, "text/plain"))


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: every call may also answer with problem details."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for path in found["paths"].values():
            for call in path.values():
                # FastAPI's own validation answers 400 here, with the contract's problem details.
                call["responses"].pop("422", None)
                call["responses"]["default"] = _answer(
                    "A problem", _schema("Problem"), PROBLEM_MEDIA_TYPE
                )
        found["components"] = {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        }
        app.openapi_schema = found
    return app.openapi_schema
