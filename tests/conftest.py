"""What all tests share: how hard hypothesis searches, and the contract's vectors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    derandomize=True,  # the same examples in every run: a failure is a change's, not chance's
    deadline=None,  # two shared cores say nothing about an example's time
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "deep", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def vectors_dir() -> Path:
    """The copy of the contract's vectors, with trust.jwks and station.jwks beside the index."""
    return Path(__file__).parent / "vectors"


@pytest.fixture(scope="session")
def vectors_index(vectors_dir: Path) -> dict[str, Any]:
    """index.json: ``station``, ``authority``, ``now`` and the ``vectors`` in their order."""
    index: dict[str, Any] = json.loads((vectors_dir / "index.json").read_text(encoding="utf-8"))
    return index
