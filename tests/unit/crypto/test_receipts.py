from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import jose
from agent.crypto.keys import Signer, StationKeys
from agent.crypto.receipts import (
    ChainBroken,
    ChainVerifier,
    ReceiptSigner,
    build_receipt,
    first_prev,
    hash_of,
    public_keys,
    read_receipt,
)
from tests.unit.crypto.crypto_samples import AUTHORITY, KEYS, NOW, STATION, segment

PUBLIC = public_keys(KEYS.public_jwks())


class Chain:
    """A station's chain as the journal would write it."""

    def __init__(self, keys: Signer = KEYS, station: str = STATION) -> None:
        self.keys, self.station = keys, station
        self.lines: list[str] = []
        self.seq, self.head = 0, first_prev(station)

    def add(self, event: str = "job-accepted", **over: Any) -> str:
        fields = {
            "iss": self.station,
            "aud": AUTHORITY,
            "seq": self.seq + 1,
            "prev": self.head,
            "iat": NOW,
            "event": event,
        } | over
        line = build_receipt(self.keys, **fields)
        self.lines.append(line)
        self.seq, self.head = fields["seq"], hash_of(line)
        return line

    def branch(self) -> Chain:
        other = Chain(self.keys, self.station)
        other.lines, other.seq, other.head = list(self.lines), self.seq, self.head
        return other


def chain(length: int) -> Chain:
    made = Chain()
    for _ in range(length):
        made.add()
    return made


def verifier(**over: Any) -> ChainVerifier:
    return ChainVerifier(STATION, PUBLIC, authority_id=AUTHORITY, **over)


def break_in(lines: list[str]) -> str:
    """The only fault of these receipts."""
    (fault,) = verifier().faults(lines)
    return fault.detail


def test_a_receipt_holds_exactly_what_was_given() -> None:
    line = build_receipt(
        KEYS,
        iss=STATION,
        aud=AUTHORITY,
        seq=1,
        prev=first_prev(STATION),
        iat=NOW,
        event="job-accepted",
        job="a",
        state="pending",
        reasons=(),
        evidence={"note": "\u00fc"},
    )
    claims = read_receipt(line, PUBLIC)
    assert claims == {
        "iss": STATION,
        "aud": AUTHORITY,
        "seq": 1,
        "prev": jose.sha256_base64url(STATION.encode()),
        "iat": NOW,
        "event": "job-accepted",
        "job": "a",
        "state": "pending",
        "reasons": [],
        "evidence": {"note": "\u00fc"},
    }
    header = jose.parse_object(jose.decode_base64url(line.split(".")[0].encode()))
    assert header == {"alg": "Ed25519", "kid": KEYS.kid, "typ": "print-receipt+jwt"}


def test_a_receipt_kept_in_two_pieces_is_the_same_receipt() -> None:
    signer = ReceiptSigner(KEYS.signing)
    line = chain(1).lines[0]
    payload, signature = signer.sign(read_receipt(line, PUBLIC))
    assert signer.text(signer.kid, payload, signature) == line
    assert signer.hash_of(line) == hash_of(line)
    assert signer.first_prev(STATION) == first_prev(STATION)
    assert [signer.public_jwk()] == KEYS.public_jwks()["keys"][:1]


@pytest.mark.parametrize(
    "jwks",
    [
        {},
        {"keys": 7},
        {"keys": [{"crv": "Ed25519", "kty": "EC", "x": "AA"}]},
        {"keys": [{"crv": "Ed25519", "kty": "OKP", "x": 7}]},
        {"keys": [KEYS.public_jwks()["keys"][0] | {"kid": "another"}]},
        {"keys": [7]},
    ],
    ids=["empty", "no-list", "other-type", "number-as-x", "other-thumbprint", "number-as-key"],
)
def test_a_public_set_that_is_wrong_is_refused(jwks: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="key"):
        public_keys(jwks)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"alg": "Ed25519", "kid": KEYS.kid, "typ": "JWT"}, "typ"),
        ({"alg": "Ed25519", "kid": KEYS.kid}, "typ"),
        ({"alg": "EdDSA", "kid": KEYS.kid, "typ": "print-receipt+jwt"}, "not the station's"),
        ({"alg": "Ed25519", "kid": 7, "typ": "print-receipt+jwt"}, "not the station's"),
    ],
)
def test_the_header_of_a_receipt_is_exact(header: dict[str, Any], text: str) -> None:
    _, payload, _ = chain(1).lines[0].split(".")
    signing_input = segment(header).decode() + "." + payload
    bent = f"{signing_input}.{segment(KEYS.sign(signing_input.encode())).decode()}"
    with pytest.raises(ChainBroken, match=text):
        read_receipt(bent, PUBLIC)


@pytest.mark.parametrize(
    "over", [{"seq": 0}, {"seq": True}, {"iat": -1}, {"prev": 7}, {"event": None}]
)
def test_a_receipt_without_its_claims_is_a_break(over: dict[str, Any]) -> None:
    made = Chain()
    line = made.add()
    payload = segment(read_receipt(line, PUBLIC) | over).decode()
    signing_input = line.split(".", maxsplit=1)[0] + "." + payload
    bent = f"{signing_input}.{segment(KEYS.sign(signing_input.encode())).decode()}"
    with pytest.raises(ChainBroken, match="no "):
        read_receipt(bent, PUBLIC)


def test_a_whole_chain_is_accepted() -> None:
    made = chain(5)
    reader = verifier()
    assert reader.faults(made.lines) == []
    assert (reader.seq, reader.head) == (5, made.head)


def test_a_chain_is_continued_from_where_it_was_left() -> None:
    made = chain(5)
    assert verifier(seq=3, head=hash_of(made.lines[2])).faults(made.lines[3:]) == []
    assert verifier(seq=3, head=hash_of(made.lines[1])).faults(made.lines[3:])


def test_a_missing_receipt_is_a_gap_told_once() -> None:
    made = chain(5)
    assert "gap" in break_in(made.lines[:2] + made.lines[3:])
    assert "gap" in break_in(made.lines[1:])


def test_two_branches_are_a_fork() -> None:
    made = chain(3)
    other = made.branch()
    made.add()
    other.add("job-canceled")
    assert "fork" in break_in([*made.lines, other.lines[-1]])
    other.add()
    assert "fork" in break_in([*made.lines, other.lines[-1]])


def test_the_same_receipt_again_is_no_break_of_what_is_read_and_never_the_next_one() -> None:
    made = chain(3)
    reader = verifier()
    assert reader.faults([*made.lines, made.lines[1]]) == []
    with pytest.raises(ChainBroken, match="came before"):
        reader.add(made.lines[1])


def test_another_station_or_authority_is_told() -> None:
    made = Chain(station="another")
    made.head = first_prev(STATION)
    made.add()
    assert "another station" in break_in(made.lines)
    made = Chain()
    made.add(aud="another")
    assert "another authority" in break_in(made.lines)
    assert ChainVerifier(STATION, PUBLIC).faults(made.lines) == []


def test_a_chain_begins_at_the_hash_of_the_station() -> None:
    made = Chain()
    made.add(prev=first_prev("another"))
    assert "fork" in break_in(made.lines)


def test_a_receipt_of_another_key_does_not_count() -> None:
    assert "not the station's" in break_in(_signed_by(StationKeys.generate()).lines)


def _signed_by(keys: Signer) -> Chain:
    made = Chain(keys)
    made.add()
    return made


@given(st.integers(0, 10_000), st.sampled_from("AQgw_-.=\u00e9"))
def test_any_changed_character_breaks_the_chain(at: int, character: str) -> None:
    line = chain(1).lines[0]
    at %= len(line)
    bent = line[:at] + character + line[at + 1 :]
    if bent != line:
        with pytest.raises(ChainBroken):
            verifier().add(bent)


@given(st.text(max_size=60))
def test_any_text_is_a_break_and_nothing_else(text: str) -> None:
    with pytest.raises(ChainBroken):
        verifier().add(text)


def test_after_a_rotation_only_the_new_key_counts() -> None:
    new = KEYS.rotate(NOW, 60)
    made = chain(2)
    made.add("keys-rotated", evidence=new.public_jwks())
    old = made.branch()
    made.keys = new
    made.add()
    made.add()
    assert verifier().faults(made.lines) == []
    old.add()
    assert "not the station's at this point" in break_in(old.lines)


def test_a_rotation_is_signed_by_the_old_key() -> None:
    new = KEYS.rotate(NOW, 60)
    made = chain(1)
    made.keys = new
    made.add("keys-rotated", evidence=new.public_jwks())
    assert "not the station's" in break_in(made.lines)


@pytest.mark.parametrize(
    "evidence",
    [None, {}, {"keys": []}, {"keys": 7}, {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}],
    ids=repr,
)
def test_a_rotation_without_the_new_keys_is_a_break(evidence: Any) -> None:
    made = chain(1)
    made.add("keys-rotated", evidence=evidence)
    assert "without the new public keys" in break_in(made.lines)


def test_a_resumption_may_jump_past_what_the_authority_holds() -> None:
    made = chain(3)
    evidence = {"through": 9, "head": "h", "forked_after": None}
    made.add("journal-resumed", seq=10, evidence=evidence)
    made.add()
    assert verifier().faults(made.lines) == []


def test_a_resumption_behind_the_local_chain_is_just_the_next() -> None:
    made = chain(3)
    made.add("journal-resumed", evidence={"through": 1, "head": "h", "forked_after": 1})
    assert verifier().faults(made.lines) == []


@pytest.mark.parametrize("seq", [5, 9, 11])
def test_a_resumption_jumps_no_other_way(seq: int) -> None:
    made = chain(3)
    made.add("journal-resumed", seq=seq, evidence={"through": 9, "head": "h"})
    assert "gap" in break_in(made.lines)


def test_no_other_event_may_jump() -> None:
    made = chain(3)
    made.add("journal-rolled-back", seq=10, evidence={"through": 9, "head": "h"})
    assert "gap" in break_in(made.lines)


def test_the_authority_reads_on_after_the_rollback_that_it_resumed() -> None:
    lost = chain(3)
    restored = lost.branch()
    for _ in range(4):
        lost.add()
    restored.add("journal-rolled-back")
    evidence = {"through": 7, "head": lost.head, "forked_after": 3}
    resumed = restored.add("journal-resumed", seq=8, evidence=evidence)
    after = restored.add()
    assert verifier().faults([*lost.lines, resumed, after]) == []
    assert verifier().faults(restored.lines) == []
    denied = restored.branch()
    denied.seq, denied.head = 4, hash_of(restored.lines[3])
    bent = denied.add("journal-resumed", seq=8, evidence=evidence | {"head": "other"})
    assert "fork" in break_in([*lost.lines, bent])


def test_a_set_without_a_signing_key_is_refused() -> None:
    encryption_only = {"keys": KEYS.public_jwks()["keys"][1:]}
    with pytest.raises(ValueError, match="no Ed25519 key"):
        public_keys(encryption_only)
