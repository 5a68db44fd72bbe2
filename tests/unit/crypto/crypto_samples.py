"""Keys, documents and messages to bend: what the tests of this room share."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwe
from joserfc.jwk import OKPKey
from PIL import Image

from agent.crypto import jose
from agent.crypto.keys import StationKeys, TrustStore
from agent.model import TYP_AUTHORIZATION, TYP_DIRECTIVE, TYP_DOCUMENT
from agent.page.mrz import compose_mrz

STATION = "sambas-01"
AUTHORITY = "imigrasi-jakarta"
NOW = 1_893_456_000

ISSUER = Ed25519PrivateKey.from_private_bytes(b"issuer key of the unit tests, no")
ROOT = Ed25519PrivateKey.from_private_bytes(b"the root key of the unit tests, ")
KEYS = StationKeys.generate()
_ENCRYPTION = jwe.JWERegistry(algorithms=["ECDH-ES+A256KW", "A256GCM"])


def public_jwk(private: Ed25519PrivateKey, kid: str, role: str = "issuer") -> dict[str, str]:
    x = jose.encode_base64url(private.public_key().public_bytes_raw())
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": "Ed25519", "use": "sig"}
    return jwk | {"role": role}


TRUST_JWKS = {"keys": [public_jwk(ISSUER, "issuer"), public_jwk(ROOT, "root", "root")]}
TRUST = TrustStore.from_jwks(TRUST_JWKS)


def segment(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return jose.encode_base64url(data).encode()


def sign(
    payload: Any,
    *,
    key: Ed25519PrivateKey = ISSUER,
    kid: str = "issuer",
    typ: str = TYP_AUTHORIZATION,
) -> bytes:
    signing_input = segment({"alg": "Ed25519", "kid": kid, "typ": typ}) + b"." + segment(payload)
    return signing_input + b"." + segment(key.sign(signing_input))


def claims(**over: Any) -> dict[str, Any]:
    common = {
        "iss": AUTHORITY,
        "aud": STATION,
        "jti": "job-1",
        "seq": 1,
        "iat": NOW,
        "exp": NOW + 9,
    }
    return common | over


def directive(**over: Any) -> bytes:
    return sign(claims(**over), typ=TYP_DIRECTIVE)


def trust_update(trusted: Any, **over: Any) -> bytes:
    body = claims(action="trust", version=1, jwks=trusted) | over
    return sign(body, key=ROOT, kid="root", typ=TYP_DIRECTIVE)


def photo(width: int = 64, height: int = 64, image_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 200).save(file, image_format)
    return file.getvalue()


def document(number: str = "C0000001", **over: Any) -> dict[str, Any]:
    fields = {
        "document_type": "P",
        "issuing_state": "UTO",
        "nationality": "UTO",
        "primary_identifier": "CONTOHWATI",
        "secondary_identifier": "NINGRUM FIKTIFA",
        "document_number": number,
        "date_of_birth": "1991-03-14",
        "date_of_issue": "2026-02-03",
        "date_of_expiry": "2036-02-03",
        "sex": "F",
        "place_of_birth": "KAMPUNG REKAAN",
        "issuing_authority": "KANTOR CONTOH",
        "personal_number": "",
    }
    names = set(compose_mrz.__annotations__) - {"return"}
    lines = compose_mrz(**{name: fields[name] for name in names})
    picture = {"media_type": "image/png", "data": base64.b64encode(photo()).decode()}
    return fields | {"mrz": list(lines), "photo": picture} | over


def seal(plain: Any, *, keys: StationKeys = KEYS, **header: Any) -> str:
    """A JWE of ``plain`` (bytes, or what JSON can hold) to the keys' current encryption key."""
    public = keys.encryption[0].public_jwk()
    data = plain if isinstance(plain, bytes) else json.dumps(plain).encode()
    protected = {
        "alg": "ECDH-ES+A256KW",
        "enc": "A256GCM",
        "typ": TYP_DOCUMENT,
        "kid": public["kid"],
    }
    return jwe.encrypt_compact(
        protected | header, data, OKPKey.import_key(public), registry=_ENCRYPTION
    )
