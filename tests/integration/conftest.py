"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from printer_bench import Bench

from agent.drivers import transport_serial


@pytest.fixture
def benches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    """Makes a bench; the serial transport's waiting is then in its virtual time."""
    made: list[Bench] = []

    def make(profile: str = "page-slip", **settings: Any) -> Bench:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        bench = Bench(folder, profile, **settings)
        monkeypatch.setattr(transport_serial, "_monotonic", bench.monotonic)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.close()
