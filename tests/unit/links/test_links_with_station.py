"""The borders before the real station: its journal, its intake and the contract's vectors."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.config import Settings, settings_from
from agent.crypto.jose import decode_base64url
from agent.crypto.keys import load_station_keys, load_trust
from agent.crypto.receipts import ReceiptSigner
from agent.intake import Intake
from agent.links.http_api import HttpApi
from agent.links.inbox import SETTLE_S, Inbox
from agent.links.listener import Listener
from agent.live import Board
from agent.model import base64url
from agent.queue import start
from agent.queue.group_commit import GroupCommit
from agent.queue.journal import Journal
from agent.refusals import HOUR_S
from agent.station import Station

NOW = 1_893_456_000  # of the vectors


class ClockDouble:
    def __init__(self) -> None:
        self.time = float(NOW)

    def now(self) -> int:
        return int(self.time)

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock() -> ClockDouble:
    return ClockDouble()


@pytest.fixture
def settings(tmp_path: Path, vectors_index: dict[str, Any]) -> Settings:
    return settings_from(
        {
            "station": {"id": vectors_index["station"], "state_dir": str(tmp_path)},
            "authority": {"id": vectors_index["authority"]},
            "printers": {"main": {"driver": "virtual"}},
        },
        tmp_path / "station.toml",
    )


@pytest.fixture
def station(
    tmp_path: Path, vectors_dir: Path, settings: Settings, clock: ClockDouble
) -> Iterator[Station]:
    file = tmp_path / "station.jwks"
    file.write_bytes((vectors_dir / "station.jwks").read_bytes())
    file.chmod(0o600)
    keys = load_station_keys(file, sealed=False)
    trust = load_trust(vectors_dir / "trust.jwks")
    failures: list[BaseException] = []
    journal = Journal.open(
        tmp_path / "journal.db",
        signer=ReceiptSigner(keys.signing),
        station_id=settings.station.id,
        authority_id=settings.authority.id,
        clock=clock,
    )
    start.take_signer(journal, ReceiptSigner(keys.signing), public_jwks=keys.public_jwks())
    commits = GroupCommit(journal, failed=failures.append)
    commits.start()
    intake = Intake(
        commits,
        trust=lambda: trust,
        keys=lambda: keys,
        station_id=settings.station.id,
        authority_id=settings.authority.id,
        clock=clock,
    )
    yield Station(
        settings,
        commits=commits,
        intake=intake,
        board=Board(),
        workers={},
        composers={},
        keys=lambda: keys,
        clock=clock,
        failed=failures.append,
    )
    commits.stop()
    commits.journal.close()
    assert failures == []


class Client:
    def __init__(self, station: Station) -> None:
        self.api = HttpApi(station)

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def named(scope: Any, receive: Any, send: Any) -> None:
            scope["listener"] = Listener.UNIX
            scope["client"] = ("uid", 0)
            await self.api(scope, receive, send)

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=named)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.request(method, path, **more)

        return asyncio.run(call())


@pytest.fixture
def client(station: Station) -> Iterator[Client]:
    found = Client(station)
    yield found
    found.api.close()


def post(client: Client, content: bytes, kind: str = "application/jose") -> httpx.Response:
    return client("POST", "/v1/messages", content=content, headers={"content-type": kind})


def main_vectors(index: dict[str, Any]) -> list[dict[str, Any]]:
    # The first ones of the group need no book to be printed or another clock.
    return [
        vector
        for vector in index["vectors"]
        if vector["group"] == "main" and vector.get("now", NOW) == NOW
    ]


def test_every_vector_of_the_main_group_has_its_answer(
    client: Client, vectors_dir: Path, vectors_index: dict[str, Any]
):
    wrong = []
    for vector in main_vectors(vectors_index):
        answer = post(client, (vectors_dir / vector["file"]).read_bytes())
        body = answer.json()
        found = (answer.status_code, body["type"], body.get("job"))
        job = vector["job"] if vector["status"] in (200, 201) else None
        if found != (vector["status"], vector["type"], job):
            wrong.append((vector["name"], found))
        for secret in vector.get("secrets", []):
            assert secret not in answer.text
    assert wrong == []


def test_the_batch_is_accepted_in_order_and_known_afterwards(
    client: Client, vectors_dir: Path, vectors_index: dict[str, Any]
):
    batch = (vectors_dir / vectors_index["batch"]["file"]).read_bytes()
    first = post(client, batch, "application/jose-seq").json()
    again = post(client, batch.replace(b"\n", b"\r\n"), "application/jose-seq").json()
    assert [row["job"] for row in first] == [f"batch-{number:03}" for number in range(100)]
    assert {row["status"] for row in first} == {201}
    assert {row["status"] for row in again} == {200}
    jobs = client("GET", "/v1/jobs?limit=7&after=batch-009").json()
    assert [job["id"] for job in jobs] == [f"batch-{number:03}" for number in range(10, 17)]
    receipts = client("GET", "/v1/receipts?limit=1000")
    seq, head = receipts.headers["receipt-head"].split(" ")
    assert len(receipts.text.splitlines()) == int(seq) >= 100
    assert len(head) == 43


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        ("/v1/jobs?state=printing", 400, "malformed"),
        ("/v1/jobs?after=nobody", 404, "unknown-job"),
        ("/v1/jobs/nobody", 404, "unknown-job"),
        ("/v1/jobs/%00", 404, "unknown-job"),
        ("/v1/jobs/nobody/preview.png", 404, "unknown-job"),
    ],
)
def test_questions_without_an_answer_are_problems(
    client: Client, path: str, status: int, name: str
):
    answer = client("GET", path)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:print-agent:{name}")


def test_a_technician_s_acts_and_token(
    client: Client, station: Station, vectors_dir: Path, vectors_index: dict[str, Any]
):
    vector = main_vectors(vectors_index)[0]
    post(client, (vectors_dir / vector["file"]).read_bytes())
    job = client("POST", f"/v1/jobs/{vector['job']}/hold", json={"reason": "a smudge"}).json()
    assert (job["state"], job["reasons"]) == ("pending-held", ["job-hold"])
    unknown = client("POST", "/v1/jobs/nobody/hold")
    assert unknown.status_code == 404
    token = client("POST", "/v1/technicians/ani/add").json()["token"]
    assert station.technician_of_token(token) == "ani"
    assert client("GET", "/v1/status").json()["jobs"]["pending-held"] == 1
    assert 'state="pending-held"} 1.0' in client("GET", "/metrics").text
    assert client("GET", "/healthz").status_code == 200


def test_the_inbox_takes_refuses_and_tells(
    station: Station,
    client: Client,
    clock: ClockDouble,
    tmp_path: Path,
    vectors_dir: Path,
    vectors_index: dict[str, Any],
):
    directory = tmp_path / "inbox"
    directory.mkdir()
    inbox = Inbox(station, directory, clock=clock)
    good = (vectors_dir / main_vectors(vectors_index)[0]["file"]).read_bytes()
    (directory / "good.jws").write_bytes(good)
    (directory / "bad.jws").write_bytes(good[:-9])
    (directory / "mixed.jose-seq").write_bytes(good + b"\nnonsense\n")
    inbox.scan()
    clock.time += SETTLE_S
    inbox.scan()
    assert [file.name for file in (directory / "accepted").iterdir()] == ["good.jws"]
    refused = directory / "refused"
    problem = json.loads((refused / "bad.jws.problem.json").read_text())
    assert (problem["status"], problem["type"]) == (400, "urn:print-agent:malformed")
    rows = json.loads((refused / "mixed.jose-seq.problem.json").read_text())
    assert [row["status"] for row in rows] == [200, 400]
    events = [
        json.loads(decode_base64url(line.split(".")[1].encode()))["event"]
        for line in client("GET", "/v1/receipts").text.splitlines()
    ]
    assert events.count("message-refused") == 2
    assert events.count("job-accepted") == 1


def told_refusals(client: Client) -> list[dict[str, Any]]:
    lines = client("GET", "/v1/receipts?limit=1000").text.splitlines()
    claims = [json.loads(decode_base64url(line.split(".")[1].encode())) for line in lines]
    return [claim for claim in claims if claim["event"] == "message-refused"]


def test_of_a_flood_of_refused_messages_a_hundred_an_hour_are_told_and_the_rest_is_counted(
    station: Station, client: Client, clock: ClockDouble
):
    answer = station.intake.take(b"nonsense")
    for _ in range(150):
        station.refused(answer, b"nonsense")
    station.tick()
    assert len(told_refusals(client)) == 100
    clock.time += HOUR_S
    station.tick()
    station.tick()
    told = told_refusals(client)
    assert len(told) == 101
    assert told[-1]["evidence"] == {"count": 50}
    assert "note" not in told[-1]
    station.refused(answer, b"nonsense")
    told = told_refusals(client)
    assert len(told) == 102
    assert told[-1]["note"] == "malformed"
    assert told[-1]["evidence"] == {"sha256": base64url(hashlib.sha256(b"nonsense").digest())}


@pytest.mark.parametrize(
    ("name", "problem"), [("exp-past", "expired"), ("aud-wrong", "wrong-station")]
)
def test_a_refused_message_of_a_good_signature_is_told_with_its_jti_and_seq(
    station: Station, client: Client, vectors_dir: Path, name: str, problem: str
):
    raw = (vectors_dir / "messages" / f"{name}.jws").read_bytes()
    answer = station.intake.take(raw)
    station.refused(answer, raw)
    (told,) = told_refusals(client)
    assert told["note"] == problem
    assert told["evidence"]["jti"] == name
    assert told["evidence"]["seq"] > 0


def test_a_file_too_large_to_be_read_is_told_too(
    station: Station, client: Client, clock: ClockDouble, tmp_path: Path
):
    directory = tmp_path / "inbox"
    directory.mkdir()
    for name in ("x.jws", "y.jose-seq"):
        with (directory / name).open("wb") as file:
            file.truncate(10 * 1024**3)  # a sparse file: it takes no room
    inbox = Inbox(station, directory, clock=clock)
    inbox.scan()
    clock.time += SETTLE_S
    inbox.scan()
    assert [told["note"] for told in told_refusals(client)] == ["too-large"] * 2
    assert {path.name for path in (directory / "refused").iterdir()} == {
        "x.jws",
        "x.jws.problem.json",
        "y.jose-seq",
        "y.jose-seq.problem.json",
    }
