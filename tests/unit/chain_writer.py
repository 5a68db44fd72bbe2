"""Writes a chain of receipts as a station would."""

from __future__ import annotations

from typing import Any

from agent.crypto.keys import StationKeys
from agent.crypto.receipts import build_receipt, first_prev, hash_of

NOW = 1_893_456_000  # 2030-01-01


class ChainWriter:
    """The receipts so far in ``lines``; ``keys`` may be changed for the next ones."""

    def __init__(self, station: str, keys: StationKeys) -> None:
        self.station, self.keys = station, keys
        self.seq, self.head = 0, first_prev(station)
        self.lines: list[str] = []

    def tell(self, event: str, *, iat: int = NOW, **claims: Any) -> None:
        self.seq += 1
        line = build_receipt(
            self.keys,
            iss=self.station,
            aud="imigrasi-jakarta",
            seq=self.seq,
            prev=self.head,
            iat=iat,
            event=event,
            **claims,
        )
        self.head = hash_of(line)
        self.lines.append(line + "\n")
