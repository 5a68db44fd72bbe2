"""Writes the state diagram into docs/architecture.md, between its two marks, from the table."""

from __future__ import annotations

import re
from pathlib import Path

from agent.queue.states import diagram

ARCHITECTURE = Path(__file__).parents[1] / "docs" / "architecture.md"
PLACE = re.compile(r"(?<=<!-- states -->\n).*?(?=<!-- /states -->)", re.DOTALL)


def with_states(text: str) -> str:
    """The document with the diagram as the table has it now."""
    drawn = f"\n```mermaid\n{diagram()}```\n\n"
    written, places = PLACE.subn(lambda _: drawn, text)
    if places != 1:
        raise ValueError("docs/architecture.md must have one pair of marks, <!-- states -->")
    return written


if __name__ == "__main__":
    ARCHITECTURE.write_text(with_states(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
