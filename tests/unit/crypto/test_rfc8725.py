"""The attacks of RFC 8725 (JSON Web Token Best Current Practices), in the order of its section 3; section 2 names the threats."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwe
from joserfc.jwk import OKPKey

from agent.crypto import jose
from agent.crypto.documents import open_documents
from agent.crypto.keys import TrustStore
from agent.crypto.receipts import build_receipt
from agent.crypto.verifier import open_envelope, read_claims
from agent.errors import MessageRefused
from agent.model import (
    TYP_AUTHORIZATION,
    TYP_DIRECTIVE,
    TYP_DOCUMENT,
    TYP_RECEIPT,
    Authorization,
)
from agent.page.mrz import check_mrz
from tests.unit.crypto.crypto_samples import (
    AUTHORITY,
    ISSUER,
    KEYS,
    NOW,
    ROOT,
    STATION,
    TRUST,
    TRUST_JWKS,
    claims,
    directive,
    document,
    public_jwk,
    seal,
    segment,
    sign,
    trust_update,
)

BOOKS = [{"number": "C0000001", "document": seal(document())}]
BODY = claims(books=BOOKS)


def answer(raw: bytes, *, trust: TrustStore = TRUST) -> tuple[int, str]:
    """What the checks of one message come to; 201 stands for all of them."""
    try:
        envelope = open_envelope(raw, trust=trust, station_id=STATION, authority_id=AUTHORITY)
        content = read_claims(envelope)
        if isinstance(content, Authorization):
            open_documents(content, KEYS, now=NOW, check_mrz=check_mrz)
    except MessageRefused as refused:
        return refused.status, refused.name
    return 201, ""


def signed(header: dict[str, Any], signature: bytes, payload: Any = BODY) -> bytes:
    return b".".join([segment(header), segment(payload), segment(signature)])


def header(**over: Any) -> dict[str, Any]:
    return {"alg": "Ed25519", "kid": "issuer", "typ": TYP_AUTHORIZATION} | over


def test_the_message_that_all_of_these_bend_is_a_good_one() -> None:
    assert answer(sign(BODY)) == (201, "")


# 3.1 Perform algorithm verification; 2.1 weak signatures and insufficient signature validation


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", [b"", b"s" * 64])
def test_3_1_an_unsigned_message_is_not_signed_by_saying_so(alg: str, signature: bytes) -> None:
    assert answer(signed(header(alg=alg), signature)) == (401, "bad-signature")


@pytest.mark.parametrize("form", ["raw", "pem", "jwk"])
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_3_1_a_public_key_is_no_shared_secret(alg: str, form: str) -> None:
    public = ISSUER.public_key()
    secret = {
        "raw": public.public_bytes_raw(),
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(public_jwk(ISSUER, "issuer")).encode(),
    }[form]
    signing_input = segment(header(alg=alg)) + b"." + segment(BODY)
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
    tag = hmac.new(secret, signing_input, digest).digest()
    assert answer(signing_input + b"." + segment(tag)) == (401, "bad-signature")


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "ES384", "Ed448", "ed25519"])
def test_3_1_the_algorithm_is_the_one_pinned_with_the_key(alg: str) -> None:
    signing_input = segment(header(alg=alg)) + b"." + segment(BODY)
    raw = signing_input + b"." + segment(ISSUER.sign(signing_input))
    assert answer(raw) == (401, "bad-signature")


def test_3_1_the_older_name_of_ed25519_is_taken_for_an_ed25519_key_and_no_other() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    x, y = (jose.encode_base64url(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
    jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "p", "alg": "ES256", "use": "sig"}
    trust = TrustStore.from_jwks({"keys": [jwk, *TRUST_JWKS["keys"]]})
    signing_input = segment(header(alg="EdDSA")) + b"." + segment(BODY)
    raw = signing_input + b"." + segment(ISSUER.sign(signing_input))
    assert answer(raw) == (201, "")
    der = private.sign(signing_input, ec.ECDSA(hashes.SHA256()))
    assert answer(signed(header(alg="EdDSA", kid="p"), der), trust=trust) == (401, "bad-signature")


# 3.2 Use appropriate algorithms


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS256"},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
        {"kty": "EC", "crv": "secp256k1", "x": "A" * 43, "y": "A" * 43, "alg": "ES256K"},
        {"kty": "OKP", "crv": "Ed448", "x": "A" * 76, "alg": "Ed448"},
        public_jwk(ISSUER, "new") | {"alg": "HS256"},
        public_jwk(ISSUER, "new") | {"alg": None},
    ],
    ids=lambda jwk: str(jwk["alg"]),
)
def test_3_2_no_other_kind_of_key_comes_into_the_trust_store(jwk: dict[str, Any]) -> None:
    keys = [*TRUST_JWKS["keys"], {"kid": "new", "use": "sig"} | jwk]
    assert answer(trust_update({"keys": keys})) == (400, "malformed")


def test_3_2_a_message_signed_with_rsa_is_refused_whoever_it_names() -> None:
    private = rsa.generate_private_key(65_537, 2048)
    signing_input = segment(header(alg="RS256")) + b"." + segment(BODY)
    signature = private.sign(signing_input, padding.PKCS1v15(), hashes.SHA256())
    assert answer(signing_input + b"." + segment(signature)) == (401, "bad-signature")


# 3.3 Validate all cryptographic operations; 2.3 incorrect composition of encryption and signature


@pytest.mark.parametrize("part", range(5))
def test_3_3_a_signed_message_with_a_bent_ciphertext_is_refused_whole(part: int) -> None:
    parts = BOOKS[0]["document"].split(".")
    parts[part] = parts[part][:-4] + ("AAAA" if parts[part][-4:] != "AAAA" else "BBBB")
    books = [{"number": "C0000001", "document": ".".join(parts)}]
    assert answer(sign(claims(books=books))) == (422, "bad-document")


def test_3_3_an_encrypted_document_proves_no_sender() -> None:
    """Anybody can encrypt to the station; only the signature around it counts."""
    stranger = Ed25519PrivateKey.generate()
    assert answer(sign(BODY, key=stranger)) == (401, "bad-signature")


def test_3_3_a_document_moved_into_another_s_message_is_not_printed_for_its_book() -> None:
    books = [{"number": "C0000002", "document": BOOKS[0]["document"]}]
    assert answer(sign(claims(books=books))) == (422, "bad-document")


# 3.4 Validate cryptographic inputs; 2.5 insecure use of elliptic curve encryption


LOW_ORDER = [  # RFC 7748 section 6.1: with these points the shared secret is zero
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_3_4_an_ephemeral_key_of_low_order_agrees_on_nothing(point: bytes) -> None:
    parts = BOOKS[0]["document"].split(".")
    protected = jose.parse_object(jose.decode_base64url(parts[0].encode()))
    protected["epk"]["x"] = jose.encode_base64url(point)
    parts[0] = segment(protected).decode()
    books = [{"number": "C0000001", "document": ".".join(parts)}]
    assert answer(sign(claims(books=books))) == (422, "bad-document")


def test_3_4_a_point_off_the_curve_is_no_trusted_key() -> None:
    jwk = {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43, "alg": "ES256", "kid": "p"}
    assert answer(trust_update({"keys": [*TRUST_JWKS["keys"], jwk]})) == (400, "malformed")


# 3.5 Keys of sufficient entropy; 2.2 weak symmetric keys


@pytest.mark.parametrize("alg", ["dir", "A256KW", "A256GCMKW", "PBES2-HS256+A128KW", "RSA-OAEP"])
def test_3_5_no_password_and_no_shared_key_opens_a_document(alg: str) -> None:
    parts = BOOKS[0]["document"].split(".")
    protected = jose.parse_object(jose.decode_base64url(parts[0].encode())) | {"alg": alg}
    for extra in ({}, {"p2s": "AAAA", "p2c": 2**31 - 1}):
        parts[0] = segment(protected | extra).decode()
        books = [{"number": "C0000001", "document": ".".join(parts)}]
        assert answer(sign(claims(books=books))) == (422, "bad-document")


# 3.6 Avoid compression of encryption inputs; 2.4 plaintext leakage by the ciphertext's length


def test_3_6_a_compressed_document_is_refused_before_anything_is_inflated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    public = KEYS.encryption[0].public_jwk()
    protected = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "typ": TYP_DOCUMENT, "zip": "DEF"}
    bomb = jwe.encrypt_compact(
        protected | {"kid": public["kid"]},
        json.dumps(document()).encode().ljust(50_000_000),
        OKPKey.import_key(public),
        registry=jwe.JWERegistry(algorithms=["ECDH-ES+A256KW", "A256GCM", "DEF"]),
    )
    monkeypatch.setattr(jwe, "decrypt_compact", lambda *_, **__: pytest.fail("it was opened"))
    books = [{"number": "C0000001", "document": bomb}]
    assert answer(sign(claims(books=books))) == (422, "bad-document")


# 3.7 Use UTF-8; 2.6 multiplicity of JSON encodings


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_3_7_a_payload_in_another_encoding_is_malformed(encoding: str) -> None:
    text = json.dumps(BODY | {"application": "Ω"}, ensure_ascii=False)
    assert answer(sign(text.encode(encoding))) == (400, "malformed")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"aud":"elsewhere",' + json.dumps(BODY).encode()[1:],
        b'{"\\u0061ud":"elsewhere",' + json.dumps(BODY).encode()[1:],
        json.dumps(BODY).encode() + b"{}",
        json.dumps(BODY).encode()[:-1] + b',"x":NaN}',
        json.dumps(BODY).encode()[:-1] + b',"x":Infinity}',
        json.dumps(BODY).encode()[:-1] + b',"x":1,}',
        json.dumps(BODY).encode()[:-1] + b',"x":"\\ud800"}',
        json.dumps(BODY).encode()[:-1] + b',"x":' + b"[" * 17 + b"]" * 17 + b"}",
        json.dumps(BODY).encode()[:-1] + b',"x":' + b"9" * 5_000 + b"}",
        b'{"books":[],"books":' + json.dumps(BOOKS).encode() + b"}",
    ],
    ids=range(10),
)
def test_3_7_one_payload_has_one_reading(payload: bytes) -> None:
    assert answer(sign(payload)) == (400, "malformed")


# 3.8 Validate issuer and subject; 3.9 use and validate audience; 2.7 substitution attacks


@pytest.mark.parametrize("name", ["iss", "aud"])
@pytest.mark.parametrize("bend", ["elsewhere", "", "SAMBAS-01", "sambas-01 ", "sambas-0", "*"])
def test_3_8_and_3_9_a_message_for_another_is_not_ours(name: str, bend: str) -> None:
    assert answer(sign(BODY | {name: bend})) == (403, "wrong-station")


@pytest.mark.parametrize("aud", [[STATION], [STATION, "elsewhere"], {"id": STATION}, None])
def test_3_9_an_audience_is_one_string(aud: object) -> None:
    assert answer(sign(BODY | {"aud": aud})) == (400, "malformed")


# 3.10 Do not trust received claims; 2.9 indirect attacks on the server


@pytest.mark.parametrize(
    "kid",
    ["../../etc/passwd", "/dev/null", "issuer' OR '1'='1", "issuer\x00", "ISSUER", "issuer ", ""],
)
def test_3_10_a_kid_is_looked_up_and_nothing_else(kid: str) -> None:
    known = (401, "bad-signature") if jose.is_plain(kid) else (400, "malformed")
    assert answer(signed(header(kid=kid), b"s" * 64)) == known


@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": public_jwk(ROOT, "mine")},
        {"jku": "https://127.0.0.1/keys"},
        {"x5u": "https://127.0.0.1/certificate"},
        {"x5c": ["AAAA"]},
        {"crit": ["exp"], "exp": NOW},
        {"b64": False, "crit": ["b64"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_3_10_no_header_brings_a_key_or_makes_the_station_fetch_one(
    extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("something was fetched")

    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    signing_input = segment(header() | extra) + b"." + segment(BODY)
    raw = signing_input + b"." + segment(ISSUER.sign(signing_input))
    assert answer(raw) == (400, "malformed")


# 3.11 Use explicit typing; 3.12 mutually exclusive validation rules; 2.8 cross-JWT confusion


@pytest.mark.parametrize(
    "typ",
    [
        "JWT",
        "jwt",
        "application/print-authorization+jwt",
        "Print-Authorization+JWT",
        "print-authorization+jwt ",
        "print-authorization",
        TYP_RECEIPT,
        "travel-document+json",
        "",
    ],
)
def test_3_11_a_message_of_another_type_is_refused_whatever_it_says(typ: str) -> None:
    assert answer(sign(BODY, typ=typ)) == (401, "bad-signature")


def test_3_12_a_directive_is_no_authorization_nor_the_other_way_round() -> None:
    revoke = claims(action="revoke", job="job-1", reason="r")
    assert answer(sign(revoke, typ=TYP_DIRECTIVE)) == (201, "")
    assert answer(sign(revoke, typ=TYP_AUTHORIZATION)) == (400, "malformed")
    assert answer(sign(BODY, typ=TYP_DIRECTIVE)) == (400, "malformed")


def test_3_12_a_receipt_of_the_station_is_no_message_to_it() -> None:
    """Even where somebody made the station's own key a trusted one."""
    receipt = build_receipt(
        KEYS, iss=STATION, aud=AUTHORITY, seq=1, prev="A" * 43, iat=NOW, event="job-accepted"
    )
    own = KEYS.signing.public_jwk() | {"kid": KEYS.kid}
    trust = TrustStore.from_jwks({"keys": [own, *TRUST_JWKS["keys"]]})
    assert answer(receipt.encode(), trust=trust) == (401, "bad-signature")


def test_3_12_a_document_s_jwe_is_no_message_and_a_message_no_document() -> None:
    assert answer(BOOKS[0]["document"].encode()) == (400, "malformed")
    books = [{"number": "C0000001", "document": sign(BODY).decode()}]
    assert answer(sign(claims(books=books))) == (422, "bad-document")


def test_3_12_root_and_issuer_never_stand_in_for_each_other() -> None:
    assert answer(sign(BODY, key=ROOT, kid="root")) == (401, "bad-signature")
    trust = {"action": "trust", "version": 1, "jwks": TRUST_JWKS}
    assert answer(directive(**trust)) == (401, "bad-signature")
    assert answer(trust_update(TRUST_JWKS)) == (201, "")


# One signature, one spelling (RFC 7515 section 5.2; RFC 4648 section 3.5)


def spellings() -> dict[str, bytes]:
    good = sign(BODY | {"other": "?????"})  # three of them in a row are Pz8_, wherever they stand
    head, payload, signature = good.split(b".")
    unused = signature[:-1] + bytes([signature[-1] + 1])
    assert b"_" in payload
    return {
        "padded": good + b"=",
        "standard alphabet": good.replace(b"-", b"+").replace(b"_", b"/"),
        "unused bits": b".".join([head, payload, unused]),
        "line break": good[:100] + b"\n" + good[100:],
        "space": good[:100] + b" " + good[100:],
        "fourth part": good + b".",
        "quoted": b'"' + good + b'"',
        "json serialization": json.dumps(
            {"protected": head.decode(), "payload": payload.decode(), "signature": "A"}
        ).encode(),
        "bearer": b"Bearer " + good,
        "standard base64 of it all": base64.b64encode(good),
    }


@pytest.mark.parametrize("bend", spellings())
def test_a_message_has_one_spelling(bend: str) -> None:
    assert answer(spellings()[bend]) == (400, "malformed")


def test_a_payload_that_was_left_out_is_not_signed() -> None:
    head, _, signature = sign(BODY).split(b".")
    assert answer(head + b".." + signature) == (401, "bad-signature")
