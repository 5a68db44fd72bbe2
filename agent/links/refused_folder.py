"""The folder of refused messages, each beside its problem (CONTRACT section 6)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REFUSED_FILES_MAX = 1_000
NAME_LENGTH_MAX = 200  # bytes: leaves room for a suffix and ``.problem.json``
PROBLEM_ENDING = ".problem.json"
FOLDER_MODE = 0o750


@contextlib.contextmanager
def open_folder(path: Path | str, *, parent: int | None = None) -> Iterator[int]:
    """A descriptor of a folder that is no link, made where it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, FOLDER_MODE, dir_fd=parent)
    descriptor = os.open(
        path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
    )
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def free_name(folder: int, name: str) -> str:
    """``name``, with a suffix where it is taken, shortened where it would become too long."""
    encoded = os.fsencode(name)
    if len(encoded) > NAME_LENGTH_MAX:
        short = os.fsdecode(encoded[: NAME_LENGTH_MAX - 60])
        name = f"{short}.{hashlib.sha256(encoded).hexdigest()[:32]}"
    found, number = name, 0
    while exists(folder, found):
        number += 1
        found = f"{name}.{number}"
    return found


def exists(folder: int, name: str) -> bool:
    """Whether anything has this name in the folder."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class RefusedFolder:
    """``refused/`` of an inbox, shared by whatever brings messages that nobody waits for.

    Args:
        inbox: The inbox's folder.
    """

    def __init__(self, inbox: Path) -> None:
        self._inbox = inbox
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def place(self, inbox: int, name: str, problem: Any) -> Iterator[tuple[int, str]]:
        """Makes room and writes the problem; the caller then puts the message beside it.

        Args:
            inbox: A descriptor of the inbox's folder.
            name: The message's file name.
            problem: What becomes ``NAME.problem.json``.

        Yields:
            The folder's descriptor and the name that the message must get there.
        """
        with self._lock, open_folder("refused", parent=inbox) as folder:
            self._bound(folder)
            free = free_name(folder, name)
            self._write(folder, free + PROBLEM_ENDING, json.dumps(problem).encode() + b"\n")
            yield folder, free
            os.fsync(folder)

    def keep(self, name: str, raw: bytes, problem: Any) -> None:
        """Keeps a refused message that came on another way than a file; durable on return."""
        with (
            open_folder(self._inbox) as inbox,
            self.place(inbox, name, problem) as (folder, free),
        ):
            self._write(folder, free, raw)

    @staticmethod
    def _write(folder: int, name: str, content: bytes) -> None:
        """A whole file or none: written under a hidden name, then renamed."""
        hidden = ".writing"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(hidden, flags, 0o640, dir_fd=folder), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)

    @staticmethod
    def _bound(folder: int) -> None:
        """Makes room for two files: the oldest go, a message together with its problem."""
        groups: dict[str, list[str]] = {}
        ages: dict[str, int] = {}
        for name in os.listdir(folder):
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                continue
            message = name.removesuffix(PROBLEM_ENDING)
            groups.setdefault(message, []).append(name)
            # The change time tells when it came here: a rename keeps the time of writing.
            ages[message] = max(ages.get(message, 0), status.st_ctime_ns)
        count = sum(map(len, groups.values()))
        for message in sorted(groups, key=lambda each: ages[each]):
            if count + 2 <= REFUSED_FILES_MAX:
                return
            for name in groups[message]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                count -= 1
