"""What no acceptance can do without, by the bare libraries: a message's cryptography and the decoding of its photo."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Sequence

from joserfc import jwe, jws
from joserfc.jwk import OKPKey
from PIL import Image

from agent.crypto.receipts import ReceiptSigner
from agent.model import MESSAGE_SIZE_MAX
from benchmarks.office import station_keys
from tests.integration.station_fixture import ISSUER, VECTORS

RECEIPT = {"event": "job-accepted", "evidence": "x" * 300}  # as long as that of an acceptance
_SIGNATURES = jws.JWSRegistry(algorithms=["Ed25519"])
_SIGNATURES.max_payload_length = MESSAGE_SIZE_MAX
_DOCUMENTS = jwe.JWERegistry(algorithms=["ECDH-ES+A256KW", "A256GCM"])
_DOCUMENTS.max_ciphertext_length = MESSAGE_SIZE_MAX


def bare_cost_s(messages: Sequence[bytes]) -> float:
    """Processor seconds a message: its signature, its document's decryption, its photo, its receipt's signature."""
    trust = json.loads((VECTORS / "trust.jwks").read_bytes())["keys"]
    issuer = OKPKey.import_key(next(jwk for jwk in trust if jwk["kid"] == ISSUER))
    keys = station_keys()
    signer = ReceiptSigner(keys.signing)
    spent_s = 0.0
    for raw in messages:
        before = time.thread_time()
        signed = jws.deserialize_compact(raw, issuer, registry=_SIGNATURES)
        spent_s += time.thread_time() - before
        document = json.loads(signed.payload)["books"][0]["document"]
        before = time.thread_time()
        opened = jwe.decrypt_compact(document, keys.encryption[0].okp, registry=_DOCUMENTS)
        spent_s += time.thread_time() - before
        photo = json.loads(opened.plaintext or b"")["photo"]["data"]
        before = time.thread_time()
        with Image.open(io.BytesIO(base64.b64decode(photo, validate=True))) as image:
            image.load()
        signer.sign(RECEIPT)
        spent_s += time.thread_time() - before
    return spent_s / len(messages)
