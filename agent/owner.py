"""Root works in the state directory as the user whose directory it is: what he may not open, the agent cannot."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Root becomes the directory's owner meanwhile; everybody else stays who they are."""
    if os.geteuid() != 0 or not directory.is_dir():
        yield
        return
    root, status = os.getegid(), directory.stat()
    os.setegid(status.st_gid)
    os.seteuid(status.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(root)


def give_back(file: Path) -> str:
    """What to do about a file that the agent's user may not open."""
    return f"use sudo, or give it to the agent's user (`chown print-agent: {file}`)"
