"""The control socket of the virtual printer: one JSON object a line, in both directions.

A request is ``{"command": NAME, ...}``; its answer has ``"ok": true``,
or ``"ok": false`` and ``error``.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

SOCKET_NAME = "control.sock"
LINE_SIZE_MAX = 16 * 1024 * 1024  # bytes: a page's dots or picture in base64 fit many times


def _short_path(directory_fd: int, name: str) -> str:
    # A unix socket's address has 108 bytes; a longer directory is reached by descriptor on Linux.
    return f"/proc/self/fd/{directory_fd}/{name}"


def listen(directory: Path) -> socket.socket:
    """Binds the control socket, for its owner alone."""
    (directory / SOCKET_NAME).unlink(missing_ok=True)
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(_short_path(directory_fd, SOCKET_NAME))
        finally:
            os.umask(before)
        listener.listen()
        listener.settimeout(0.0)
        return listener
    finally:
        os.close(directory_fd)


def connect(directory: Path) -> socket.socket:
    """Connects to the control socket.

    Raises:
        OSError: there is none, or nobody listens.
    """
    return connect_path(directory / SOCKET_NAME)


def connect_path(path: Path) -> socket.socket:
    """Connects to any unix socket, however long its path.

    Raises:
        OSError: there is none, or nobody listens.
    """
    directory_fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(_short_path(directory_fd, path.name))
        except OSError:
            connection.close()
            raise
        return connection
    finally:
        os.close(directory_fd)
