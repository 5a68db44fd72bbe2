"""Documents for tests of the page; nobody's data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from agent.model import TravelDocument

VECTORS = Path(__file__).parents[2] / "vectors"
PAGE = {"dpi_x": 180, "dpi_y": 180, "width": 886, "height": 624}
COLUMN_PAGE = {"dpi_x": 80, "dpi_y": 72, "width": 394, "height": 249}
SMALL_PAGE = {"dpi_x": 12, "dpi_y": 12, "width": 60, "height": 42}

SAMPLE = TravelDocument(
    document_type="P",
    issuing_state="IDN",
    nationality="IDN",
    primary_identifier="CONTOHWATI",
    secondary_identifier="NINGRUM FIKTIFA",
    document_number="C1234567",
    date_of_birth="1991-03-14",
    date_of_issue="2026-01-02",
    date_of_expiry="2036-01-02",
    sex="F",
    place_of_birth="SAMBAS",
    issuing_authority="KANTOR CONTOH SAMBAS",
    personal_number="32010155667788",
    mrz=(
        "P<IDNCONTOHWATI<<NINGRUM<FIKTIFA<<<<<<<<<<<<",
        "C1234567<9IDN9103145F3601025320101556677880<",
    ),
    photo=(VECTORS / "photos" / "portrait-1.jpg").read_bytes(),
)


def sample(**fields: Any) -> TravelDocument:
    """The sample with other fields."""
    return dataclasses.replace(SAMPLE, **fields)


def vector_zones() -> list[tuple[str, str]]:
    """Every machine-readable zone that the contract's vectors name, each once."""
    index = json.loads((VECTORS / "index.json").read_text())
    zones = {tuple(vector["mrz"]) for vector in index["vectors"] if vector.get("mrz")}
    return sorted((first, second) for first, second in zones)
