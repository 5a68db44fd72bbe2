"""The central server of a simulated office: repeats, reorders and delays its messages, and keeps every receipt."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey
from PIL import Image

from agent.authority.issuer import complete_document, seal
from agent.drivers.virtual.book import Book
from agent.model import TYP_AUTHORIZATION, TYP_DIRECTIVE, TYP_DOCUMENT, base64url
from tests.simulation.judge import Judge, pages_on
from tests.simulation.life import AUTHORITY, KEYS, STATION, Life
from tests.simulation.world import EPOCH, World

DAY_S = 86_400
HOLD_S = 20.0
PHOTO_SIZE = 64  # pixels: the smallest that the contract allows, so that a message fits a page of the journal
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


@cache
def _document() -> dict[str, Any]:
    photo = io.BytesIO()
    Image.new("L", (PHOTO_SIZE, PHOTO_SIZE), 200).save(photo, "PNG")
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
        "photo": {
            "media_type": "image/png",
            "data": base64.b64encode(photo.getvalue()).decode("ascii"),
        },
    }


def job_id(number: int) -> str:
    """The id of the job of that number."""
    return f"J{number}"


def book_number(job: int, entry: int) -> str:
    """The number of one of its books."""
    return f"B{job:04}{entry}"


@lru_cache(maxsize=1024)
def _entry(number: str) -> dict[str, str]:
    """The sealed document of one book."""
    key = OKPKey.import_key(next(k for k in KEYS.public_jwks()["keys"] if k["crv"] == "X25519"))
    return {
        "number": number,
        "document": seal(complete_document(number, _document()), key, typ=TYP_DOCUMENT),
    }


def authorization(job: int, seq: int, books: list[str], *, now: int, lifetime_s: int) -> bytes:
    """The signed authorization of a job."""
    claims = {
        "iss": AUTHORITY,
        "aud": STATION,
        "jti": job_id(job),
        "seq": seq,
        "iat": now,
        "exp": now + lifetime_s,
        "priority": 1 + job * 7 % 100,
        "books": [_entry(number) for number in books],
    }
    return _sign(TYP_AUTHORIZATION, claims)


class CentralServer:
    """Sends, repeats, acknowledges.

    Args:
        world: Time.
        judge: Told what the station answered and what it signed.
        books: What somebody finds who looks at the books in the office.
        jobs: How many authorizations there are at once.
    """

    def __init__(self, world: World, judge: Judge, books: Mapping[str, Book], *, jobs: int) -> None:
        self.world = world
        self.judge = judge
        self.life: Life | None = None
        self._seq = self._jobs = 0
        self._jobs_at_once = jobs
        self._books = books
        self._signed: dict[str, bytes] = {}
        self._resume_at: float | None = None
        self._release_at: dict[str, float] = {}
        self.unsent: dict[str, bytes] = {}
        for _ in range(jobs):
            self._authorize()
        self._order = list(self.unsent)
        world.people.shuffle(self._order)
        self.acknowledged = 0
        world.later(0.5, self._send)
        world.later(2.0, self._fetch)

    def _authorize(self) -> str:
        rng = self.world.people
        self._jobs += 1
        self._seq += 1
        name = job_id(self._jobs)
        books = [book_number(self._jobs, entry) for entry in range(rng.choice((1, 1, 2, 3)))]
        self.judge.issued(name, books)
        self._signed[name] = self.unsent[name] = authorization(
            self._jobs,
            self._seq,
            books,
            now=EPOCH + int(self.world.now),
            lifetime_s=rng.choice((90, 600, 30 * DAY_S, 30 * DAY_S, 30 * DAY_S)),
        )
        return name

    @property
    def at_rest(self) -> bool:
        """Everything was sent."""
        return not self.unsent and not self._release_at and self._resume_at is None

    def rolled_back(self) -> None:
        """The station tells of an earlier journal: all that has not ended is sent again, then it may resume."""
        self._resume_at = self.world.now + self.world.people.uniform(5.0, 60.0)
        self.unsent = {
            name: message
            for name, message in self._signed.items()
            if name in self.unsent or not self.judge.ended(name)
        }
        self._order = list(self.unsent)

    def _resume(self) -> None:
        """By its own receipts and by the books in the office (docs/manual/backup.md)."""
        for name in self._signed:
            ended = self.judge.ended(name)
            if not ended:
                self._release_at.setdefault(name, self.world.now)
            elif ended in ("canceled", "aborted"):
                self._issue({"action": "revoke", "job": name, "reason": "as before"})
        whole = {job for book in self._books.values() for job, _ in pages_on(book)}
        known = {name for name in self._signed if self.judge.ended(name) == "completed"}
        about = {"through": self.judge.head_seq, "head": self.judge.head_hash}
        printed = sorted(whole & self._signed.keys() | known)
        if self._issue({"action": "resume", **about, "printed": printed}):
            self._resume_at = None

    def _send(self) -> None:
        rng = self.world.people
        self.world.later(rng.uniform(0.2, 3.0), self._send)
        if self.life is None:
            return
        if rng.random() < 0.25:
            self._direct()
        self._release()
        if self._resume_at is not None and self._resume_at < self.world.now:
            self._resume()
        if self._wants_more():
            self._order.append(self._authorize())
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

    def _wants_more(self) -> bool:
        """As long as mishaps come, the station is to have work when they do."""
        goes_on = self.world.plan.office.goes_on and self.world.faults_left > 0
        return goes_on and self.judge.open_jobs < self._jobs_at_once

    def _direct(self) -> None:
        """A directive at a bad moment."""
        rng = self.world.people
        job = job_id(rng.randint(max(1, self._jobs - self._jobs_at_once), self._jobs))
        action = rng.choice(("revoke", "hold", "release", "release", "transfer"))
        if action in ("revoke", "transfer") and rng.random() < 0.7:
            return
        claims: dict[str, Any] = {"action": action, "job": job}
        claims |= {"to": "pontianak-01"} if action == "transfer" else {"reason": "wanted"}
        if action == "hold":
            self._release_at[job] = self.world.now + HOLD_S
        self._issue(claims)

    def _release(self) -> None:
        """What was held is released, however often that takes to arrive."""
        for job, due in list(self._release_at.items()):
            if due <= self.world.now and self._issue(
                {"action": "release", "job": job, "reason": "wanted"}
            ):
                del self._release_at[job]

    def _issue(self, claims: dict[str, Any]) -> bool:
        assert self.life is not None
        self._seq += 1
        body = {
            "iss": AUTHORITY,
            "aud": STATION,
            "jti": f"D{self._seq}",
            "seq": self._seq,
            "iat": EPOCH,
            "exp": EPOCH + 30 * 365 * DAY_S,
        }
        return self.life.intake.take(_sign(TYP_DIRECTIVE, body | claims)).accepted

    def _fetch(self) -> None:
        rng = self.world.people
        self.world.later(rng.uniform(0.5, 8.0), self._fetch)
        if self.life is None or self._resume_at is not None:
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
        """Takes what is new of the chain; after a restore, first what leads to the receipt that explains the fork."""
        journal, reader = life.journal, life.commits.read()
        new = list(journal.receipts_after(reader, self.judge.head_seq, 1000))
        if self.judge.forked:
            resumed = next((at for at in new if self.judge.forked_after(at[1]) is not None), None)
            if resumed is None:
                return
            forked_after = self.judge.forked_after(resumed[1]) or 0
            for seq, text in journal.receipts_after(reader, forked_after, 1000):
                if seq < resumed[0]:
                    self.judge.received_of_fork(text)
            new = [at for at in new if at[0] >= resumed[0]]
        for seq, text in new:
            self.judge.received(seq, text)
