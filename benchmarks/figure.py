"""One figure: what was measured, and what was to be reached."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    Attributes:
        what: What it is about.
        measured: Its value.
        goal: The greatest value that is good.
        unit: Of both; ``x`` where they are ratios.
        detail: What the value was made of.
    """

    what: str
    measured: float
    goal: float
    unit: str
    detail: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.measured):
            raise ValueError(f"{self.what}: could not be measured ({self.measured})")

    @property
    def share(self) -> float:
        """How much of the goal is used up."""
        return self.measured / self.goal

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.measured <= self.goal

    def told(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"share": round(self.share, 4), "met": self.met}
