"""Replies that wait until the host takes them."""

from __future__ import annotations

import enum


class ReplyKind(enum.IntEnum):
    """Replies of which only the newest is kept, in order of priority; OTHER are all kept."""

    PROCESS_ID = 1
    OFFLINE = 2
    CLEARED = 3
    OTHER = 9


class ReplyQueue:
    """What the printer has to say, oldest first (priorities: PRINTERS.md section 1.1).

    Args:
        size_max: bytes that fit; what comes beyond them is lost.
    """

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._replies: list[tuple[ReplyKind, bytes]] = []

    def add(self, data: bytes, kind: ReplyKind = ReplyKind.OTHER) -> None:
        """Adds a reply; one that is replaced goes unsent."""
        if kind is not ReplyKind.OTHER:
            self._replies = [reply for reply in self._replies if reply[0] is not kind]
        elif sum(len(reply) for _, reply in self._replies) + len(data) > self._size_max:
            return
        self._replies.append((kind, data))

    def take(self, limit: int | None) -> bytes:
        """Whole replies, until the limit's size is reached."""
        if not self._replies:
            return b""
        slots = [index for index, (kind, _) in enumerate(self._replies) if kind < ReplyKind.OTHER]
        ranked = sorted((self._replies[index] for index in slots), key=lambda reply: reply[0])
        for index, reply in zip(slots, ranked, strict=True):
            self._replies[index] = reply
        output = bytearray()
        while self._replies and (limit is None or len(output) < limit):
            output += self._replies.pop(0)[1]
        return bytes(output)
