"""What the benchmarks share: messages of ordinary size, as the contract's test authority would sign them."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from agent.authority import random_document
from agent.crypto import jose
from agent.crypto.keys import StationKeys
from agent.page.mrz import compose_mrz
from tests.integration.station_fixture import ISSUER, VECTORS, authority_key, index
from tests.unit.crypto.crypto_samples import seal, sign

PEOPLE_COUNT = 16  # portraits take long to draw; each has a size of its own
FROM, UNTIL = 1_700_000_000, 4_000_000_000  # now is between them


@cache
def station_keys() -> StationKeys:
    """The keys of the contract's test station."""
    return StationKeys.from_jwks(jose.parse_json((VECTORS / "station.jwks").read_bytes()))


@cache
def person(number: int) -> dict[str, Any]:
    """The document of somebody who does not exist, with a portrait of some 25 KB."""
    return random_document(f"B{number:07d}", random.Random(number))


def book(number: int) -> str:
    """The book of the job of that number."""
    return f"B{number:07d}"


@cache
def authorization(number: int) -> bytes:
    """The signed authorization of the job ``job-NUMBER``; ``number`` is its ``seq``."""
    fields = person(number % PEOPLE_COUNT) | {"document_number": book(number)}
    names = set(compose_mrz.__annotations__) - {"return"}
    document = fields | {"mrz": list(compose_mrz(**{name: fields[name] for name in names}))}
    claims = {
        "iss": index()["authority"],
        "aud": index()["station"],
        "jti": f"job-{number}",
        "seq": number,
        "iat": FROM,
        "exp": UNTIL,
        "books": [{"number": book(number), "document": seal(document, keys=station_keys())}],
    }
    return sign(claims, key=_issuer(), kid=ISSUER)


_issuer = cache(authority_key)


def authorizations(count: int) -> list[bytes]:
    """The jobs 1 to ``count``."""
    return [authorization(number) for number in range(1, count + 1)]
