"""The command's side of the agent's unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.errors import PrintAgentError

TIMEOUT_S = 60.0


class CallFailed(PrintAgentError):
    """The agent refused, or does not answer; the text is one line."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


class Client:
    """Calls to the running agent.

    Args:
        path: Its unix socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def call(
        self, method: str, path: str, body: bytes | None = None, *, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Status and body of an answer.

        Raises:
            CallFailed: Nobody answers.
        """
        connection = _Connection(self.path)
        try:
            connection.request(
                method, path, body, {"Content-Type": kind} if body is not None else {}
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError as error:
            raise CallFailed(
                f"the agent does not answer at {self.path} ({error.strerror or error}); start it with `print-agent run`"
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

    @staticmethod
    def _json(status: int, raw: bytes) -> Any:
        answer = json.loads(raw) if raw else {}
        if status >= 400:
            raise CallFailed(str(answer.get("detail") or answer.get("title") or status))
        return answer


def part(text: str) -> str:
    """A piece of a path."""
    return quote(text, safe="")
