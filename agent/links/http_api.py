"""The HTTP interface of CONTRACT section 5, as one application.

The server names in ``scope["listener"]`` where a call came in; on the unix socket
``scope["client"]`` is ``("uid", UID)``.
"""

from __future__ import annotations

import asyncio
import json
import pwd
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BeforeValidator
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from agent import __version__
from agent.crypto.jose import is_integer, parse_object
from agent.errors import DiskFull, JournalDamaged, MessageRefused, PrinterFault, RequestRefused
from agent.links import openapi
from agent.links.listener import Listener, refusal_of
from agent.links.metrics import exposition
from agent.links.problems import PROBLEM_MEDIA_TYPE, problem_details, problem_name
from agent.links.sequence import (
    MESSAGE_STREAM_MAX,
    MessageBuffer,
    SequenceReader,
    message_too_large,
)
from agent.model import BOOK_NUMBER, INTEGER_MAX
from agent.model import TECHNICIAN as TECHNICIAN_ACTOR
from agent.station import JOBS_LIMIT_MAX, RECEIPTS_LIMIT_MAX, text_of

if TYPE_CHECKING:
    from agent.intake import Answer
    from agent.live import Subscription
    from agent.station import Station

MESSAGE = "application/jose"
SEQUENCE = "application/jose-seq"
BODY_SIZE_MAX = 64 * 1024  # bytes of a technician's JSON
RECEIPTS_LIMIT_DEFAULT = 100  # CONTRACT section 5
CHUNK_LINES_MAX = 128  # lines of a sequence that are checked together: 1,000 in 8 commits
CHUNK_BYTES_MAX = 8 * 1024 * 1024  # so that a sequence never needs more memory than this

# Messages, acts and questions have threads of their own: none makes the others wait.
MESSAGE_THREADS_MAX = 8  # as many acceptances share one commit
ACT_THREADS_MAX = 6  # an act may wait for a printer
QUESTION_THREADS_MAX = 3
STREAMS_MAX = 16  # event streams at once
ACTS_WAITING_MAX = 64

SEQUENCES_AT_ONCE_MAX = 4  # for each listener; the others wait their turn
PIECE_TIMEOUT_S = 30.0  # between two pieces of a body
MESSAGE_TIMEOUT_S = 60.0  # for a whole message or a technician's JSON
SEQUENCE_TIMEOUT_S = 900.0
EVENT_WAIT_S = 1.0
EVENT_PAUSE_WAITS = 15  # after so many waits a comment keeps a silent stream alive

_HTTP_NAMES = {
    401: "unauthorized",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
    429: "too-many-requests",
}
_DIGITS = re.compile(r"[0-9]{1,16}")

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SessionActor = Callable[[Request], "str | None"]


def problem(status: int, name: str, detail: str | None) -> Response:
    """Problem details (RFC 9457) with the contract's names."""
    headers = {}
    if name == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    if status == 429:
        headers["Retry-After"] = "1"
    if status == 408:
        headers["Connection"] = "close"
    return JSONResponse(
        problem_details(status, name, detail),
        status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers=headers,
    )


async def _actor_of(request: Request) -> str:
    actor: str = await request.app.state.actor_of(request)
    return actor


TECHNICIAN = Depends(_actor_of)
Actor = Annotated[str, TECHNICIAN]


class _Pool:
    """A few threads for one kind of call; the event loop never waits."""

    def __init__(self, name: str, threads: int, *, waiting_max: int | None = None) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"http-{name}")
        self._waiting = 0
        self._waiting_max = waiting_max

    async def run(self, task: Callable[[], T]) -> T:
        """What the task gives; 429 where too many wait already."""
        if self._waiting_max is not None and self._waiting >= self._waiting_max:
            raise RequestRefused(429, "too-many-requests", "too many calls wait already: try again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, task)
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        """Takes no more tasks; what waits is dropped, what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class HttpApi:
    """The application, an ASGI callable.

    Args:
        station: Whom the calls ask.
        session_actor: Whose session a request's cookie is (the console's), or None.
    """

    def __init__(self, station: Station, *, session_actor: SessionActor | None = None) -> None:
        self._station = station
        self._session_actor = session_actor
        self._messages = _Pool("message", MESSAGE_THREADS_MAX)
        self._acts = _Pool("act", ACT_THREADS_MAX, waiting_max=ACTS_WAITING_MAX)
        self._questions = _Pool("question", QUESTION_THREADS_MAX)
        self._streams = _Pool("events", STREAMS_MAX, waiting_max=STREAMS_MAX)
        self._sequence_turns = {
            listener: asyncio.Semaphore(SEQUENCES_AT_ONCE_MAX) for listener in Listener
        }
        self._streams_open = 0
        self._stopping = False
        self.app = self._build()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_uncached(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        refused = refusal_of(scope)
        if refused is not None:
            await problem(refused.status, refused.name, refused.detail)(
                scope, receive, send_uncached
            )
            return
        try:
            await self.app(scope, receive, send_uncached)
        except Exception as error:  # noqa: BLE001 - answered already; never logged, its text may be anything
            self._station.failed(error)

    def stop(self) -> None:
        """Ends the event streams; what runs ends by itself."""
        self._stopping = True

    def close(self) -> None:
        """Gives the threads back, once nothing is served any more."""
        for pool in (self._messages, self._acts, self._questions, self._streams):
            pool.stop()

    # What all calls share

    def _build(self) -> FastAPI:
        app = FastAPI(
            title="passport-print-agent",
            version=__version__,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        app.add_exception_handler(MessageRefused, _refused)
        app.add_exception_handler(RequestRefused, _refused)
        app.add_exception_handler(DiskFull, _disk_full)
        app.add_exception_handler(PrinterFault, _printer_fault)
        app.add_exception_handler(HTTPException, _http_error)
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(ClientDisconnect, _gone)
        app.add_exception_handler(Exception, _failed)
        app.state.actor_of = self._actor
        self._add_authority_calls(app)
        self._add_job_calls(app)
        self._add_printer_calls(app)
        self._add_station_calls(app)
        self._add_public_calls(app)
        app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]  # as FastAPI tells to
        return app

    async def _actor(self, request: Request) -> str:
        """Who asks: the peer's uid on the unix socket, else the technician of token or session.

        Raises:
            RequestRefused: 401.
        """
        if request.scope.get("listener") is Listener.UNIX:
            uid = request.scope["client"][1]
            return await self._questions.run(lambda: f"{TECHNICIAN_ACTOR}{_user_name(uid)}")
        if self._session_actor is not None and "cookie" in request.headers:
            session_actor = self._session_actor
            actor = await self._questions.run(lambda: session_actor(request))
            if actor is not None:
                return actor
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        name = None
        if kind.lower() == "bearer" and token.strip():
            name = await self._questions.run(
                lambda: self._station.technician_of_token(token.strip())
            )
        if name is None:
            raise RequestRefused(
                401,
                "unauthorized",
                "this call needs a technician's token: `print-agent technician add NAME` gives one",
            )
        return f"{TECHNICIAN_ACTOR}{name}"

    # The authority's calls

    def _add_authority_calls(self, app: FastAPI) -> None:
        @app.post("/v1/messages", **openapi.MESSAGES)
        async def messages(request: Request) -> Response:
            match _media_type(request):
                case "application/jose":
                    return await self._take_one(request)
                case "application/jose-seq":
                    return await self._take_many(request)
                case _:
                    raise HTTPException(415, f"the Content-Type is {MESSAGE} or {SEQUENCE}")

        @app.get("/v1/receipts", **openapi.RECEIPTS)
        async def receipts(
            after: Annotated[int, BeforeValidator(_integer), Query(ge=0, le=INTEGER_MAX)] = 0,
            limit: Annotated[
                int, BeforeValidator(_integer), Query(ge=1, le=RECEIPTS_LIMIT_MAX)
            ] = RECEIPTS_LIMIT_DEFAULT,
        ) -> Response:
            lines, seq, head = await self._questions.run(
                lambda: self._station.receipts(after, limit)
            )
            return Response(
                "".join(f"{line}\n" for line in lines),
                media_type=SEQUENCE,
                headers={"Receipt-Head": f"{seq} {head}"},
            )

    async def _take_one(self, request: Request) -> Response:
        raw = await _read_message(request)
        answer = await self._messages.run(lambda: self._station.intake.take(raw))
        self._count(answer)
        if answer.accepted:
            return JSONResponse(answer.row(), answer.status)
        return problem(answer.status, problem_name(answer.type), answer.detail)

    def _count(self, answer: Answer) -> None:
        if not answer.accepted:
            self._station.overview.refused(problem_name(answer.type), sender_waits=True)

    async def _take_many(self, request: Request) -> Response:
        rows: list[dict[str, Any]] = []
        async with self._sequence_turns[_listener(request)]:
            async for chunk in _chunks(request):
                rows += await self._messages.run(partial(self._rows, chunk))
        return JSONResponse(rows, 207)

    def _rows(self, lines: list[bytes]) -> list[dict[str, Any]]:
        rows = []
        for answer in self._station.intake.take_many(lines):
            self._count(answer)
            rows.append(answer.row())
        return rows

    # The technicians' calls

    def _add_job_calls(self, app: FastAPI) -> None:
        station = self._station

        @app.get("/v1/jobs", dependencies=[TECHNICIAN], **openapi.JOBS)
        async def list_jobs(
            state: str | None = None,
            application: str | None = None,
            limit: Annotated[
                int, BeforeValidator(_integer), Query(ge=1, le=JOBS_LIMIT_MAX)
            ] = JOBS_LIMIT_MAX,
            after: str | None = None,
        ) -> Response:
            return JSONResponse(
                await self._questions.run(
                    lambda: station.jobs(
                        state=state, application=application, limit=limit, after=after
                    )
                )
            )

        @app.get("/v1/jobs/{job_id}", dependencies=[TECHNICIAN], **openapi.JOB)
        async def one_job(job_id: str) -> Response:
            return JSONResponse(await self._questions.run(lambda: station.job(job_id)))

        @app.get("/v1/jobs/{job_id}/preview.png", **openapi.PREVIEW)
        async def preview(job_id: str, actor: Actor) -> Response:
            picture = await self._acts.run(lambda: station.preview(job_id, actor=actor))
            return Response(picture, media_type="image/png")

        @app.post("/v1/jobs/{job_id}/{act}", **openapi.ACT)
        async def act_on_job(
            request: Request,
            job_id: str,
            act: Annotated[str, Path(json_schema_extra={"enum": list(openapi.JOB_ACTS)})],
            actor: Actor,
        ) -> Response:
            if act not in openapi.JOB_ACTS:
                raise RequestRefused(404, "not-found", f"acts: {', '.join(openapi.JOB_ACTS)}")
            body = await _read_json(request)
            return JSONResponse(
                await self._acts.run(lambda: station.act(job_id, act, body, actor=actor))
            )

    def _add_printer_calls(self, app: FastAPI) -> None:
        station = self._station

        @app.get("/v1/printers", dependencies=[TECHNICIAN], **openapi.PRINTERS)
        async def list_printers() -> Response:
            return JSONResponse(await self._questions.run(station.printers))

        @app.post("/v1/printers/{name}/book", **openapi.BOOK)
        async def present(request: Request, name: str, actor: Actor) -> Response:
            number = _required(await _read_json(request), "number")
            if not BOOK_NUMBER.fullmatch(number):
                raise RequestRefused(
                    400,
                    "malformed",
                    f"number has {len(number)} characters, or others than allowed: 1 to 9 of A-Z and 0-9",
                )
            return JSONResponse(
                await self._acts.run(lambda: station.present(name, number, actor=actor))
            )

        @app.post("/v1/printers/{name}/accept", **openapi.ACCEPT)
        async def accept(request: Request, name: str, actor: Actor) -> Response:
            body = await _read_json(request)
            reason, second = _required(body, "reason"), text_of(body, "second", optional=True)
            return JSONResponse(
                await self._acts.run(
                    lambda: station.accept_printer(name, reason, actor=actor, second=second)
                )
            )

        @app.get("/v1/events", dependencies=[TECHNICIAN], **openapi.EVENTS)
        async def events() -> Response:
            if self._streams_open >= STREAMS_MAX:
                raise RequestRefused(
                    429, "too-many-requests", f"{STREAMS_MAX} event streams are open: close one"
                )
            return StreamingResponse(self._event_stream(), media_type="text/event-stream")

    async def _event_stream(self) -> AsyncIterator[str]:
        changes: Subscription = self._station.subscribe()
        self._streams_open += 1
        silent = 0
        try:
            yield ": the changes from now on\n\n"
            while not self._stopping:
                event = await self._streams.run(lambda: changes.get(EVENT_WAIT_S))
                if event is not None:
                    silent = 0
                    yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                    continue
                silent += 1
                if silent % EVENT_PAUSE_WAITS == 0:
                    yield ": still here\n\n"
        finally:
            self._streams_open -= 1
            changes.close()

    def _add_station_calls(self, app: FastAPI) -> None:
        station = self._station

        @app.post("/v1/clock/accept", **openapi.CLOCK)
        async def accept_clock(request: Request, actor: Actor) -> Response:
            reason = _required(await _read_json(request), "reason")
            return JSONResponse(
                await self._acts.run(lambda: station.accept_clock(reason, actor=actor))
            )

        @app.post("/v1/inventory", **openapi.INVENTORY)
        async def take_inventory(request: Request, actor: Actor) -> Response:
            body = await _read_json(request)
            return JSONResponse(
                await self._acts.run(lambda: station.take_inventory(body, actor=actor))
            )

        @app.get("/v1/technicians", dependencies=[TECHNICIAN], **openapi.TECHNICIANS)
        async def list_technicians() -> Response:
            return JSONResponse(await self._questions.run(station.technicians))

        @app.post("/v1/technicians/{name}/{act}", **openapi.TECHNICIAN)
        async def change_technician(
            request: Request, name: str, act: str, actor: Actor
        ) -> Response:
            if request.scope.get("listener") is not Listener.UNIX:
                raise RequestRefused(
                    401,
                    "unauthorized",
                    "tokens are given and taken at the station, over its socket",
                )
            match act:
                case "add":
                    token = await self._acts.run(lambda: station.add_technician(name, actor=actor))
                    return JSONResponse({"token": token})
                case "remove":
                    await self._acts.run(lambda: station.remove_technician(name, actor=actor))
                    return JSONResponse({})
                case _:
                    raise RequestRefused(404, "not-found", "a technician has the acts add, remove")

    # Anyone's calls

    def _add_public_calls(self, app: FastAPI) -> None:
        station = self._station

        @app.get("/v1/status", **openapi.STATUS)
        async def status() -> Response:
            return JSONResponse(await self._questions.run(station.status))

        @app.get("/healthz", **openapi.HEALTH)
        async def healthz() -> Response:
            if await self._questions.run(station.healthy):
                return Response("ok\n", media_type="text/plain")
            return problem(503, "not-ready", "the journal is not open")

        @app.get("/metrics", **openapi.METRICS)
        async def metrics() -> Response:
            text = await self._questions.run(lambda: exposition(station.status()))
            return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


# Bodies


async def _pieces(request: Request, *, timeout_s: float) -> AsyncIterator[bytes]:
    """The body as it comes, never waited for without end.

    Raises:
        RequestRefused: 408, it stood still, or took too long in all.
    """
    stream = request.stream().__aiter__()
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        left_s = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(PIECE_TIMEOUT_S, left_s)):
                piece = await anext(stream, None)
        except TimeoutError:
            raise RequestRefused(
                408, "request-timeout", "the body did not come in time: send it again"
            ) from None
        if piece is None:
            return
        yield piece


async def _read_message(request: Request) -> bytes:
    message = MessageBuffer()
    size = 0
    async for piece in _pieces(request, timeout_s=MESSAGE_TIMEOUT_S):
        size += len(piece)
        message.add(piece)
        if message.too_large or size > MESSAGE_STREAM_MAX:
            raise message_too_large()
    return message.take()


async def _chunks(request: Request) -> AsyncIterator[list[bytes]]:
    """The lines of a sequence in chunks that fit into memory.

    Raises:
        MessageRefused: 413, the sequence is over its limits.
    """
    reader = SequenceReader()
    chunk: list[bytes] = []
    size = 0
    async for piece in _pieces(request, timeout_s=SEQUENCE_TIMEOUT_S):
        for line in reader.feed(piece):
            chunk.append(line)
            size += len(line)
            if len(chunk) == CHUNK_LINES_MAX or size >= CHUNK_BYTES_MAX:
                yield chunk
                chunk, size = [], 0
    chunk += reader.finish()
    if chunk:
        yield chunk


async def _read_json(request: Request) -> dict[str, Any]:
    """A technician's JSON object; no body is an empty one.

    Raises:
        RequestRefused: 400, 413.
        HTTPException: 415.
    """
    raw = bytearray()
    async for piece in _pieces(request, timeout_s=MESSAGE_TIMEOUT_S):
        raw += piece
        if len(raw) > BODY_SIZE_MAX:
            raise RequestRefused(413, "too-large", f"the body has more than {BODY_SIZE_MAX} bytes")
    if not raw.strip():
        return {}
    # Without a Content-Type it is taken, unless a cookie came: it could be another site's form.
    if _media_type(request) != "application/json" and (
        "content-type" in request.headers or "cookie" in request.headers
    ):
        raise HTTPException(415, "found another Content-Type; allowed is application/json")
    try:
        body = parse_object(bytes(raw))
    except ValueError as error:
        raise RequestRefused(400, "malformed", f"the body is no JSON object: {error}") from None
    for name, value in body.items():
        if isinstance(value, int | float) and not is_integer(value):
            raise RequestRefused(400, "malformed", f"{name} is no integer of 0 to {INTEGER_MAX}")
    return body


def _required(body: Mapping[str, Any], name: str) -> str:
    return text_of(body, name) or ""


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _listener(request: Request) -> Listener:
    return Listener(request.scope["listener"])


def _integer(value: object) -> object:
    # The lenient reading would take " 5", "5_0" and "5.0" too.
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        raise ValueError("no integer")
    return int(value)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# Errors as answers


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, MessageRefused | RequestRefused)
    return problem(error.status, error.name, error.detail)


async def _disk_full(_: Request, error: Exception) -> Response:
    return problem(507, "disk-full", str(error))


async def _printer_fault(_: Request, error: Exception) -> Response:
    return problem(409, "not-allowed", str(error))


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem(
        error.status_code, _HTTP_NAMES.get(error.status_code, "malformed"), error.detail
    )
    answer.headers.update(error.headers or {})
    return answer


async def _invalid(_: Request, error: Exception) -> Response:
    # Where it is and what is allowed there; what was found may be anything.
    assert isinstance(error, RequestValidationError)
    faults = (
        f"{' '.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    )
    return problem(400, "malformed", "; ".join(faults))


async def _gone(_: Request, error: Exception) -> Response:
    del error
    return Response(status_code=400)  # nobody reads it


async def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, JournalDamaged):
        return problem(500, "internal-error", str(error))
    return problem(500, "internal-error", "the station starts again; nothing accepted is lost")


__all__ = ["HttpApi", "problem"]
