"""What this process has in its memory stays there: no core dumps, and no texts of errors that nobody foresaw.

Such a text may hold whatever was at hand when something broke: a name, a line of a machine-readable zone.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

_PR_SET_DUMPABLE = 4  # prctl(2)


def keep_memory_private() -> None:
    """For the whole process, once, before anything is opened; its children inherit the limit."""
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The limit does not hold for a core that the kernel pipes into a program (core(5)); this does.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(0) for _ in range(4)))
    sys.excepthook = lambda _, error, __: _tell("stopped", error)
    threading.excepthook = lambda found: _tell("a thread stopped", found.exc_value)
    sys.unraisablehook = lambda found: _tell("ignored", found.exc_value)
    assert logging.lastResort is not None
    logging.lastResort.setFormatter(_WithoutTexts())


def place_of(error: BaseException | None) -> str:
    """An error's kind and place, never its text."""
    frames = traceback.extract_tb(None if error is None else error.__traceback__)
    place = (
        f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
    )
    return f"{type(error).__name__} at {place}"


def _tell(what: str, error: BaseException | None) -> None:
    sys.stderr.write(f"print-agent: {what}: {place_of(error)}\n")


class _WithoutTexts(logging.Formatter):
    """Log lines whose tracebacks are reduced to kind and place."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        error: tuple[type[BaseException], BaseException, TracebackType | None] = ei
        return place_of(error[1])
