"""What the tests of stations with printers share."""

from __future__ import annotations

import contextlib

import pytest
from desk_fixture import Desk

from agent import worker


@pytest.fixture
def desk(tmp_path, monkeypatch):
    for pause in ("RECONNECT_S", "FAULT_POLL_S", "POLL_S"):
        monkeypatch.setattr(worker, pause, 0.2)
    with contextlib.closing(Desk(tmp_path)) as found:
        yield found
