"""The HTTP interface of CONTRACT section 5, as one application; the server tells it which listener asks."""

from __future__ import annotations

import asyncio
import json
import pwd
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from agent import __version__
from agent.errors import DiskFull, MessageRefused, PrintAgentError, RequestRefused
from agent.model import BATCH_LINES_MAX, BATCH_SIZE_MAX, MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from agent.station import Station

MESSAGE = "application/jose"
SEQUENCE = "application/jose-seq"
BODY_SIZE_MAX = 64 * 1024  # bytes of a technician's JSON
WHITE_SPACE_MAX = 4096  # bytes around a message
CHUNK_LINES = 128  # lines of a batch that are checked together
THREADS_MAX = 4  # calls that work at once; the rest waits its turn
EVENT_PAUSE_S = 15.0  # a comment keeps a silent event stream alive

TITLES = {
    400: "Malformed",
    401: "Not authorized",
    403: "Not for this station",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Expired",
    413: "Too large",
    415: "Unsupported media type",
    422: "Bad document",
    429: "Too many requests",
    500: "Internal error",
    507: "Disk full",
}
NAMES = {
    401: "unauthorized",
    404: "not-found",
    405: "method-not-allowed",
    415: "unsupported-media-type",
    429: "too-many-requests",
}

T = TypeVar("T")


class TooLarge(MessageRefused):
    """A body beyond the contract's limits."""

    def __init__(self, limit: str) -> None:
        super().__init__(413, "too-large", f"the limit is {limit}")


def problem(status: int, name: str, detail: str) -> Response:
    """Problem details (RFC 9457) with the contract's names."""
    body = {
        "type": f"urn:print-agent:{name}",
        "title": TITLES.get(status, "Refused"),
        "status": status,
        "detail": detail,
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 and name == "unauthorized" else None
    return JSONResponse(body, status, media_type="application/problem+json", headers=headers)


def build_app(station: Station) -> FastAPI:  # noqa: C901 - one short function a call, side by side
    """The application; ``scope["listener"]`` is ``unix``, ``loopback`` or ``authority``."""
    app = FastAPI(title="passport-print-agent", version=__version__, docs_url=None, redoc_url=None)
    pool = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="http")

    async def work(task: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, task)

    def guarded(task: Callable[[], T]) -> Callable[[], T]:
        def run() -> T:
            try:
                return task()
            except PrintAgentError:
                raise
            except BaseException as error:
                station.failed(error)
                raise

        return run

    async def call(task: Callable[[], T]) -> T:
        return await work(guarded(task))

    async def actor_of(request: Request) -> str:
        if request.scope.get("listener") == "unix":
            uid = request.scope["client"][1]
            try:
                return f"technician:{pwd.getpwuid(uid).pw_name}"
            except KeyError:
                return f"technician:uid-{uid}"
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        name = (
            await call(lambda: station.technician_of_token(token.strip()))
            if kind.lower() == "bearer"
            else None
        )
        if name is None:
            raise RequestRefused(
                401,
                "unauthorized",
                "this call needs a technician's token: `print-agent technician add NAME` gives one",
            )
        return f"technician:{name}"

    @app.exception_handler(PrintAgentError)
    async def refused(_: Request, error: PrintAgentError) -> Response:
        if isinstance(error, (MessageRefused, RequestRefused)):
            return problem(error.status, error.name, error.detail)
        if isinstance(error, DiskFull):
            return problem(507, "disk-full", str(error))
        return problem(409, "not-allowed", str(error))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        answer = problem(
            error.status_code, NAMES.get(error.status_code, "malformed"), str(error.detail)
        )
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        places = ", ".join(".".join(str(part) for part in fault["loc"]) for fault in error.errors())
        return problem(400, "malformed", f"wrong or missing: {places}")

    # The authority's calls

    @app.post("/v1/messages")
    async def messages(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == MESSAGE:
            raw = await read_body(
                request, MESSAGE_SIZE_MAX + WHITE_SPACE_MAX, "2 MiB for a message"
            )
            answer = await call(lambda: station.intake.take(raw))
            if answer.accepted:
                return JSONResponse(answer.row(), answer.status)
            return problem(
                answer.status, (answer.type or "").rpartition(":")[2], answer.detail or ""
            )
        if kind != SEQUENCE:
            raise HTTPException(415, f"allowed are {MESSAGE} and {SEQUENCE}")
        rows: list[dict[str, Any]] = []
        chunk: list[bytes] = []
        async for line in read_lines(request):
            chunk.append(line)
            if len(rows) + len(chunk) > BATCH_LINES_MAX:
                raise TooLarge(f"{BATCH_LINES_MAX} lines for a batch")
            if len(chunk) == CHUNK_LINES:
                rows += await take(chunk)
                chunk = []
        rows += await take(chunk)
        return JSONResponse(rows, 207)

    async def take(lines: list[bytes]) -> list[dict[str, Any]]:
        if not lines:
            return []
        return await call(lambda: [answer.row() for answer in station.intake.take_many(lines)])

    @app.get("/v1/receipts")
    async def receipts(after: int = 0, limit: int = 100) -> Response:
        lines, seq, head = await call(lambda: station.receipts(after, limit))
        return PlainTextResponse(
            "".join(f"{line}\n" for line in lines),
            media_type=SEQUENCE,
            headers={"Receipt-Head": f"{seq} {head}"},
        )

    # The technicians' calls

    @app.get("/v1/jobs")
    async def list_jobs(
        request: Request,
        state: str | None = None,
        application: str | None = None,
        limit: int = 1000,
        after: str | None = None,
    ) -> Any:
        await actor_of(request)
        return await call(
            lambda: station.jobs(state=state, application=application, limit=limit, after=after)
        )

    @app.get("/v1/jobs/{job_id}")
    async def one_job(request: Request, job_id: str) -> Any:
        await actor_of(request)
        return await call(lambda: station.job(job_id))

    @app.get("/v1/jobs/{job_id}/preview.png")
    async def preview(request: Request, job_id: str) -> Response:
        actor = await actor_of(request)
        picture = await call(lambda: station.preview(job_id, actor=actor))
        return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})

    @app.post("/v1/jobs/{job_id}/{act}")
    async def act_on_job(request: Request, job_id: str, act: str) -> Any:
        actor = await actor_of(request)
        body = await read_json(request)
        return await call(lambda: station.act(job_id, act, body, actor=actor))

    @app.get("/v1/printers")
    async def list_printers(request: Request) -> Any:
        await actor_of(request)
        return await call(station.printers)

    @app.post("/v1/printers/{name}/book")
    async def present(request: Request, name: str) -> Any:
        actor = await actor_of(request)
        number = required_text(await read_json(request), "number")
        return await call(lambda: station.present(name, number, actor=actor))

    @app.post("/v1/printers/{name}/accept")
    async def accept(request: Request, name: str) -> Any:
        actor = await actor_of(request)
        reason = required_text(await read_json(request), "reason")
        return await call(lambda: station.accept_printer(name, reason, actor=actor))

    @app.post("/v1/clock/accept")
    async def accept_clock(request: Request) -> Any:
        actor = await actor_of(request)
        reason = required_text(await read_json(request), "reason")
        return await call(lambda: station.accept_clock(reason, actor=actor))

    @app.get("/v1/technicians")
    async def list_technicians(request: Request) -> Any:
        await actor_of(request)
        return await call(station.technicians)

    @app.post("/v1/technicians/{name}/{act}")
    async def change_technician(request: Request, name: str, act: str) -> Any:
        actor = await actor_of(request)
        if request.scope.get("listener") != "unix":
            raise RequestRefused(
                401,
                "unauthorized",
                "tokens are given and taken at the station itself, over its socket",
            )
        if act == "add":
            return {"token": await call(lambda: station.add_technician(name, actor=actor))}
        if act == "remove":
            await call(lambda: station.remove_technician(name, actor=actor))
            return {}
        raise RequestRefused(404, "not-found", f"there is no act {act!r} on a technician")

    @app.get("/v1/events")
    async def events(request: Request) -> Response:
        await actor_of(request)
        return StreamingResponse(event_stream(station), media_type="text/event-stream")

    # Anyone's

    @app.get("/v1/status")
    async def status() -> Any:
        return await call(station.status)

    @app.get("/healthz")
    async def healthz() -> Response:
        healthy = await call(station.healthy)
        return PlainTextResponse(
            "ok\n" if healthy else "the journal is not open\n", 200 if healthy else 503
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        from agent.links.metrics import exposition

        text = await call(lambda: exposition(station.status()))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return app


async def read_body(request: Request, size_max: int, limit: str) -> bytes:
    """The whole body, refused as soon as it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > size_max:
            raise TooLarge(limit)
    return bytes(body)


async def read_lines(request: Request) -> AsyncIterator[bytes]:
    """The lines of a sequence as they come, empty ones skipped; a line beyond a message's size is cut to be refused."""
    line, size = bytearray(), 0
    async for piece in request.stream():
        size += len(piece)
        if size > BATCH_SIZE_MAX:
            raise TooLarge("256 MiB for a batch")
        *ended, rest = piece.split(b"\n")
        for part in ended:
            line += part
            if line.strip():
                yield bytes(line)
            line.clear()
        line += rest
        del line[MESSAGE_SIZE_MAX + WHITE_SPACE_MAX :]
    if line.strip():
        yield bytes(line)


async def read_json(request: Request) -> dict[str, Any]:
    """A technician's JSON object; no body is an empty one."""
    raw = await read_body(request, BODY_SIZE_MAX, "64 KiB for a call")
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise RequestRefused(400, "malformed", "the body is no JSON object")
    return body


def required_text(body: dict[str, Any], name: str) -> str:
    """A string member of a body."""
    from agent.station import text_of

    return text_of(body, name) or ""


async def event_stream(station: Station) -> AsyncIterator[str]:
    """Server-sent events of jobs and printers, as they change."""
    subscription = station.subscribe()
    arrived: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    ended = threading.Event()

    def forward() -> None:
        while not ended.is_set():
            event = subscription.get(1.0)
            if event is not None:
                loop.call_soon_threadsafe(arrived.put_nowait, event)

    thread = threading.Thread(target=forward, name="events", daemon=True)
    thread.start()
    try:
        while True:
            try:
                event = await asyncio.wait_for(arrived.get(), EVENT_PAUSE_S)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            assert event is not None
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
    finally:
        ended.set()
        subscription.close()
