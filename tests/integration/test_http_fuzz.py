"""The HTTP interface of a real station against arbitrary requests: never a 5xx, always a problem document with a known name."""

from __future__ import annotations

import http.client
import json
import re
import socket
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from station_fixture import VECTORS, directive, serving

from agent.cli.client import Client
from agent.links.openapi import JOB_ACTS

ANSWER_TIMEOUT_S = 30
# CONTRACT sections 3 and 5; the last row is what it leaves to the product: nothing there, and who is no one's.
NAMES = {
    *("malformed", "bad-signature", "wrong-station", "conflict", "expired", "bad-document"),
    *("too-large", "unknown-job", "unknown-book", "not-allowed", "printer-not-clear"),
    *("unauthorized", "method-not-allowed", "unsupported-media-type", "too-many-requests"),
    *("not-found", "unknown-printer", "unknown-technician", "misdirected-request"),
}
JOBS = ["valid-es256", "valid-nbf-future", "valid-two-books"]


@dataclass(frozen=True)
class Request:
    """What is sent, as it is sent; ``loopback`` tells to which listener."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    loopback: bool = False

    def raw(self) -> bytes:
        lines = [self.method + b" " + self.target + b" HTTP/1.1", b"Host: localhost"]
        lines += [name + b": " + value for name, value in self.headers]
        lines += [b"Content-Length: %d" % len(self.body), b"Connection: close"]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


class Target:
    """The station's two doors.

    Args:
        client: Its client on the unix socket.
        port: Its port on loopback.
    """

    def __init__(self, client: Client, port: int) -> None:
        self.client = client
        self._port = port
        described = json.loads(client.call("GET", "/openapi.json")[1])["paths"]
        self.paths = [re.sub(r"{\w+}", "{}", path) for path in described]
        self.paths += ["/openapi.json", "/{}", "/v1/{}/{}/{}"]

    def ask(self, request: Request) -> tuple[int, str, bytes]:
        """Status, media type and body; of an endless stream only its beginning."""
        if request.loopback:
            line = socket.create_connection(("127.0.0.1", self._port))
        else:
            line = socket.socket(socket.AF_UNIX)
            line.connect(str(self.client.path))
        with line:
            line.settimeout(ANSWER_TIMEOUT_S)
            line.sendall(request.raw())
            answer = http.client.HTTPResponse(line, method=request.method.decode())
            answer.begin()
            with answer:
                kind = answer.headers.get_content_type()
                body = b"" if kind == "text/event-stream" else answer.read()
            return answer.status, kind, body


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(tmp_path_factory.mktemp("fuzz"), listen=f"127.0.0.1:{port}") as client:
        for name in JOBS:
            client.call("POST", "/v1/messages", message(name), kind="application/jose")
        yield Target(client, port)
        assert client.call("GET", "/healthz")[0] == 200


def message(name: str) -> bytes:
    return (VECTORS / f"messages/{name}.jws").read_bytes()


# Words that are nearly right, and words that are not


WORDS = st.text(max_size=12) | st.sampled_from(
    [*JOBS, *JOB_ACTS, "main", "P0000003", "..", "%", "", "\x00", "\ufeff", "a" * 300, "1e999"]
)
SEGMENTS = WORDS.map(lambda word: urllib.parse.quote(word, safe="")) | st.binary(
    min_size=1, max_size=8
).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw))
QUERY_NAMES = st.sampled_from(["after", "limit", "state", "application", "", "x"]) | WORDS
QUERIES = st.lists(st.tuples(QUERY_NAMES, WORDS | st.integers().map(str)), max_size=4).map(
    urllib.parse.urlencode
) | st.text("abc=&;%[]+0123456789", max_size=12)
METHODS = st.sampled_from(
    [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE", b"BREW"]
)
VISIBLE = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
).map(lambda text: text.encode("latin-1"))
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"Authorization", b"Cookie", b"Accept", b"Expect", b"Range", b"Origin"])
        | st.sampled_from([b"If-None-Match", b"X-Forwarded-For", b"Upgrade", b"X"]),
        VISIBLE | st.sampled_from([b"Bearer ", b"Bearer x", b"session=x", b"bytes=0-", b"h2c"]),
    ),
    max_size=3,
)
KINDS = st.sampled_from(
    [
        *(b"application/json", b"application/jose", b"application/jose-seq", b"text/plain", b""),
        *(b"application/json; charset=utf-16", b"multipart/form-data; boundary=x"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["reason", "outcome", "book", "attempt", "mrz", "to", "second", "number", "x"]
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "reason": st.just("a reason") | VALUES,
        "outcome": st.sampled_from(["printed", "blank", "spoiled"]) | VALUES,
        "book": st.just("P0000003") | VALUES,
        "attempt": st.integers(-1, 2) | VALUES,
        "mrz": st.lists(st.text("A<1", min_size=44, max_size=44), max_size=3) | VALUES,
        "to": st.just("sambas-02") | VALUES,
        "number": st.just("P0000003") | VALUES,
    },
)
BODIES = (
    st.binary(max_size=200)
    | (NEARLY | st.dictionaries(FIELDS, VALUES, max_size=4) | VALUES).map(
        lambda value: json.dumps(value).encode()
    )
    | st.lists(st.sampled_from([message(JOBS[0]), b"nonsense", b"", b"a.b.c"]), max_size=4).map(
        b"\r\n".join
    )
)


@st.composite
def requests(draw: st.DrawFn, paths: list[str]) -> Request:
    path = draw(st.sampled_from(paths))
    words = [draw(SEGMENTS) for _ in range(path.count("{}"))]
    query = draw(QUERIES)
    target = path.format(*words) + (f"?{query}" if query else "")
    headers = [(b"Content-Type", draw(KINDS)), *draw(HEADERS)]
    return Request(
        method=b"POST"
        if path.endswith(("}", "book", "accept")) and draw(st.booleans())
        else draw(METHODS),
        target=urllib.parse.quote(target, safe="/?&=%+;[]").encode(),
        headers=tuple(header for header in headers if header[1]),
        body=draw(BODIES),
        loopback=draw(st.booleans()),
    )


def check(target: Target, request: Request) -> None:
    status, kind, body = target.ask(request)
    assert status < 500, body
    if status < 400:
        return
    assert kind == "application/problem+json"
    if request.method == b"HEAD":
        return
    problem: dict[str, Any] = json.loads(body)
    assert problem["type"].removeprefix("urn:print-agent:") in NAMES
    assert problem["status"] == status
    assert isinstance(problem["title"], str)
    assert isinstance(problem["detail"], str)


@given(data=st.data())
@settings(max_examples=6 * settings.default.max_examples)
def test_any_request_is_answered_or_refused_cleanly(target: Target, data: st.DataObject) -> None:
    check(target, data.draw(requests(target.paths)))


@pytest.mark.parametrize(
    "request_",
    [
        Request(b"GET", b"/v1/jobs/%ff%fe"),
        Request(b"GET", b"/v1/jobs?application=%00"),
        Request(b"GET", b"/v1/jobs?after=" + b"a" * 5_000),
        Request(b"HEAD", b"/v1/nothing"),
        Request(b"POST", b"/v1/jobs/valid-es256/hold", body=b'{"reason": 1e999}'),
    ],
    ids=lambda request: str(request.target[:40]),
)
def test_what_was_thought_of_is_refused_cleanly(target: Target, request_: Request) -> None:
    check(target, request_)


SIGNED = st.dictionaries(
    st.sampled_from(
        ["job", "reason", "to", "through", "head", "printed", "version", "jwks", "exp"]
    ),
    VALUES.filter(lambda value: "\\ud" not in json.dumps(value)),
    max_size=4,
)


@given(
    action=st.sampled_from(["revoke", "hold", "release", "transfer", "trust", "acknowledge", "x"]),
    claims=SIGNED,
    seq=st.integers(1, 10**6),
)
def test_any_signed_directive_is_taken_or_refused_cleanly(
    target: Target, action: str, claims: dict[str, Any], seq: int
) -> None:
    raw = directive(seq, action, **claims)
    check(target, Request(b"POST", b"/v1/messages", ((b"Content-Type", b"application/jose"),), raw))
