from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from agent.crypto import documents, jose
from agent.crypto.documents import open_document, open_documents
from agent.crypto.keys import EncryptionKey, StationKeys
from agent.errors import MessageRefused
from agent.model import Authorization, BookEntry, Envelope, TravelDocument
from agent.page.mrz import check_mrz
from tests.unit.crypto.crypto_samples import KEYS, NOW, document, photo, seal

ENVELOPE = Envelope(
    typ="", kid="", role="", jti="", seq=1, iat=0, exp=0, nbf=None, claims={}, sha256=b"", text=b""
)


def authorization(*sealed: str) -> Authorization:
    entries = tuple(BookEntry(f"C000000{i}", text) for i, text in enumerate(sealed, start=1))
    return Authorization(ENVELOPE, 50, None, entries)


def opened(*sealed: str, now: int = NOW, keys: StationKeys = KEYS) -> tuple[TravelDocument, ...]:
    return open_documents(authorization(*sealed), keys, now=now, check_mrz=check_mrz)


def refusal(*sealed: str, now: int = NOW, keys: StationKeys = KEYS) -> str:
    with pytest.raises(MessageRefused) as refused:
        opened(*sealed, now=now, keys=keys)
    assert (refused.value.status, refused.value.name) == (422, "bad-document")
    return refused.value.detail


def with_photo(data: bytes, media_type: str = "image/png", text: str | None = None) -> str:
    encoded = base64.b64encode(data).decode() if text is None else text
    return seal(document(photo={"media_type": media_type, "data": encoded}))


def test_a_document_opens_to_its_fields() -> None:
    (found,) = opened(seal(document(unknown=[1.5])))
    assert found.primary_identifier == "CONTOHWATI"
    assert found.mrz[1].startswith("C0000001")
    assert found.photo == photo()
    assert repr(found) == "TravelDocument()"


def test_optional_members_may_be_absent() -> None:
    fields = document()
    del fields["personal_number"]
    assert opened(seal(fields))[0].personal_number == ""


@pytest.mark.parametrize("name", sorted(set(document()) - {"personal_number"}))
def test_each_member_is_needed(name: str) -> None:
    fields = document()
    del fields[name]
    refusal(seal(fields))


@pytest.mark.parametrize("name", sorted(document()))
@pytest.mark.parametrize("value", [None, 7, True, [], {}, "x" * 65, "X\u0007"], ids=repr)
def test_each_member_is_of_its_kind(name: str, value: object) -> None:
    detail = refusal(seal(document() | {name: value}))
    assert "x" * 65 not in detail


@pytest.mark.parametrize(
    "over",
    [
        {"document_type": "PX"},
        {"document_type": "V"},
        {"document_type": "PP\n"},
        {"issuing_state": "UT\n"},
        {"nationality": "\u00dcTO"},
        {"sex": "x"},
        {"date_of_birth": "19910314"},
        {"date_of_birth": "1991-W11-4"},
        {"date_of_birth": "1991-02-29"},
        {"date_of_birth": "\u0661991-03-14"},
        {"date_of_issue": "1990-01-01"},
        {"date_of_expiry": "2026-02-02"},
        {"document_number": "C0000002"},
        {"mrz": ["A" * 44]},
        {"mrz": ["A" * 44] * 3},
        {"mrz": "A" * 88},
        {"mrz": ["A" * 43, "A" * 44]},
        {"primary_identifier": "\u5f20"},
        {"personal_number": "1" * 15},
    ],
    ids=repr,
)
def test_a_field_that_is_wrong_is_refused(over: dict[str, Any]) -> None:
    refusal(seal(document() | over))


def test_an_mrz_of_other_fields_is_refused() -> None:
    assert "name" in refusal(seal(document() | {"primary_identifier": "CONTOHWATO"}))


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [(64, 64, True), (63, 64, False), (64, 63, False), (64, 4096, True), (64, 4097, False)],
)
def test_the_sides_of_a_photo(width: int, height: int, fits: bool) -> None:
    sealed = with_photo(photo(width, height))
    if fits:
        assert opened(sealed)
    else:
        assert "sides" in refusal(sealed)


def test_a_photo_of_4096_by_4096_is_taken() -> None:
    assert opened(with_photo(photo(4096, 4096, "JPEG"), "image/jpeg"))


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "PNG")
    sealed = with_photo(file.getvalue())
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    refusal(sealed)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_truncated_photo_is_refused(kind: str, keep: float) -> None:
    file = io.BytesIO()
    Image.effect_noise((100, 100), 60).save(file, kind)
    data = file.getvalue()
    assert opened(with_photo(data, f"image/{kind.lower()}"))
    refusal(with_photo(data[: int(len(data) * keep)], f"image/{kind.lower()}"))


def test_a_photo_is_of_its_stated_type() -> None:
    refusal(with_photo(photo(image_format="PNG"), "image/jpeg"))
    refusal(with_photo(photo(image_format="JPEG"), "image/png"))
    refusal(with_photo(photo(image_format="GIF"), "image/png"))
    refusal(with_photo(photo(image_format="GIF"), "image/gif"))


@pytest.mark.parametrize("bend", ["break", "unpadded", "url", "space", "more", "umlaut", "empty"])
def test_base64_of_a_photo_is_strict(bend: str) -> None:
    text = base64.b64encode(photo() + b"\xff\xfe\xfd\xfb").decode()
    bent = {
        "break": text[:76] + "\n" + text[76:],
        "unpadded": text.rstrip("=") if text.endswith("=") else text[:-1],
        "url": text.replace("/", "_").replace("+", "-"),
        "space": text + " ",
        "more": text + "=",
        "umlaut": "\u00fc" + text[1:],
        "empty": "",
    }[bend]
    assert bent != text
    refusal(with_photo(b"", text=bent))


def test_two_books_for_one_person_open_and_their_photo_is_decoded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = []
    original = documents._photo_fault

    def counting(data: bytes, image_format: str) -> str | None:
        decoded.append(image_format)
        return original(data, image_format)

    monkeypatch.setattr(documents, "_photo_fault", counting)
    sealed = [seal(document(f"C000000{i}")) for i in range(1, 5)]
    assert [d.document_number for d in opened(*sealed)] == [f"C000000{i}" for i in range(1, 5)]
    assert decoded == ["PNG"]


@pytest.mark.parametrize(
    "over",
    [
        {"place_of_birth": "ELSEWHERE"},
        {"photo": {"media_type": "image/png", "data": base64.b64encode(photo(65)).decode()}},
        {"unknown": 1},
    ],
    ids=["field", "photo", "unknown member"],
)
def test_two_books_for_two_people_are_refused(over: dict[str, Any]) -> None:
    assert "differ" in refusal(seal(document("C0000001")), seal(document("C0000002") | over))


def test_an_absent_member_equals_an_empty_one() -> None:
    second = document("C0000002")
    del second["personal_number"]
    assert len(opened(seal(document("C0000001")), seal(second))) == 2


def test_a_bad_second_document_is_found_at_acceptance() -> None:
    second = document("C0000002")
    second["mrz"] = document("C0000003")["mrz"]
    refusal(seal(document("C0000001")), seal(second))


def test_a_retired_key_takes_new_messages_until_its_end_and_opens_accepted_ones_after() -> None:
    rotated = KEYS.rotate(NOW, 100)
    sealed = seal(document())
    assert opened(sealed, now=NOW + 100, keys=rotated)
    assert "no longer" in refusal(sealed, now=NOW + 101, keys=rotated)
    assert open_document(BookEntry("C0000001", sealed), rotated)
    assert opened(seal(document(), keys=rotated), now=NOW + 101, keys=rotated)


def test_a_key_of_another_station_is_not_ours() -> None:
    refusal(seal(document(), keys=StationKeys.generate()))


@pytest.mark.parametrize("bend", ["apu", "apv", "zip", "cty", "no typ", "enc", "alg", "kid", "typ"])
def test_the_header_is_exact(bend: str) -> None:
    parts = seal(document()).split(".")
    header = jose.parse_object(jose.decode_base64url(parts[0].encode()))
    match bend:
        case "no typ":
            del header["typ"]
        case "apu" | "apv" | "cty":
            header[bend] = "QQ"
        case "zip":
            header["zip"] = "DEF"
        case _:
            header[bend] = ["x"]
    refusal(".".join([_segment(header), *parts[1:]]))


@pytest.mark.parametrize(
    "epk",
    [
        None,
        "x",
        {},
        {"kty": "OKP", "crv": "X25519"},
        {"kty": "OKP", "crv": "X25519", "x": 7},
        {"kty": "OKP", "crv": "X25519", "x": "AAAA"},
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43},  # a point of low order
        {"kty": "OKP", "crv": "X25519", "x": "\u00e9" * 43},
        {"kty": "OKP", "crv": "X448", "x": "A" * 43},
        {"kty": "EC", "crv": "P-256", "x": "A" * 43},
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43, "d": "A" * 43},
    ],
    ids=repr,
)
def test_an_ephemeral_key_that_is_none_is_refused(epk: object) -> None:
    parts = seal(document()).split(".")
    header = jose.parse_object(jose.decode_base64url(parts[0].encode())) | {"epk": epk}
    refusal(".".join([_segment(header), *parts[1:]]))


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("to", ["", "AAAA", "=", "\u00e9", "A" * 54])
def test_each_part_has_its_length_and_alphabet(position: int, to: str) -> None:
    parts = seal(document()).split(".")
    parts[position] = to
    refusal(".".join(parts))


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("bend", ["padded", "line feed", "standard alphabet", "bits too many"])
def test_each_part_has_one_spelling(position: int, bend: str) -> None:
    # A part that says the same bytes in another way would decrypt, were it let through.
    def bent(part: str) -> str | None:
        last = _ALPHABET.index(part[-1])
        other = {
            "padded": part + "=" * (-len(part) % 4),
            "line feed": part[:-4] + "\n" + part[-4:],
            "standard alphabet": part.replace("-", "+").replace("_", "/"),
            "bits too many": part[:-1] + _ALPHABET[last + 1] if len(part) % 4 else part,
        }[bend]
        return None if other == part else other

    for length in range(100):
        parts = seal(document(place_of_birth="X" + "Y" * (length % 60))).split(".")
        if (other := bent(parts[position])) is not None:
            refusal(".".join([*parts[:position], other, *parts[position + 1 :]]))
            return
    assert (position, bend) in [(0, "standard alphabet"), (2, "padded"), (2, "bits too many")]


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _segment(value: object) -> str:
    return jose.encode_base64url(json.dumps(value).encode())


SEALED = seal({"small": "document"})


@given(st.text(max_size=80))
def test_any_text_is_refused_cleanly(text: str) -> None:
    refusal(text)


@given(st.integers(0, len(SEALED) - 1), st.sampled_from("AQgw_-.=\u00e9\x00"))
def test_any_changed_character_is_refused_cleanly(at: int, character: str) -> None:
    refusal(SEALED[:at] + character + SEALED[at + 1 :])


@given(st.binary(max_size=100))
def test_any_plaintext_is_refused_cleanly(plain: bytes) -> None:
    refusal(seal(plain))


def texts(value: object) -> Iterator[str]:
    """Every string in a document that is long enough to be met by no accident."""
    match value:
        case str():
            if len(value) >= 5:
                yield value
        case list():
            for item in value:
                yield from texts(item)
        case dict():
            for item in value.values():
                yield from texts(item)


HELD = list(texts(document() | {"photo": document()["photo"]["data"]}))
MARK = "\u00a7"  # in no word of ours, so that what is told of a document is known by it
TEXT = st.text(max_size=70) | st.text(max_size=69).map(lambda text: MARK + text)
JSON = st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT)


@given(st.dictionaries(st.sampled_from(sorted(document())), JSON, min_size=1, max_size=3))
@example(dict.fromkeys(["place_of_birth", "photo", "mrz"], MARK * 65))
@example({"primary_identifier": [MARK]})
@example({"date_of_birth": MARK})
@example({"mrz": [MARK * 44, MARK * 44]})
@example({"photo": {"media_type": MARK, "data": MARK}})
@example({"nationality": MARK})
@example({"personal_number": MARK})
def test_any_member_is_read_or_refused_cleanly_and_no_refusal_tells_what_it_holds(
    over: dict[str, Any],
) -> None:
    fields = document() | over
    try:
        opened(seal(fields))
    except MessageRefused as refused:
        told = refused.detail + str(refused) + repr(refused)
        assert MARK not in told
        assert not [text for text in HELD if text in told]


@given(st.binary(max_size=300), st.sampled_from(["image/png", "image/jpeg"]))
def test_any_photo_behind_a_true_signature_is_refused_cleanly(data: bytes, kind: str) -> None:
    start = {"image/png": photo()[:33], "image/jpeg": photo(image_format="JPEG")[:100]}[kind]
    refusal(with_photo(start + data, kind))


def test_a_kid_with_another_key_behind_it_does_not_decrypt() -> None:
    other = EncryptionKey.of(X25519PrivateKey.generate())
    disguised = dataclasses.replace(other, kid=KEYS.encryption[0].kid)
    keys = dataclasses.replace(KEYS, encryption=(disguised,))
    assert "does not decrypt" in refusal(seal(document()), keys=keys)
