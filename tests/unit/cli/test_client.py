"""The client against servers that misbehave: whatever they do becomes one clear line."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cli.client import AgentAbsent, CallFailed, Client

Serve = Callable[[Callable[[socket.socket], None]], Client]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves one connection on a unix socket by the function that is given."""
    path = tmp_path / "a.sock"
    threads = []
    listener = socket.socket(socket.AF_UNIX)

    def start(answer: Callable[[socket.socket], None]) -> Client:
        listener.bind(str(path))
        listener.listen()

        def one() -> None:
            line, _ = listener.accept()
            with line:
                answer(line)

        threads.append(threading.Thread(target=one))
        threads[-1].start()
        return Client(path)

    yield start
    for thread in threads:
        thread.join(10)
    listener.close()


def response(status: str, body: bytes) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        + body
    )


def test_no_socket_is_an_agent_that_does_not_run(tmp_path):
    client = Client(tmp_path / "none.sock")
    assert not client.runs()
    with pytest.raises(
        AgentAbsent, match=r"does not run \(no answer at .*none\.sock\): start it with"
    ):
        client.get("/v1/status")


def test_a_socket_left_by_a_killed_agent_is_an_agent_that_does_not_run(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "a.sock"))
    assert not Client(tmp_path / "a.sock").runs()


NOBODY = 65_534


@pytest.fixture
def as_somebody_else(socket_of_others):
    """Root may talk to every socket; so root becomes nobody for the test."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture
def folder_of_others():
    """A folder that everybody may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def socket_of_others(folder_of_others):
    """A listening socket that its owner alone may read, and nobody write to."""
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(folder_of_others / "a.sock"))
        closed.listen()
        (folder_of_others / "a.sock").chmod(stat.S_IRUSR)
        yield folder_of_others / "a.sock"


@pytest.mark.usefixtures("as_somebody_else")
def test_a_socket_of_others_is_no_agent_that_does_not_run(socket_of_others):
    with pytest.raises(CallFailed, match="may not talk to the agent"):
        Client(socket_of_others).runs()


def test_a_problem_becomes_its_detail_on_one_line(serve):
    def answer(line: socket.socket) -> None:
        line.recv(65_536)
        line.sendall(response("409 Conflict", b'{"title": "No", "detail": "not\\n allowed"}'))

    with pytest.raises(CallFailed) as refused:
        serve(answer).get("/v1/jobs")
    assert str(refused.value) == "not allowed"


def test_an_answer_that_is_no_json_is_one_line(serve):
    def answer(line: socket.socket) -> None:
        line.recv(65_536)
        line.sendall(response("200 OK", b"<html>"))

    with pytest.raises(CallFailed, match="no JSON"):
        serve(answer).get("/v1/jobs")


@pytest.mark.parametrize(
    "sent", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_an_agent_killed_amid_an_answer_is_asked_again(serve, sent):
    def answer(line: socket.socket) -> None:
        line.recv(65_536)
        line.sendall(sent)

    with pytest.raises(CallFailed, match="went away before it answered"):
        serve(answer).get("/v1/jobs")


def test_a_body_refused_before_it_was_read_still_tells_why(serve, tmp_path):
    def answer(line: socket.socket) -> None:
        line.recv(1_024)
        line.sendall(response("413 Content Too Large", b'{"detail": "too large"}'))
        line.shutdown(socket.SHUT_RD)  # what still comes is refused

    file = tmp_path / "large"
    file.write_bytes(b"x" * 3_000_000)
    client = serve(answer)
    with file.open("rb") as content:
        status, raw = client.call("POST", "/v1/messages", content, size=3_000_000)
    assert (status, raw) == (413, b'{"detail": "too large"}')
