"""Every vector of the contract whose answer needs neither a journal nor a clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.crypto.documents import open_documents
from agent.crypto.keys import StationKeys, TrustStore, load_trust
from agent.crypto.verifier import open_envelope, read_claims
from agent.errors import MessageRefused
from agent.model import Action, Authorization, Directive
from agent.page.mrz import check_mrz

VECTORS = Path(__file__).parents[2] / "vectors"
INDEX = json.loads((VECTORS / "index.json").read_text(encoding="utf-8"))
DECIDABLE = [
    vector for vector in INDEX["vectors"] if vector["status"] in (201, 400, 401, 403, 413, 422)
]
TRUST_UPDATE = next(v for v in INDEX["vectors"] if v["name"] == "trust-v2")
STATION_KEYS = StationKeys.from_jwks(json.loads((VECTORS / "station.jwks").read_text()))


def decide(
    raw: bytes, trust: TrustStore
) -> tuple[Authorization | Directive, list[tuple[str, str]]]:
    envelope = open_envelope(
        raw, trust=trust, station_id=INDEX["station"], authority_id=INDEX["authority"]
    )
    claims = read_claims(envelope)
    if isinstance(claims, Directive):
        return claims, []
    documents = open_documents(claims, STATION_KEYS, now=INDEX["now"], check_mrz=check_mrz)
    return claims, [document.mrz for document in documents]


def trust_for(vector: dict[str, Any]) -> TrustStore:
    """In the group ``trust`` what comes after trust-v2 meets the store that it brought."""
    store = load_trust(VECTORS / "trust.jwks")
    group = [v["name"] for v in INDEX["vectors"] if v["group"] == "trust"]
    if vector["group"] == "trust" and group.index(vector["name"]) > group.index("trust-v2"):
        update, _ = decide((VECTORS / TRUST_UPDATE["file"]).read_bytes(), store)
        assert isinstance(update, Directive)
        assert update.action is Action.TRUST
        store = TrustStore.from_jwks(update.jwks, version=update.version)
    return store


def test_most_vectors_are_decidable() -> None:
    assert len(DECIDABLE) > 240, "the list of vectors shrank, or the filter is wrong"


@pytest.mark.parametrize("vector", DECIDABLE, ids=lambda vector: vector["name"])
def test_vector(vector: dict[str, Any]) -> None:
    raw = (VECTORS / vector["file"]).read_bytes()
    trust = trust_for(vector)
    if vector["status"] == 201:
        _, zones = decide(raw, trust)
        if vector.get("mrz"):
            assert list(zones[0]) == vector["mrz"]
        return
    with pytest.raises(MessageRefused) as refused:
        decide(raw, trust)
    assert refused.value.status == vector["status"]
    assert f"urn:print-agent:{refused.value.name}" == vector["type"]
    for secret in vector.get("secrets", []):
        assert secret.removeprefix("photo:") not in str(refused.value)


def test_every_line_of_the_batch_is_accepted() -> None:
    trust = load_trust(VECTORS / "trust.jwks")
    lines = (VECTORS / INDEX["batch"]["file"]).read_bytes().splitlines()
    assert len(lines) == INDEX["batch"]["count"]
    for line in lines[::10]:
        claims, zones = decide(line, trust)
        assert isinstance(claims, Authorization)
        assert len(zones) == 1
