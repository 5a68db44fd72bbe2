from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import jose, keys
from agent.crypto.verifier import open_envelope, read_claims
from agent.errors import MessageRefused
from agent.model import MESSAGE_SIZE_MAX, Action, Authorization, Directive, Envelope
from tests.unit.crypto.crypto_samples import (
    AUTHORITY,
    ROOT,
    STATION,
    TRUST,
    TRUST_JWKS,
    claims,
    directive,
    public_jwk,
    segment,
    sign,
    trust_update,
)

BOOKS = [{"number": "C0000001", "document": "sealed"}]
HEAD = jose.sha256_base64url(b"head")


def opened(raw: bytes) -> Envelope:
    return open_envelope(raw, trust=TRUST, station_id=STATION, authority_id=AUTHORITY)


def read(raw: bytes) -> Authorization | Directive:
    return read_claims(opened(raw))


def answer(raw: bytes) -> tuple[int, str]:
    with pytest.raises(MessageRefused) as refused:
        read(raw)
    return refused.value.status, refused.value.name


def test_an_authorization_is_read() -> None:
    body = claims(books=BOOKS, nbf=5, application="A-1", note="ignored")
    authorization = read(b" \r\n" + sign(body) + b"\t\n")
    assert isinstance(authorization, Authorization)
    assert authorization.priority == 50
    assert authorization.application == "A-1"
    assert [entry.number for entry in authorization.books] == ["C0000001"]
    envelope = authorization.envelope
    assert (envelope.jti, envelope.seq, envelope.nbf) == ("job-1", 1, 5)
    assert envelope.text == sign(body)
    assert envelope.sha256 == hashlib.sha256(json.dumps(body).encode()).digest()
    assert "sealed" not in repr(authorization.envelope)


def test_one_payload_signed_twice_is_the_same_content() -> None:
    body = claims(books=BOOKS)
    other = TRUST_JWKS["keys"][0]["kid"]
    first, second = sign(body), sign(body, kid=other)
    assert opened(first).sha256 == opened(second).sha256


@pytest.mark.parametrize(
    "value", [None, "", 7, True, [], {}, "a b", "x\n", "\u00e9", "a" * 65, "-a"]
)
@pytest.mark.parametrize("name", ["jti"])
def test_a_bad_jti_is_refused(name: str, value: object) -> None:
    assert answer(sign(claims(books=BOOKS, jti=value))) == (400, "malformed")


@pytest.mark.parametrize("name", ["seq", "iat", "exp", "nbf"])
@pytest.mark.parametrize("value", [None, "1", 1.0, -1, True, 2**53, [1]])
def test_a_bad_integer_is_refused_before_the_audience_is_looked_at(
    name: str, value: object
) -> None:
    body = claims(books=BOOKS, aud="another") | {name: value}
    assert answer(sign(body)) == (400, "malformed")


@pytest.mark.parametrize("name", ["iss", "aud"])
@pytest.mark.parametrize("value", [None, 7, ["sambas-01"], {}])
def test_a_bad_issuer_or_audience_is_malformed_and_another_one_wrong(
    name: str, value: object
) -> None:
    assert answer(sign(claims(books=BOOKS) | {name: value})) == (400, "malformed")
    assert answer(sign(claims(books=BOOKS) | {name: "another"})) == (403, "wrong-station")


@pytest.mark.parametrize(
    "over",
    [
        {"priority": None},
        {"priority": 0},
        {"priority": 101},
        {"priority": True},
        {"application": None},
        {"application": "A" * 65},
        {"books": None},
        {"books": []},
        {"books": BOOKS * 2},
        {"books": [{"number": f"C{i}", "document": ""} for i in range(5)]},
        {"books": ["C1"]},
        {"books": [{"number": "C1"}]},
        {"books": [{"number": "C1", "document": 7}]},
        {"books": [{"number": "C1\n", "document": ""}]},
        {"books": [{"number": 7, "document": ""}]},
    ],
    ids=repr,
)
def test_a_bad_authorization_is_malformed(over: dict[str, Any]) -> None:
    assert answer(sign(claims(books=BOOKS) | over)) == (400, "malformed")


@pytest.mark.parametrize(
    "over",
    [
        {"action": "revoke", "job": "a", "reason": ""},
        {"action": "hold", "job": "a", "reason": "x" * 256},
        {"action": "release", "job": "a", "reason": "r"},
        {"action": "transfer", "job": "a", "to": "elsewhere"},
        {"action": "retire", "reason": "r"},
        {"action": "acknowledge", "through": 0, "head": HEAD},
        {"action": "resume", "through": 9, "head": HEAD, "printed": ["a", "b"]},
        {"action": "resume", "through": 9, "head": HEAD, "printed": []},
    ],
    ids=lambda over: over["action"],
)
def test_a_directive_is_read_and_each_of_its_claims_is_needed(over: dict[str, Any]) -> None:
    order = read(directive(**over))
    assert isinstance(order, Directive)
    for name, value in over.items():
        found = getattr(order, name)
        assert found == (tuple(value) if isinstance(value, list) else value)
        left = {key: kept for key, kept in over.items() if key != name}
        assert answer(directive(**left)) == (400, "malformed")


@pytest.mark.parametrize(
    "over",
    [
        {"action": ["revoke"]},
        {"action": "Revoke", "job": "a", "reason": ""},
        {"action": "revoke", "job": "a/b", "reason": ""},
        {"action": "revoke", "job": "a", "reason": "x" * 257},
        {"action": "revoke", "job": "a", "reason": None},
        {"action": "transfer", "job": "a", "to": ""},
        {"action": "transfer", "job": "a", "to": "x" * 65},
        {"action": "acknowledge", "through": -1, "head": HEAD},
        {"action": "acknowledge", "through": 1, "head": HEAD[:-1]},
        {"action": "acknowledge", "through": 1, "head": HEAD[:-1] + "="},
        {"action": "acknowledge", "through": 1, "head": "\u00e9" * 43},
        {"action": "resume", "through": 1, "head": HEAD, "printed": "abc"},
        {"action": "resume", "through": 1, "head": HEAD, "printed": ["a", 7]},
        {"action": "resume", "through": 1, "head": HEAD, "printed": [["a"]]},
    ],
    ids=repr,
)
def test_a_bad_directive_is_malformed(over: dict[str, Any]) -> None:
    assert answer(directive(**over)) == (400, "malformed")


def test_a_trust_update_carries_the_version_of_the_claim() -> None:
    order = read(trust_update(TRUST_JWKS | {"version": 3, "comment": 1e300}, version=7))
    assert isinstance(order, Directive)
    assert (order.action, order.version) == (Action.TRUST, 7)
    assert keys.TrustStore.from_jwks(order.jwks).version == 7


@pytest.mark.parametrize(
    "over",
    [
        {"jwks": {"keys": [public_jwk(ROOT, "a")]}},
        {"jwks": None},
        {"version": None},
        {"version": "2"},
        {"jti": None},
        {"seq": 0},
    ],
    ids=repr,
)
def test_a_malformed_trust_update_of_root_is_no_bad_signature(over: dict[str, Any]) -> None:
    assert answer(trust_update(TRUST_JWKS, **over)) == (400, "malformed")


@pytest.mark.parametrize("action", ["revoke", "acknowledge", "print-all", None, ["trust"], 7])
def test_root_signs_nothing_but_trust_updates(action: object) -> None:
    assert answer(trust_update(TRUST_JWKS, action=action)) == (401, "bad-signature")


def test_an_issuer_signs_no_trust_update_for_whichever_station() -> None:
    body = {"action": "trust", "version": 1, "jwks": TRUST_JWKS}
    assert answer(directive(**body)) == (401, "bad-signature")
    assert answer(directive(**body, aud="another")) == (401, "bad-signature")


def test_an_authorization_may_have_a_claim_named_action() -> None:
    assert isinstance(read(sign(claims(books=BOOKS, action="trust"))), Authorization)


def test_a_signature_over_another_header_does_not_count() -> None:
    _, payload, signature = sign(claims(books=BOOKS)).split(b".")
    changed = segment({"alg": "EdDSA", "kid": "issuer", "typ": "print-authorization+jwt"})
    assert answer(b".".join([changed, payload, signature])) == (401, "bad-signature")


@pytest.mark.parametrize("length", [0, 63, 65, 70])
def test_an_es256_signature_of_another_length_is_refused(vectors_dir: Path, length: int) -> None:
    raw = (vectors_dir / "messages" / "valid-es256.jws").read_bytes()
    head, payload, signature = raw.split(b".")
    bent = (jose.decode_base64url(signature) * 2)[:length]
    store = keys.load_trust(vectors_dir / "trust.jwks")
    with pytest.raises(MessageRefused, match="signature"):
        open_envelope(
            b".".join([head, payload, segment(bent)]),
            trust=store,
            station_id=STATION,
            authority_id=AUTHORITY,
        )


@pytest.mark.parametrize("value", [7, None, True, ["Ed25519"], {}])
def test_a_header_of_other_than_strings_is_malformed(value: object) -> None:
    _, payload, signature = sign(claims(books=BOOKS)).split(b".")
    head = segment({"alg": value, "kid": "issuer", "typ": "print-authorization+jwt"})
    assert answer(b".".join([head, payload, signature])) == (400, "malformed")


def test_the_limit_is_on_the_message_without_the_white_space_around_it() -> None:
    raw = b"\n" * MESSAGE_SIZE_MAX + sign(claims(books=BOOKS))
    assert isinstance(read(raw), Authorization)
    assert answer(b"a" * (MESSAGE_SIZE_MAX + 1)) == (413, "too-large")


def test_a_stranger_costs_no_signature_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        pytest.fail("a signature was checked")

    monkeypatch.setattr(keys.TrustedKey, "verify", fail)
    stranger = sign(claims(books=BOOKS), key=Ed25519PrivateKey.generate(), kid="stranger")
    assert answer(stranger) == (401, "bad-signature")
    assert answer(sign(claims(books=BOOKS), typ="JWT")) == (401, "bad-signature")


def test_no_refusal_repeats_what_was_sent() -> None:
    secret = "CONTOHWATI"
    for raw in (
        sign(claims(books=BOOKS, jti=secret + " ")),
        sign(claims(books=BOOKS, aud=secret)),
        sign(claims(books=BOOKS), kid=secret),
        sign(claims(books=[{"number": secret, "document": ""}])),
        directive(action=secret),
        sign(b'{"' + secret.encode() + b'":}'),
    ):
        with pytest.raises(MessageRefused) as refused:
            read(raw)
        assert secret not in refused.value.detail


def test_a_well_signed_message_is_refused_by_its_name_as_far_as_that_is_well_formed() -> None:
    for changed, named in (
        ({"aud": "another"}, ("job-1", 1)),
        ({"nbf": "x"}, ("job-1", 1)),
        ({"jti": " "}, (None, 1)),
        ({"seq": 0}, ("job-1", None)),
    ):
        with pytest.raises(MessageRefused) as refused:
            read(sign(claims(books=BOOKS, jti="job-1", seq=1) | changed))
        assert (refused.value.jti, refused.value.seq) == named


def test_what_stands_there_is_told_without_repeating_a_text_or_a_personal_number() -> None:
    for value, words in (
        (101, "no integer of 1..100: it is 101"),
        (True, "it is true"),
        (1.5, "it is another number"),
        ("CONTOHWATI", "it is a string of 10 characters"),
        (3171234567890123, "it is another number"),
        ([1], "it is an array"),
    ):
        with pytest.raises(MessageRefused, match=words) as refused:
            read(sign(claims(books=BOOKS, priority=value)))
        assert "3171234567890123" not in refused.value.detail
    with pytest.raises(MessageRefused, match="allowed: revoke, hold, release"):
        read(directive(action="print"))


def test_a_resume_leaves_room_for_the_numbers_of_all_receipts_to_come() -> None:
    chain = {"head": "A" * 43, "printed": []}
    assert read(directive(action="resume", through=2**52, **chain))
    assert answer(directive(action="resume", through=2**52 + 1, **chain)) == (400, "malformed")


def test_an_integer_of_any_length_that_no_claim_has_is_read_or_refused_in_plain_words() -> None:
    payload = json.dumps(claims(books=BOOKS))
    for digits in (400, 401, 100_000):
        raw = sign(payload.replace("{", '{"other": ' + "1" * digits + ", ", 1).encode())
        if digits <= 400:
            assert isinstance(read(raw), Authorization)
        else:
            with pytest.raises(MessageRefused, match="an integer of more than 400 digits"):
                read(raw)


GOOD = sign(claims(books=BOOKS))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_cleanly(raw: bytes) -> None:
    with pytest.raises(MessageRefused):
        read(raw)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_header_and_payload_are_refused_cleanly(head: bytes, payload: bytes) -> None:
    raw = b".".join([segment(head), segment(payload), segment(b"s" * 64)])
    with pytest.raises(MessageRefused):
        read(raw)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused_cleanly(at: int, value: int) -> None:
    raw = GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
    if raw != GOOD:
        with pytest.raises(MessageRefused):
            read(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children)
    ),
    max_leaves=10,
)
NAMES = ["jti", "seq", "iat", "exp", "nbf", "iss", "aud", "books", "priority", "application"]
NAMES += ["action", "job", "reason", "to", "through", "head", "printed", "version", "jwks"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4), st.sampled_from(list(Action)))
def test_any_signed_claims_are_read_or_refused_cleanly(
    over: dict[str, Any], action: Action
) -> None:
    for raw in (
        sign(claims(books=BOOKS) | over),
        directive(**({"action": action.value} | over)),
        trust_update(over.pop("jwks", TRUST_JWKS), **over),
    ):
        with contextlib.suppress(MessageRefused):
            read(raw)
