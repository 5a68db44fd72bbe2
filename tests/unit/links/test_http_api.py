from __future__ import annotations

import asyncio
import json
import os
import pwd
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from agent.errors import DiskFull, JournalDamaged, PrinterFault
from agent.links import http_api
from agent.links.http_api import HttpApi
from agent.links.listener import Listener, is_loopback
from agent.model import BATCH_LINES_MAX, MESSAGE_SIZE_MAX
from tests.unit.links.station_double import HEAD, JOB, StationDouble

JOSE = {"content-type": "application/jose"}
JOSE_SEQ = {"content-type": "application/jose-seq"}
RIGHT = {"authorization": "Bearer right"}
ME = f"technician:{pwd.getpwuid(os.getuid()).pw_name}"


class Caller:
    """Calls the application as one listener hands it over."""

    def __init__(self, api: HttpApi) -> None:
        self.api = api

    def client(self, listener: Listener) -> httpx.AsyncClient:
        async def named(scope: Any, receive: Any, send: Any) -> None:
            scope["listener"] = listener
            if listener is Listener.UNIX:
                scope["client"] = ("uid", os.getuid())
            await self.api(scope, receive, send)

        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=named), base_url="http://localhost"
        )

    def __call__(
        self, method: str, path: str, listener: Listener = Listener.UNIX, **more: Any
    ) -> httpx.Response:
        async def call() -> httpx.Response:
            async with self.client(listener) as client:
                return await client.request(method, path, **more)

        return asyncio.run(call())


@pytest.fixture
def station() -> StationDouble:
    return StationDouble()


@pytest.fixture
def api(station: StationDouble) -> Iterator[HttpApi]:
    found = HttpApi(station)  # type: ignore[arg-type]  # the double has what is asked
    yield found
    found.stop()
    found.close()


@pytest.fixture
def call(api: HttpApi) -> Caller:
    return Caller(api)


def assert_problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:print-agent:{name}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


# One message


@pytest.mark.parametrize(
    "kind", ["application/jose", "Application/JOSE; charset=utf-8", "application/jose;a=b"]
)
def test_a_message_is_201_once_and_200_when_known(call: Caller, kind: str):
    first = call("POST", "/v1/messages", content=b"good-1\n", headers={"content-type": kind})
    again = call("POST", "/v1/messages", content=b" good-1 ", headers={"content-type": kind})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == {"status": 201, "type": None, "job": "good-1"}
    assert first.headers["content-type"] == "application/json"


def test_a_refused_message_is_problem_details(call: Caller):
    assert_problem(call("POST", "/v1/messages", content=b"bad", headers=JOSE), 400, "malformed")


@pytest.mark.parametrize("kind", [None, "application/json", "application/jose+json", "text/plain"])
def test_another_media_type_is_415(call: Caller, station: StationDouble, kind: str | None):
    headers = {} if kind is None else {"content-type": kind}
    answer = call("POST", "/v1/messages", content=b"good", headers=headers)
    assert_problem(answer, 415, "unsupported-media-type")
    assert station.intake.seen == []


def test_a_message_of_the_limit_with_white_space_around_it_is_taken(
    call: Caller, station: StationDouble
):
    text = b"good".ljust(MESSAGE_SIZE_MAX, b"x")
    answer = call("POST", "/v1/messages", content=b"\r\n" * 9 + text + b"\r\n" * 9, headers=JOSE)
    assert answer.status_code == 201
    assert station.intake.seen == [MESSAGE_SIZE_MAX]


@pytest.mark.parametrize(
    "body",
    [
        b"good".ljust(MESSAGE_SIZE_MAX + 1, b"x"),
        b"good".ljust(MESSAGE_SIZE_MAX, b"x") + b" " * 70_000 + b"x",
    ],
)
def test_a_message_over_the_limit_is_413_and_not_taken(
    call: Caller, station: StationDouble, body: bytes
):
    assert_problem(call("POST", "/v1/messages", content=body, headers=JOSE), 413, "too-large")
    assert station.intake.known == {}


def test_a_body_without_end_is_refused_after_the_limit(call: Caller):
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65_536
            yield b"x" * 65_536

    assert_problem(call("POST", "/v1/messages", content=endless(), headers=JOSE), 413, "too-large")
    assert taken <= MESSAGE_SIZE_MAX + 3 * 65_536


def test_white_space_without_end_is_refused(call: Caller):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65_536

    assert_problem(call("POST", "/v1/messages", content=endless(), headers=JOSE), 413, "too-large")


def test_a_body_that_stands_still_is_408(call: Caller, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_api, "PIECE_TIMEOUT_S", 0.01)

    async def stalled() -> AsyncIterator[bytes]:
        yield b"go"
        await asyncio.Event().wait()

    answer = call("POST", "/v1/messages", content=stalled(), headers=JOSE)
    assert_problem(answer, 408, "request-timeout")
    assert answer.headers["connection"] == "close"


# Many


def test_a_sequence_is_answered_in_its_order_with_lf_or_crlf_and_without_empty_lines(call: Caller):
    body = b"\r\n\ngood-1\r\nbad\n \n\ngood-2\ngood-1"
    answer = call("POST", "/v1/messages", content=body, headers=JOSE_SEQ)
    assert answer.status_code == 207
    assert answer.json() == [
        {"status": 201, "type": None, "job": "good-1"},
        {"status": 400, "type": "urn:print-agent:malformed", "job": None},
        {"status": 201, "type": None, "job": "good-2"},
        {"status": 200, "type": None, "job": "good-1"},
    ]


def test_an_empty_sequence_has_no_answers(call: Caller):
    answer = call("POST", "/v1/messages", content=b"\n\n", headers=JOSE_SEQ)
    assert (answer.status_code, answer.json()) == (207, [])


def test_a_line_over_the_limit_has_its_own_413(call: Caller):
    body = b"good-1\n" + b"good".ljust(MESSAGE_SIZE_MAX + 1, b"x") + b"\ngood-2\n"
    answer = call("POST", "/v1/messages", content=body, headers=JOSE_SEQ)
    assert [row["status"] for row in answer.json()] == [201, 413, 201]


def test_as_many_lines_as_allowed_are_taken_and_one_more_is_413_for_the_whole_call(
    call: Caller, station: StationDouble
):
    lines = [b"good-%d" % number for number in range(BATCH_LINES_MAX)]
    within = call("POST", "/v1/messages", content=b"\n\n".join(lines), headers=JOSE_SEQ)
    assert within.status_code == 207
    assert len(within.json()) == BATCH_LINES_MAX
    station.intake.known.clear()
    over = call("POST", "/v1/messages", content=b"\n".join([*lines, b"good"]), headers=JOSE_SEQ)
    assert_problem(over, 413, "too-large")
    assert len(station.intake.known) >= BATCH_LINES_MAX - http_api.CHUNK_LINES_MAX


def test_a_sequence_over_its_size_is_413_and_memory_stays_bounded(
    call: Caller, monkeypatch: pytest.MonkeyPatch, station: StationDouble
):
    monkeypatch.setattr("agent.links.sequence.BATCH_SIZE_MAX", 1_000_000)
    line = b"good".ljust(9_999, b"x") + b"\n"

    async def body() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield line

    monkeypatch.setattr(http_api, "CHUNK_BYTES_MAX", 50_000)
    assert_problem(call("POST", "/v1/messages", content=body(), headers=JOSE_SEQ), 413, "too-large")
    assert len(station.intake.seen) == 96  # the chunks of 6 that were whole before


def test_a_full_disk_is_507(call: Caller, station: StationDouble):
    station.intake.full = True
    assert_problem(call("POST", "/v1/messages", content=b"good", headers=JOSE), 507, "disk-full")


# Receipts


def test_receipts_come_one_a_line_with_the_head_of_the_whole_chain(call: Caller):
    answer = call("GET", "/v1/receipts?after=5&limit=1")
    assert answer.text == "receipt-6\n"
    assert answer.headers["content-type"].startswith("application/jose-seq")
    assert answer.headers["receipt-head"] == f"7 {HEAD}"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=",
        "limit=1.0",
        "limit=%205",
        "limit=1_0",
        "after=-1",
        "after=9007199254740992",
        "after=" + "9" * 40,
        "after=x",
    ],
)
def test_a_bad_number_is_400_and_no_crash(call: Caller, station: StationDouble, query: str):
    assert_problem(call("GET", f"/v1/receipts?{query}"), 400, "malformed")
    assert station.failures == []


# Who asks


TECHNICIANS_CALLS = [
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/job-1"),
    ("GET", "/v1/jobs/job-1/preview.png"),
    ("POST", "/v1/jobs/job-1/cancel"),
    ("GET", "/v1/printers"),
    ("POST", "/v1/printers/main/book"),
    ("POST", "/v1/printers/main/accept"),
    ("GET", "/v1/events"),
    ("GET", "/v1/technicians"),
    ("POST", "/v1/clock/accept"),
    ("POST", "/v1/inventory"),
    ("POST", "/v1/technicians/eve/add"),
]
PUBLIC_CALLS = ["/v1/status", "/healthz", "/metrics", "/openapi.json", "/v1/receipts"]


@pytest.mark.parametrize(("method", "path"), TECHNICIANS_CALLS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "Basic right"},
    ],
)
def test_on_tcp_a_technicians_call_without_a_good_token_is_401(
    call: Caller, station: StationDouble, method: str, path: str, headers: dict[str, str]
):
    answer = call(method, path, Listener.LOOPBACK, headers=headers)
    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert station.acts == []


@pytest.mark.parametrize("path", PUBLIC_CALLS)
def test_on_loopback_the_public_and_the_authoritys_calls_need_no_token(call: Caller, path: str):
    assert call("GET", path, Listener.LOOPBACK).status_code == 200


def test_the_actor_is_the_token_s_technician_or_the_peer_s_user(
    call: Caller, station: StationDouble
):
    call("POST", "/v1/jobs/job-1/hold", Listener.LOOPBACK, headers=RIGHT)
    call("POST", "/v1/jobs/job-1/hold", Listener.UNIX, headers=RIGHT)
    assert [act[3] for act in station.acts] == ["technician:ani", ME]


def test_a_session_cookie_names_the_actor(station: StationDouble):
    api = HttpApi(
        station,  # type: ignore[arg-type]  # the double has what is asked
        session_actor=lambda request: (
            "technician:budi" if request.cookies.get("session") == "s" else None
        ),
    )
    call = Caller(api)
    for cookie, status in (("session=s", 200), ("session=t", 401)):
        answer = call("POST", "/v1/jobs/job-1/hold", Listener.LOOPBACK, headers={"cookie": cookie})
        assert answer.status_code == status
    assert station.acts == [("hold", "job-1", {}, "technician:budi")]
    foreign = call(
        "POST",
        "/v1/jobs/job-1/hold",
        Listener.LOOPBACK,
        headers={"cookie": "session=s"},
        content=b'{"reason": "r"}',
    )
    assert_problem(foreign, 415, "unsupported-media-type")
    api.close()


def test_tokens_are_given_over_the_unix_socket_only(call: Caller, station: StationDouble):
    assert_problem(
        call("POST", "/v1/technicians/eve/add", Listener.LOOPBACK, headers=RIGHT),
        401,
        "unauthorized",
    )
    assert call("POST", "/v1/technicians/eve/add").json() == {"token": "token-of-eve"}
    assert call("POST", "/v1/technicians/eve/remove").status_code == 200
    assert [act[:2] for act in station.acts] == [("add", "eve"), ("remove", "eve")]


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST:8631", True),
        ("127.0.0.1:8631", True),
        ("127.9.9.9", True),
        ("[::1]:8631", True),
        ("[::1]", True),
        ("127.evil.example", False),
        ("127.0.0.1.evil.example:8631", False),
        ("localhost.evil.example", False),
        ("evil.example", False),
        ("[::1].evil.example", False),
        ("[::2]", False),
        ("localhost:evil", False),
        ("", False),
    ],
)
def test_a_host_that_was_rebound_to_loopback_gets_nothing(call: Caller, host: str, ours: bool):
    assert is_loopback(host) is ours
    answer = call("GET", "/v1/status", Listener.LOOPBACK, headers={"host": host})
    if ours:
        assert answer.status_code == 200
    else:
        assert_problem(answer, 421, "misdirected-request")


def test_no_other_site_is_allowed_to_read(call: Caller):
    answer = call("GET", "/v1/status", Listener.LOOPBACK, headers={"origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/status", "/metrics", "/openapi.json", "/v1/events"]
)
def test_the_authority_s_listener_serves_nothing_else(call: Caller, path: str):
    assert_problem(call("GET", path, Listener.AUTHORITY, headers=RIGHT), 404, "not-found")


def test_the_authority_s_listener_serves_the_authority(call: Caller):
    assert call("GET", "/healthz", Listener.AUTHORITY).status_code == 200
    assert call("GET", "/v1/receipts", Listener.AUTHORITY).status_code == 200
    answer = call("POST", "/v1/messages", Listener.AUTHORITY, content=b"good", headers=JOSE)
    assert answer.status_code == 201


# Technicians' calls


def test_jobs_are_asked_with_their_filters(call: Caller, station: StationDouble):
    answer = call("GET", "/v1/jobs?state=pending&application=A-1&limit=5&after=x")
    assert answer.json() == [JOB]
    assert station.acts == [
        ("jobs", {"state": "pending", "application": "A-1", "limit": 5, "after": "x"})
    ]


def test_an_unknown_job_is_404(call: Caller):
    assert_problem(call("GET", "/v1/jobs/nobody"), 404, "unknown-job")


def test_an_unknown_act_is_404(call: Caller, station: StationDouble):
    assert_problem(call("POST", "/v1/jobs/job-1/burn"), 404, "not-found")
    assert station.acts == []


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b"null",
        b'{"a": 1, "a": 2}',
        b'{"attempt": NaN}',
        b'{"attempt": 1.5}',
        b'{"attempt": true}',
        b'{"attempt": 9007199254740993}',
        b'{"attempt": -1}',
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"reason": "\\ud800"}',
    ],
)
def test_a_malformed_body_is_400_and_no_act(call: Caller, station: StationDouble, body: bytes):
    answer = call(
        "POST", "/v1/jobs/job-1/hold", content=body, headers={"content-type": "application/json"}
    )
    if len(body) > http_api.BODY_SIZE_MAX:
        assert_problem(answer, 413, "too-large")
    else:
        assert_problem(answer, 400, "malformed")
    assert station.acts == []
    assert station.failures == []


def test_a_body_of_another_media_type_is_415(call: Caller):
    answer = call(
        "POST", "/v1/jobs/job-1/hold", content=b"{}", headers={"content-type": "text/plain"}
    )
    assert_problem(answer, 415, "unsupported-media-type")


def test_a_preview_is_never_cached(call: Caller, station: StationDouble):
    answer = call("GET", "/v1/jobs/job-1/preview.png")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "no-store"
    assert station.acts == [("preview", "job-1", ME)]


@pytest.mark.parametrize("number", [None, "", "c1234567", "C12345678X", "C-1", 5, "C1\n"])
def test_what_is_no_book_number_is_400(call: Caller, station: StationDouble, number: Any):
    answer = call("POST", "/v1/printers/main/book", json={"number": number})
    assert_problem(answer, 400, "malformed")
    assert station.acts == []


def test_printers_are_listed_presented_to_and_accepted(call: Caller, station: StationDouble):
    assert call("GET", "/v1/printers").json() == [{"name": "main", "state": "idle"}]
    presented = call("POST", "/v1/printers/main/book", json={"number": "C1234567"})
    assert presented.json() == {"job": "job-1"}
    assert call("POST", "/v1/printers/main/accept", json={"reason": "new"}).status_code == 200
    assert_problem(call("POST", "/v1/printers/main/accept", json={}), 400, "malformed")
    assert call("POST", "/v1/clock/accept", json={"reason": "r"}).status_code == 200
    count = {"of": "dead-01", "books": {"blank": ["C1"]}}
    assert call("POST", "/v1/inventory", json=count).json() == {"receipt": 9}
    assert station.acts == [
        ("present", "main", "C1234567", ME),
        ("accept", "main", "new", ME),
        ("clock", "r", ME),
        ("inventory", count, ME),
    ]


# Paths, methods, bugs


def test_an_unknown_path_and_a_wrong_method_are_problems(call: Caller):
    assert_problem(call("GET", "/v1/nothing"), 404, "not-found")
    assert_problem(call("GET", "/docs"), 404, "not-found")
    assert_problem(call("GET", "/v1/jobs/"), 404, "not-found")
    answer = call("PUT", "/v1/messages")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (DiskFull("no room"), 507, "disk-full"),
        (PrinterFault("the line is gone"), 409, "not-allowed"),
    ],
)
def test_an_error_of_the_station_is_answered_and_stops_nothing(
    call: Caller,
    station: StationDouble,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    name: str,
):
    monkeypatch.setattr(station, "job", raises(error))
    assert_problem(call("GET", "/v1/jobs/job-1"), status, name)
    assert station.failures == []


def raises(error: Exception) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising


@pytest.mark.parametrize("error", [ValueError("IBU SITI"), JournalDamaged("run journal verify")])
def test_a_bug_is_500_without_its_text_and_the_supervisor_is_told(
    call: Caller, station: StationDouble, error: Exception, caplog: pytest.LogCaptureFixture
):
    station.intake.bug = error
    answer = call("POST", "/v1/messages", content=b"good", headers=JOSE)
    assert_problem(answer, 500, "internal-error")
    assert station.failures == [error]
    assert "SITI" not in answer.text + caplog.text


def test_a_station_that_is_not_well_is_503(call: Caller, station: StationDouble):
    assert call("GET", "/healthz").text == "ok\n"
    station.well = False
    assert_problem(call("GET", "/healthz"), 503, "not-ready")


def test_metrics_tell_counts_and_conditions_only(call: Caller):
    text = call("GET", "/metrics", Listener.LOOPBACK).text
    assert 'print_agent_jobs{state="pending"} 3.0' in text
    assert 'print_agent_condition{name="clock-untrusted"} 1.0' in text
    assert "job-1" not in text


def test_the_openapi_document_names_every_call_of_the_contract(call: Caller):
    document = call("GET", "/openapi.json").json()
    for path, method in {
        "/v1/messages": "post",
        "/v1/receipts": "get",
        "/v1/jobs": "get",
        "/v1/jobs/{job_id}": "get",
        "/v1/jobs/{job_id}/{act}": "post",
        "/v1/jobs/{job_id}/preview.png": "get",
        "/v1/printers/{name}/book": "post",
        "/v1/printers/{name}/accept": "post",
        "/v1/printers": "get",
        "/v1/events": "get",
        "/v1/status": "get",
        "/healthz": "get",
        "/metrics": "get",
    }.items():
        responses = document["paths"][path][method]["responses"]
        assert "default" in responses
        assert "422" not in responses
    text = json.dumps(document)
    for reference in set(text.split('"#/components/schemas/')[1:]):
        assert reference.partition('"')[0] in document["components"]["schemas"]


# Nobody starves


def test_acts_that_wait_and_messages_that_pile_up_do_not_stop_questions(
    api: HttpApi, call: Caller, station: StationDouble
):
    gate = threading.Event()
    station.present_waits = station.intake.wait_for = gate

    async def crowd() -> None:
        async with call.client(Listener.UNIX) as client:
            waiting = [
                asyncio.create_task(client.post("/v1/printers/main/book", json={"number": "C1"}))
                for _ in range(20)
            ] + [
                asyncio.create_task(client.post("/v1/messages", content=b"good", headers=JOSE))
                for _ in range(100)
            ]
            try:
                async with asyncio.timeout(10):
                    assert (await client.get("/healthz")).status_code == 200
                    assert (await client.get("/v1/jobs")).status_code == 200
                assert not any(task.done() for task in waiting)
            finally:
                gate.set()
            answers = await asyncio.gather(*waiting)
            assert {answer.status_code for answer in answers} <= {200, 201}

    asyncio.run(crowd())


def test_too_many_acts_at_once_are_429(
    call: Caller, station: StationDouble, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_api, "ACTS_WAITING_MAX", 1)
    api = HttpApi(station)  # type: ignore[arg-type]  # the double has what is asked
    gate = threading.Event()
    station.present_waits = gate

    async def crowd() -> None:
        async with Caller(api).client(Listener.UNIX) as client:
            first, second = (
                asyncio.create_task(client.post("/v1/printers/main/book", json={"number": "C1"}))
                for _ in range(2)
            )
            done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
            gate.set()
            await asyncio.wait({first, second})
            assert_problem(done.pop().result(), 429, "too-many-requests")

    asyncio.run(crowd())
    api.close()
