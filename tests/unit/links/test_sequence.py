from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import MessageRefused
from agent.links import sequence
from agent.links.sequence import MessageBuffer, SequenceReader
from agent.model import MESSAGE_SIZE_MAX


def lines_of(pieces: list[bytes]) -> list[bytes]:
    reader = SequenceReader()
    found = [line for piece in pieces for line in reader.feed(piece)]
    return [*found, *reader.finish()]


@given(st.lists(st.sampled_from([b"a", b"bc", b"\r\n", b"\n", b" ", b"\r", b"d e"])), st.data())
def test_however_it_is_cut_the_lines_are_the_same(words: list[bytes], data: st.DataObject):
    text = b"".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert lines_of(pieces) == [line.strip() for line in text.split(b"\n") if line.strip()]


@pytest.mark.parametrize("excess", [b"x", b" x", b" " * 99 + b"x"])
def test_what_is_over_the_limit_is_not_cut_into_something_that_is_within(excess: bytes):
    buffer = MessageBuffer()
    buffer.add(b"m" * MESSAGE_SIZE_MAX)
    buffer.add(excess[:1])
    buffer.add(excess[1:])
    assert len(buffer.take().strip()) > MESSAGE_SIZE_MAX


def test_the_limit_with_white_space_around_it_is_within():
    buffer = MessageBuffer()
    for piece in (b" \r\n", b"m" * MESSAGE_SIZE_MAX, b"\r\n" * 9, b" "):
        buffer.add(piece)
    assert not buffer.too_large
    assert len(buffer.take()) == MESSAGE_SIZE_MAX


def test_a_buffer_that_was_too_large_starts_anew():
    buffer = MessageBuffer()
    buffer.add(b"m" * (MESSAGE_SIZE_MAX + 2))
    buffer.take()
    buffer.add(b"next")
    assert buffer.take() == b"next"


def test_empty_lines_do_not_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sequence, "BATCH_LINES_MAX", 2)
    assert lines_of([b"\n\na\n\n\r\nb\n\n"]) == [b"a", b"b"]
    with pytest.raises(MessageRefused):
        lines_of([b"a\nb\nc"])
