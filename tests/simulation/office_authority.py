"""The central server of a simulated office: repeats, reorders and delays its messages, and keeps every receipt."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey

from agent.authority.issuer import _complete, _seal
from agent.model import TYP_AUTHORIZATION, TYP_DIRECTIVE, TYP_DOCUMENT, base64url
from tests.simulation.judge import Judge
from tests.simulation.life import AUTHORITY, KEYS, STATION, Life
from tests.simulation.world import EPOCH, World

DAY_S = 86_400
VECTORS = Path(__file__).parents[1] / "vectors"
_SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
_KID = "issuer-1"
TRUST = {
    "version": 0,
    "keys": [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": base64url(_SIGNER.public_key().public_bytes_raw()),
            "kid": _KID,
            "alg": "Ed25519",
            "use": "sig",
        }
    ],
}


def _sign(typ: str, claims: dict[str, Any]) -> bytes:
    header = {"alg": "Ed25519", "kid": _KID, "typ": typ}
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims)).encode()
    return signed + b"." + base64url(_SIGNER.sign(signed)).encode()


def _document() -> dict[str, Any]:
    import base64

    photo = (VECTORS / "photos" / "portrait-1.jpg").read_bytes()
    return {
        "document_type": "P",
        "issuing_state": "IDN",
        "nationality": "IDN",
        "primary_identifier": "CONTOH",
        "secondary_identifier": "FIKTIFA",
        "date_of_birth": "1991-03-14",
        "date_of_issue": "2026-01-02",
        "date_of_expiry": "2036-01-02",
        "sex": "F",
        "place_of_birth": "SAMBAS",
        "issuing_authority": "KANTOR CONTOH",
        "photo": {"media_type": "image/jpeg", "data": base64.b64encode(photo).decode("ascii")},
    }


def job_id(number: int) -> str:
    """The id of the job of that number."""
    return f"J{number}"


def book_number(job: int, entry: int) -> str:
    """The number of one of its books."""
    return f"B{job:04}{entry}"


@lru_cache(maxsize=256)
def authorization(job: int, entries: int, lifetime_s: int) -> bytes:
    """The signed authorization of a job; its ``seq`` is its number."""
    key = OKPKey.import_key(next(k for k in KEYS.public_jwks()["keys"] if k["crv"] == "X25519"))
    books = [book_number(job, entry) for entry in range(entries)]
    document = _document()
    claims = {
        "iss": AUTHORITY,
        "aud": STATION,
        "jti": job_id(job),
        "seq": job,
        "iat": EPOCH,
        "exp": EPOCH + lifetime_s,
        "priority": 1 + job * 7 % 100,
        "books": [
            {
                "number": number,
                "document": _seal(_complete(number, document), key, typ=TYP_DOCUMENT),
            }
            for number in books
        ],
    }
    return _sign(TYP_AUTHORIZATION, claims)


class CentralServer:
    """Sends, repeats, acknowledges.

    Args:
        world: Time.
        judge: Told what the station answered and what it signed.
        jobs: How many authorizations there are.
    """

    def __init__(self, world: World, judge: Judge, *, jobs: int) -> None:
        self.world = world
        self.judge = judge
        self.life: Life | None = None
        rng = world.people
        self._seq = jobs  # directives follow the authorizations' numbers
        self.unsent: dict[str, bytes] = {}
        for job in range(1, jobs + 1):
            entries = rng.choice((1, 1, 2, 3))
            lifetime = rng.choice((90, 600, 30 * DAY_S, 30 * DAY_S, 30 * DAY_S))
            self.judge.issued(job_id(job), [book_number(job, n) for n in range(entries)])
            self.unsent[job_id(job)] = authorization(job, entries, lifetime)
        self._order = list(self.unsent)
        rng.shuffle(self._order)
        self.acknowledged = 0
        world.later(0.5, self._send)
        world.later(2.0, self._fetch)

    @property
    def at_rest(self) -> bool:
        """Everything was sent, and every receipt that counts was fetched."""
        return not self.unsent

    def _send(self) -> None:
        rng = self.world.people
        self.world.later(rng.uniform(0.2, 3.0), self._send)
        if self.life is None:
            return
        if rng.random() < 0.25:
            self._direct()
        if not self._order:
            return
        name = rng.choice(self._order[:3])
        message = self.unsent.get(name)
        if message is None:
            self._order.remove(name)
            return
        for _ in range(rng.choice((1, 1, 1, 2))):
            answer = self.life.intake.take(message)
            if answer.accepted:
                self.judge.told(name)
            if answer.status in (200, 201, 410):
                # A lost answer is not known here: now and then an accepted one is sent again.
                if rng.random() < 0.8:
                    self.unsent.pop(name, None)
                    self._order.remove(name) if name in self._order else None
            elif answer.status != 507:
                self.judge.complain(f"{name} was answered {answer.status} {answer.type}")

    def _direct(self) -> None:
        """A directive at a bad moment."""
        rng = self.world.people
        job = job_id(rng.randint(1, max(1, self.world.plan.office.jobs)))
        action = rng.choice(("revoke", "hold", "release", "release", "transfer"))
        if action in ("revoke", "transfer") and rng.random() < 0.7:
            return
        claims: dict[str, Any] = {"action": action, "job": job}
        claims |= {"to": "pontianak-01"} if action == "transfer" else {"reason": "wanted"}
        self._issue(claims)
        if action == "hold":
            self.world.later(20.0, lambda: self._issue(claims | {"action": "release"}))

    def _issue(self, claims: dict[str, Any]) -> None:
        if self.life is None:
            if claims["action"] == "release":
                self.world.later(5.0, lambda: self._issue(claims))
            return
        self._seq += 1
        body = {
            "iss": AUTHORITY,
            "aud": STATION,
            "jti": f"D{self._seq}",
            "seq": self._seq,
            "iat": EPOCH,
            "exp": EPOCH + 30 * 365 * DAY_S,
        }
        message = _sign(TYP_DIRECTIVE, body | claims)
        answer = self.life.intake.take(message)
        if not answer.accepted and claims["action"] == "release":
            self.world.later(5.0, lambda: self._issue(claims))

    def _fetch(self) -> None:
        rng = self.world.people
        self.world.later(rng.uniform(0.5, 8.0), self._fetch)
        if self.life is None:
            return
        self.fetch(self.life)
        if self.judge.head_seq > self.acknowledged and rng.random() < 0.3:
            self.acknowledged = self.judge.head_seq
            self._issue(
                {
                    "action": "acknowledge",
                    "through": self.judge.head_seq,
                    "head": self.judge.head_hash,
                }
            )

    def fetch(self, life: Life) -> None:
        """Takes what is new of the chain."""
        journal = life.journal
        for seq, text in journal.receipts_after(life.commits.read(), self.judge.head_seq, 1000):
            self.judge.received(seq, text)
