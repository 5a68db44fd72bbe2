"""Root makes files in the state directory for the user whose directory it is: the agent must be able to open them."""

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
