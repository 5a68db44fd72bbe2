"""Messages out of a stream of bytes, with bounded memory (CONTRACT section 3: the limits)."""

from __future__ import annotations

from collections.abc import Iterator

from agent.errors import MessageRefused
from agent.model import BATCH_LINES_MAX, BATCH_SIZE_MAX, MESSAGE_SIZE_MAX

WHITE_SPACE = b" \t\r\n"
# How much may come for one message: white space around it is ignored, but not without end.
MESSAGE_STREAM_MAX = 4 * MESSAGE_SIZE_MAX


class MessageBuffer:
    """Collects one message; what is over the limit is counted and not kept."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._too_large = False

    def add(self, piece: bytes) -> None:
        """Takes the next bytes; white space before the message is dropped."""
        if not self._kept:
            piece = piece.lstrip(WHITE_SPACE)
        room = MESSAGE_SIZE_MAX + 1 - len(self._kept)
        self._kept += piece[:room]
        if len(piece) > room and piece[room:].strip(WHITE_SPACE):
            self._too_large = True

    def take(self) -> bytes:
        """The message without white space around it, and an empty buffer.

        One over the limit comes as filler that is over it too, so that whoever judges it says so.
        """
        filler = b"." * (MESSAGE_SIZE_MAX + 1) if self._too_large else None
        message = filler or bytes(self._kept).rstrip(WHITE_SPACE)
        self._kept = bytearray()
        self._too_large = False
        return message

    @property
    def too_large(self) -> bool:
        """Whether the message can no longer be within the limit."""
        return self._too_large


class SequenceReader:
    """Splits ``application/jose-seq`` into its lines, LF or CRLF; empty lines do not count."""

    def __init__(self) -> None:
        self._line = MessageBuffer()
        self._size = 0
        self._line_count = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that end in these bytes.

        Raises:
            MessageRefused: 413, the sequence is over its limits.
        """
        self._size += len(piece)
        if self._size > BATCH_SIZE_MAX:
            raise sequence_too_large()
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._line.add(piece[start:end])
            yield from self.finish()
            start = end + 1
        self._line.add(piece[start:])

    def finish(self) -> Iterator[bytes]:
        """The line that ended, or the last one, which needs no line feed.

        Raises:
            MessageRefused: 413, as in ``feed``.
        """
        line = self._line.take()
        if not line:
            return
        self._line_count += 1
        if self._line_count > BATCH_LINES_MAX:
            raise sequence_too_large()
        yield line


def sequence_too_large() -> MessageRefused:
    """The answer for a whole sequence over its limits."""
    return MessageRefused(
        413,
        "too-large",
        f"a sequence has up to {BATCH_LINES_MAX} messages and {BATCH_SIZE_MAX} bytes:"
        " send it in parts; lines that were durable before stay accepted",
    )


def message_too_large() -> MessageRefused:
    """The answer for one message over its limit."""
    return MessageRefused(413, "too-large", f"the message has more than {MESSAGE_SIZE_MAX} bytes")
