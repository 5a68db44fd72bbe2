from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import jose


@given(st.binary(max_size=100))
def test_base64url_comes_back(data: bytes) -> None:
    text = jose.encode_base64url(data).encode()
    jose.require_base64url(text)
    assert jose.decode_base64url(text) == data


@pytest.mark.parametrize(
    "text",
    [
        b"QQ==",
        b"A",
        b"QUJDR",
        b"Q+==",
        b"ab+/",
        b"ab\n-",
        b" abc",
        b"abc.",
        b"\xc3\xa9ab",
        b"QR",
        b"QUK",
    ],
    ids=repr,
)
def test_base64url_has_one_spelling(text: bytes) -> None:
    for check in (jose.decode_base64url, jose.require_base64url):
        with pytest.raises(ValueError, match="base64url"):
            check(text)


@given(st.binary(max_size=12))
def test_the_two_base64url_checks_agree(text: bytes) -> None:
    def accepts(check: object) -> bool:
        try:
            check(text)
        except ValueError:
            return False
        return True

    assert accepts(jose.decode_base64url) == accepts(jose.require_base64url)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\n"}',
        b'{"a":"\n"}',
        b'{"a":"\x7f"}',
        b'{"a\\u0000":1}',
        '{"a":"\u202e"}'.encode(),
        b'{"a":["\\u200b"]}',
        b'{"a":1} x',
        b"",
        b"{" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 500_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_json_that_is_not_strict_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        jose.parse_json(data)
    assert not isinstance(refused.value, json.JSONDecodeError), "its text would repeat the data"


def test_depth_counts_the_outer_object_as_one() -> None:
    deep = b'{"a":' + b"[" * 15 + b"]" * 15 + b"}"
    assert jose.parse_object(deep)["a"]
    with pytest.raises(ValueError, match="deeper than 16"):
        jose.parse_object(b'{"a":' + b"[" * 16 + b"]" * 16 + b"}")


def test_brackets_in_strings_are_no_depth() -> None:
    text = "[{" * 100 + '\\"[['
    assert jose.parse_object(json.dumps({"a": text}).encode()) == {"a": text}


def test_siblings_are_no_depth() -> None:
    assert len(jose.parse_object(b'{"a":[' + b"[],{}," * 50 + b"1]}")["a"]) == 101


def test_a_string_may_hold_spaces_of_any_script() -> None:
    assert jose.parse_object('{"a":"x\u00a0y\u3000z"}'.encode())["a"] == "x\u00a0y\u3000z"


@pytest.mark.parametrize("data", [b"[]", b'"a"', b"1", b"null"])
def test_an_object_is_asked_for(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        jose.parse_object(data)


@given(st.binary(max_size=40))
def test_any_bytes_are_json_or_a_value_error(data: bytes) -> None:
    try:
        jose.parse_json(data)
    except ValueError:
        return


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 2**53, [1]])
def test_what_is_no_integer(value: object) -> None:
    assert not jose.is_integer(value)


def test_integer_bounds() -> None:
    assert jose.is_integer(0)
    assert jose.is_integer(2**53 - 1)
    assert not jose.is_integer(0, at_least=1)


def test_thumbprint_is_the_one_of_rfc_8037() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert jose.thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
