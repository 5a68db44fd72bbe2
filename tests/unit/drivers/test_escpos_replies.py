from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.drivers.escpos import (
    AutomaticStatus,
    Block,
    ClearedReply,
    Flow,
    FlowByte,
    Garbage,
    OfflineReply,
    ProcessIdReply,
    QueuedStatus,
    RealTimeStatus,
    Reply,
    ReplyParser,
    TextReply,
)

# What a printer says in a session, as bytes and as replies.
TRANSCRIPTS: dict[str, list[tuple[str, Reply]]] = {
    "page-slip, one book": [
        ("37 25 00", ClearedReply()),
        ("5F 42 4B 30 30 31 37 00", TextReply("BK0017")),
        ("5F 50 41 47 45 00", TextReply("PAGE")),
        ("5F 31 32 33 34 35 00", TextReply("12345")),
        ("14 00 60 02", AutomaticStatus(b"\x14\x00\x60\x02")),
        ("72", RealTimeStatus(0x72)),
        ("20", QueuedStatus(0x20)),
        ("14 00 20 02", AutomaticStatus(b"\x14\x00\x20\x02")),
        ("14 00 00 00", AutomaticStatus(b"\x14\x00\x00\x00")),
        ("12", RealTimeStatus(0x12)),
        ("37 22 20 20 31 41 00", ProcessIdReply("  1A")),
        ("14 00 60 02", AutomaticStatus(b"\x14\x00\x60\x02")),
        ("5F 31 32 39 30 30 00", TextReply("12900")),
    ],
    "page-slip, cover opened while printing": [
        ("34 00 00 02", AutomaticStatus(b"\x34\x00\x00\x02")),
        ("3C 40 00 02", AutomaticStatus(b"\x3c\x40\x00\x02")),
        ("37 23 00", OfflineReply(b"")),
        ("37 23 41 7F 00", OfflineReply(b"\x41\x7f")),
        ("1A", RealTimeStatus(0x1A)),
        ("16", RealTimeStatus(0x16)),
        ("37 25 00", ClearedReply()),
    ],
    "column-slip, one book": [
        ("02", QueuedStatus(0x02)),
        ("10 00 60 02", AutomaticStatus(b"\x10\x00\x60\x02")),
        ("72", RealTimeStatus(0x72)),
        ("10 00 00 00", AutomaticStatus(b"\x10\x00\x00\x00")),
        ("12", RealTimeStatus(0x12)),
        ("00", QueuedStatus(0x00)),
        ("10 00 60 02", AutomaticStatus(b"\x10\x00\x60\x02")),
    ],
    "other blocks": [
        ("3D 48 54 00", Block(0x3D, b"HT")),
        ("3B 30 00", Block(0x3B, b"0")),
        ("35 40 00", Block(0x35, b"@")),
        ("37 20 00", Block(0x37, b" ")),
        ("37 27 31 1F 35 00", Block(0x37, b"'1\x1f5")),
        ("5F 00", TextReply("")),
        ("5F C4 31 00", TextReply("\\xc41")),
    ],
}


def merged(replies: list[Reply]) -> list[Reply]:
    """The replies with runs of garbage as one, and flow bytes left out."""
    found: list[Reply] = []
    for reply in replies:
        if isinstance(reply, Flow):
            continue
        if isinstance(reply, Garbage) and found and isinstance(found[-1], Garbage):
            found[-1] = Garbage(found[-1].data + reply.data)
        else:
            found.append(reply)
    return found


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_every_reply_of_a_transcript_is_told_apart(name: str) -> None:
    parser = ReplyParser()
    for data, reply in TRANSCRIPTS[name]:
        assert parser.feed(bytes.fromhex(data)) == [reply]
        assert not parser.unfinished


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_every_split_in_two_gives_the_same_replies(name: str) -> None:
    data = b"".join(bytes.fromhex(part) for part, _ in TRANSCRIPTS[name])
    wanted = [reply for _, reply in TRANSCRIPTS[name]]
    for middle in range(len(data) + 1):
        parser = ReplyParser()
        assert parser.feed(data[:middle]) + parser.feed(data[middle:]) == wanted


@pytest.mark.parametrize("name", TRANSCRIPTS)
@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 200)))
def test_every_fragmentation_gives_the_same_replies(name: str, cuts: list[int]) -> None:
    data = b"".join(bytes.fromhex(part) for part, _ in TRANSCRIPTS[name])
    parser, replies, at = ReplyParser(xonxoff=True), [], 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        replies += parser.feed(data[at:cut])
        at = cut
    assert replies == [reply for _, reply in TRANSCRIPTS[name]]


@settings(deadline=None)
@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400)), xonxoff=st.booleans())
def test_any_bytes_are_accounted_for_in_any_fragmentation(
    data: bytes, cuts: list[int], xonxoff: bool
) -> None:
    whole = ReplyParser(xonxoff=xonxoff)
    at_once = whole.feed(data) + whole.abandon()
    parser, replies, at = ReplyParser(xonxoff=xonxoff), [], 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        replies += parser.feed(data[at:cut])
        at = cut
    replies += parser.abandon()
    assert replies == at_once
    assert not parser.unfinished
    assert sum(map(bytes_of, replies)) == len(data)


def bytes_of(reply: Reply) -> int:
    match reply:
        case RealTimeStatus() | QueuedStatus() | Flow():
            return 1
        case AutomaticStatus():
            return 4
        case ProcessIdReply():
            return 7
        case ClearedReply():
            return 3
        case OfflineReply(causes=causes):
            return 3 + len(causes)
        case TextReply(text=text):
            return 2 + len(text.encode().decode("unicode_escape"))
        case Block(payload=payload):
            return 2 + len(payload)
        case Garbage(data=data):
            return len(data)


@settings(deadline=None)
@given(data=st.binary(max_size=300))
def test_after_any_bytes_and_an_abandon_the_next_reply_is_read(data: bytes) -> None:
    parser = ReplyParser()
    parser.feed(data)
    parser.abandon()
    assert parser.feed(bytes.fromhex("37 22 20 20 31 41 00")) == [ProcessIdReply("  1A")]


@pytest.mark.parametrize("name", TRANSCRIPTS)
@pytest.mark.parametrize("flow", [0x11, 0x13])
def test_flow_bytes_anywhere_change_no_reply(name: str, flow: int) -> None:
    data = b"".join(bytes.fromhex(part) for part, _ in TRANSCRIPTS[name])
    wanted = [reply for _, reply in TRANSCRIPTS[name]]
    for place in range(len(data) + 1):
        parser = ReplyParser(xonxoff=True)
        replies = parser.feed(data[:place] + bytes((flow,)) + data[place:])
        assert replies.count(Flow(FlowByte(flow))) == 1
        assert merged(replies) == wanted


def test_a_flow_byte_on_a_line_without_xonxoff_is_garbage() -> None:
    assert ReplyParser().feed(b"\x13\x12") == [Garbage(b"\x13"), RealTimeStatus(0x12)]


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_flow_byte_within_an_automatic_status_makes_no_queued_status_of_its_rest(
    place: int,
) -> None:
    block = bytes.fromhex("10 00 60 02")
    assert ReplyParser().feed(block[:place] + b"\x13" + block[place:]) == [
        Flow(FlowByte.XOFF),
        AutomaticStatus(block),
    ]


@pytest.mark.parametrize("byte", range(256))
def test_each_single_byte_is_one_class_by_its_fixed_bits(byte: int) -> None:
    parser = ReplyParser(xonxoff=True)
    replies = parser.feed(bytes((byte,)))
    bits = f"{byte:08b}"
    if byte in (0x11, 0x13):
        assert replies == [Flow(FlowByte(byte))]
    elif bits[0] == "0" and bits[3] == "1" and bits[6:] == "10":
        assert replies == [RealTimeStatus(byte)]
    elif bits[0] == "0" and bits[3] == "0":
        assert replies == [QueuedStatus(byte)]
    elif (bits[0] == "0" and bits[3] == "1" and bits[6:] == "00") or byte in (
        *(0x35, 0x37, 0x3B, 0x3D, 0x5F),
    ):
        assert replies == []
        assert parser.unfinished
    else:
        assert replies == [Garbage(bytes((byte,)))]


@pytest.mark.parametrize(
    "broken",
    [
        "37 22 20 20 31 00",  # a character lost
        "37 22 20 20 31 41 42 00",  # one too many
        "37 22 20 20 31 FF 00",  # one garbled
        "37 22 20 20 31 7F 00",
        "37 22 00",
        "37 25 41 00",
        "37 23 3F 00",
        "37 23 40 40 40 40 40 40 40 40 40 40 40 00",  # eleven causes
        "37 00",
        "5F 1F 00",
    ],
)
def test_a_broken_block_is_no_evidence_and_its_00_is_no_status(broken: str) -> None:
    data = bytes.fromhex(broken)
    parser = ReplyParser()
    assert parser.feed(data) == [Garbage(data)]
    assert parser.feed(b"\x12") == [RealTimeStatus(0x12)]


@pytest.mark.parametrize("broken", ["5F 31 32", "37 22 20 20", "37"])
def test_a_control_byte_breaks_a_block_off_and_is_read_for_itself(broken: str) -> None:
    data = bytes.fromhex(broken)
    assert ReplyParser().feed(data + b"\x12") == [Garbage(data), RealTimeStatus(0x12)]
    assert ReplyParser().feed(data + bytes.fromhex("14 00 60 02")) == [
        Garbage(data),
        AutomaticStatus(b"\x14\x00\x60\x02"),
    ]


def test_an_automatic_status_that_broke_off_is_garbage_and_what_follows_is_read() -> None:
    assert ReplyParser().feed(bytes.fromhex("14 00 37 25 00")) == [
        Garbage(b"\x14\x00"),
        ClearedReply(),
    ]
    assert ReplyParser().feed(bytes.fromhex("14 00 14 00 60 02")) == [
        Garbage(b"\x14\x00"),
        AutomaticStatus(b"\x14\x00\x60\x02"),
    ]


def test_a_text_without_end_is_bounded_and_its_tail_is_no_status() -> None:
    parser = ReplyParser()
    replies = parser.feed(b"\x5f" + b"A" * 100_000)
    assert parser.unfinished
    assert len(parser._unit) <= 129
    assert all(isinstance(reply, Garbage) for reply in replies)
    assert parser.feed(b"\0\x72") == [Garbage(b"\0"), RealTimeStatus(0x72)]


def test_a_stuck_half_reply_can_be_abandoned() -> None:
    parser = ReplyParser()
    assert parser.abandon() == []
    parser.feed(bytes.fromhex("37 22 20"))
    assert parser.unfinished
    assert parser.abandon() == [Garbage(b"\x37\x22\x20")]
    assert not parser.unfinished
    assert parser.feed(bytes.fromhex("12")) == [RealTimeStatus(0x12)]
