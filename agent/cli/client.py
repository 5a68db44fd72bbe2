"""The command's side of the agent's unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from agent.errors import PrintAgentError

TIMEOUT_S = 60.0  # an act may wait 30 s until a page was cleared
SEQUENCE_TIMEOUT_S = 900.0  # what the agent itself gives a sequence
BLOCK_SIZE = 64 * 1024  # bytes of a file that are sent at once
RECEIPTS_LIMIT = 1_000  # the most that one call gives, CONTRACT section 5


class CallFailed(PrintAgentError):
    """The agent refused, or does not answer; the text is one line."""


class AgentAbsent(CallFailed):
    """Nobody listens on the socket: the agent does not run."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, *, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s, blocksize=BLOCK_SIZE)
        self._path = path

    def connect(self) -> None:
        self.sock = _connected(self._path, timeout_s=self.timeout)


def _connected(path: Path, *, timeout_s: float | None) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    try:
        line.settimeout(timeout_s)
        line.connect(str(path))
    except PermissionError as error:
        line.close()
        raise CallFailed(
            f"{path}: this user may not talk to the agent; join the socket's group, or use sudo"
        ) from error
    except OSError as error:
        line.close()
        if isinstance(error, TimeoutError):
            raise CallFailed(f"the agent does not answer at {path}") from error
        raise AgentAbsent(
            f"the agent does not run (no answer at {path}): start it with `systemctl start print-agent`"
        ) from error
    return line


class Client:
    """Calls to the running agent.

    Args:
        path: Its unix socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def runs(self) -> bool:
        """Whether somebody listens.

        Raises:
            CallFailed: Somebody may, but not to this user.
        """
        try:
            _connected(self.path, timeout_s=TIMEOUT_S).close()
        except AgentAbsent:
            return False
        return True

    def process(self) -> int:
        """The process id of the agent that listens (unix(7), SO_PEERCRED).

        Raises:
            CallFailed: Nobody listens.
        """
        line = _connected(self.path, timeout_s=TIMEOUT_S)
        try:
            credentials = line.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
        finally:
            line.close()
        process, _, _ = struct.unpack("3i", credentials)
        return int(process)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        *,
        kind: str = "application/json",
        size: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> tuple[int, bytes]:
        """Status and body of an answer.

        Args:
            method: GET or POST.
            path: With its query.
            body: Bytes, or a file that is sent as a stream.
            kind: The body's media type.
            size: How many bytes a file has.
            timeout_s: How long to wait for each piece of the answer.

        Raises:
            CallFailed: Nobody answers.
        """
        headers = {} if body is None else {"Content-Type": kind}
        if size is not None:
            headers["Content-Length"] = str(size)
        connection = _Connection(self.path, timeout_s=timeout_s)
        try:
            # A body that is refused early breaks the pipe; the answer is there all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except TimeoutError as error:
            raise CallFailed(f"the agent did not answer within {timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise CallFailed(
                "the agent went away before it answered: ask again, every call may be repeated"
            ) from error
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The JSON of an answer.

        Raises:
            CallFailed: It refused, or does not answer.
        """
        return self._json(*self.call("GET", path))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Likewise, for an act."""
        return self._json(*self.call("POST", path, json.dumps(body).encode()))

    def receipts(self, after: int) -> list[str]:
        """Up to ``RECEIPTS_LIMIT`` receipts after that ``seq``.

        Raises:
            CallFailed: It refused, or does not answer.
        """
        status, raw = self.call("GET", f"/v1/receipts?after={after}&limit={RECEIPTS_LIMIT}")
        if status != 200:
            self._json(status, raw)
        return raw.decode("ascii").split()

    @staticmethod
    def _json(status: int, raw: bytes) -> Any:
        answer = decoded(raw)
        if status >= 400:
            raise CallFailed(sentence_of(answer, status))
        return answer


def decoded(raw: bytes) -> Any:
    """The JSON of an answer's body.

    Raises:
        CallFailed: It is none.
    """
    try:
        return json.loads(raw) if raw else {}
    except ValueError:
        raise CallFailed("the answer is no JSON: is it the agent that listens there?") from None


def sentence_of(answer: Any, status: int) -> str:
    """Problem details (RFC 9457) as one line."""
    told = answer if isinstance(answer, dict) else {}
    sentence = told.get("detail") or told.get("title") or f"refused with status {status}"
    return " ".join(str(sentence).split())


def part(text: str) -> str:
    """A piece of a path."""
    return quote(text, safe="")
