from __future__ import annotations

import base64
import datetime
import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.authority import Authority, random_document
from agent.authority import issuer as issuer_module
from agent.crypto.documents import open_documents
from agent.crypto.keys import StationKeys, TrustStore
from agent.crypto.verifier import open_envelope, read_claims
from agent.errors import ConfigurationInvalid
from agent.model import Action, Authorization, Directive
from agent.page.mrz import check_mrz
from tests.unit.chain_writer import NOW, ChainWriter

STATION = "sambas-01"
KEYS = StationKeys.generate()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority.create(tmp_path / "authority", "imigrasi-jakarta")
    made.add_station(STATION, KEYS.public_jwks())
    return made


def document(number: str = "C0000001", seed: int = 1) -> dict[str, Any]:
    return random_document(number, random.Random(seed))


def authorize(authority: Authority, jti: str, number: str = "C0000001") -> str:
    books = [(number, document(number))]
    return authority.authorize(STATION, books=books, jti=jti, exp=NOW + 60, now=NOW)


def read(authority: Authority, message: str) -> Authorization | Directive:
    envelope = open_envelope(
        message.encode(),
        trust=TrustStore.from_jwks(authority.trust_jwks()),
        station_id=STATION,
        authority_id=authority.id,
    )
    return read_claims(envelope)


def test_a_station_takes_what_is_authorized(authority: Authority) -> None:
    plain = document()
    del plain["mrz"]
    message = authority.authorize(
        STATION,
        books=[("C0000001", plain), ("C0000002", plain)],
        jti="job-1",
        exp=NOW + 60,
        now=NOW,
        nbf=NOW,
        priority=7,
        application="A-1",
    )
    claims = read(authority, message)
    assert isinstance(claims, Authorization)
    assert (claims.priority, claims.application, claims.envelope.nbf) == (7, "A-1", NOW)
    opened = open_documents(claims, KEYS, now=NOW, check_mrz=check_mrz)
    assert [d.document_number for d in opened] == ["C0000001", "C0000002"]


def test_directives_share_the_numbers_and_trust_is_signed_by_root(authority: Authority) -> None:
    authorize(authority, "job-1")
    hold = authority.direct(
        STATION, Action.HOLD, exp=NOW, now=NOW, job="job-1", reason="fee unpaid"
    )
    trust = authority.direct(STATION, Action.TRUST, exp=NOW, now=NOW, version=2)
    held, trusted = read(authority, hold), read(authority, trust)
    assert isinstance(held, Directive)
    assert isinstance(trusted, Directive)
    assert (held.envelope.seq, held.envelope.jti, held.job) == (2, "directive-2", "job-1")
    assert (trusted.envelope.seq, trusted.version) == (3, 2)


def test_numbers_go_on_after_a_restart_and_for_each_station(authority: Authority) -> None:
    authorize(authority, "job-1")
    again = Authority.load(authority.directory)
    assert read(again, authorize(again, "job-2")).envelope.seq == 2
    again.add_station("other", StationKeys.generate().public_jwks())
    again.direct("other", Action.RETIRE, exp=NOW, now=NOW, reason="")
    assert again.issued("other")[-1]["seq"] == 1
    assert [row["jti"] for row in again.issued(STATION)] == ["job-1", "job-2"]


def test_a_line_torn_by_a_power_cut_never_left_and_its_number_is_used_again(
    authority: Authority,
) -> None:
    authorize(authority, "job-1")
    path = authority.directory / "issued" / f"{STATION}.jsonl"
    with path.open("ab") as file:
        file.write(b'{"seq": 2, "jti": "torn')
    assert [row["jti"] for row in authority.issued(STATION)] == ["job-1"]
    assert read(authority, authorize(authority, "job-2")).envelope.seq == 2
    assert [row["jti"] for row in authority.issued(STATION)] == ["job-1", "job-2"]


def test_a_number_is_durable_before_its_message_leaves(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(issuer_module.os, "fsync", fail)
    with pytest.raises(OSError, match="no disk"):
        authorize(authority, "job-1")


def test_nothing_of_a_holder_is_kept_in_clear(authority: Authority) -> None:
    plain = document()
    authority.authorize(STATION, books=[("C0000001", plain)], jti="job-1", exp=NOW, now=NOW)
    kept = b"".join(path.read_bytes() for path in authority.directory.rglob("*") if path.is_file())
    assert b"job-1" in kept
    assert plain["primary_identifier"].encode() not in kept
    assert plain["mrz"][0].encode() not in kept


def test_private_keys_are_private(authority: Authority) -> None:
    path = authority.directory / "authority.jwks"
    assert path.stat().st_mode & 0o777 == 0o600
    secrets = [key["d"] for key in json.loads(path.read_text())["keys"]]
    assert not any(secret in json.dumps(authority.trust_jwks()) for secret in secrets)
    with pytest.raises(ConfigurationInvalid, match="never overwritten"):
        Authority.create(authority.directory, "another")
    with pytest.raises(ConfigurationInvalid, match="private keys"):
        authority.add_station("s", KEYS.to_jwks())


def test_an_unknown_station_or_directory_is_named(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="unknown; registered: sambas-01"):
        authority.direct("elsewhere", Action.RETIRE, exp=NOW, now=NOW, reason="")
    with pytest.raises(ConfigurationInvalid, match="unknown"):
        authority.verify("../authority", [])
    with pytest.raises(ConfigurationInvalid, match="allowed"):
        authority.add_station("../x", KEYS.public_jwks())
    with pytest.raises(ConfigurationInvalid, match="X25519"):
        authority.add_station("s", {"keys": KEYS.public_jwks()["keys"][:1]})
    with pytest.raises(ConfigurationInvalid, match="no reference authority"):
        Authority.load(tmp_path)


def test_an_audit_says_what_became_of_a_job_and_a_book(authority: Authority) -> None:
    authorize(authority, "job-1")
    authorize(authority, "job-2", "C0000002")
    station = ChainWriter(STATION, KEYS)
    station.tell("station-started")
    station.tell("job-accepted", job="job-1", state="pending", book="C0000001", actor="authority")
    station.tell("print-committed", job="job-1", state="processing", book="C0000001", actor="agent")
    station.tell("print-in-doubt", job="job-1", state="processing-stopped", book="C0000001")
    station.tell(
        "print-completed",
        iat=NOW + 86_400,
        job="job-1",
        state="completed",
        book="C0000001",
        actor="technician:adi",
    )
    audit = authority.verify(STATION, ["\n", *station.lines])
    assert audit.is_whole()
    assert audit.job_state("job-1") == "completed"
    assert audit.job_state("job-2") is None
    assert audit.never_accepted == ("job-2",)
    assert [entry.event for entry in audit.book("C0000001")][-1] == "print-completed"
    assert [entry.actor for entry in audit.acts(datetime.date(2030, 1, 2))] == ["technician:adi"]
    assert [entry.actor for entry in audit.acts(datetime.date(2030, 1, 1))] == ["authority"]
    assert (audit.through, audit.head) == (5, station.head)
    order = authority.direct(
        STATION, Action.ACKNOWLEDGE, exp=NOW, now=NOW, through=audit.through, head=audit.head
    )
    assert isinstance(read(authority, order), Directive)


def test_an_audit_shows_a_missing_receipt_and_a_job_that_nobody_issued(
    authority: Authority,
) -> None:
    station = ChainWriter(STATION, KEYS)
    for event in ("station-started", "print-completed", "station-started"):
        station.tell(event)
    station.tell("job-accepted", job="smuggled", state="pending")
    audit = authority.verify(STATION, station.lines[:1] + station.lines[2:])
    assert not audit.is_whole()
    assert [fault.seq for fault in audit.faults] == [3]
    assert audit.never_issued == ("smuggled",)


def test_an_audit_follows_a_rotation_although_the_station_was_registered_anew(
    authority: Authority,
) -> None:
    station = ChainWriter(STATION, KEYS)
    station.tell("station-started")
    rotated = KEYS.rotate(NOW, 60)
    station.tell("keys-rotated", evidence=rotated.public_jwks())
    station.keys = rotated
    station.tell("station-started")
    authority.add_station(STATION, rotated.public_jwks())
    assert authority.verify(STATION, station.lines).is_whole()
    sealed = read(authority, authorize(authority, "job-1"))
    assert isinstance(sealed, Authorization)
    assert open_documents(sealed, rotated, now=NOW + 999, check_mrz=check_mrz)
    forged = ChainWriter(STATION, rotated)
    forged.tell("station-started")
    assert not authority.verify(STATION, forged.lines).is_whole()


@pytest.mark.parametrize("seed", range(6))
def test_invented_people_are_acceptable_and_their_portraits_of_a_usual_size(seed: int) -> None:
    plain = document(seed=seed)
    assert plain == document(seed=seed)
    photo = base64.b64decode(plain["photo"]["data"])
    assert 15_000 < len(photo) < 40_000
    with Image.open(io.BytesIO(photo)) as image:
        assert image.format == "JPEG"
    assert plain["issuing_state"] == "UTO"
    assert plain["issuing_authority"] == "SPECIMEN"
    assert document(seed=seed) != document(seed=seed + 100)


def test_a_portrait_of_a_demo_bears_the_word() -> None:
    def pixels(**over: Any) -> bytes:
        data = random_document("C1", random.Random(1), **over)["photo"]["data"]
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            return image.tobytes()

    assert pixels(specimen=True) != pixels(specimen=False)


ISSUE_TWENTY = f"""
import sys
from pathlib import Path
from agent.authority import Authority
from agent.model import Action
authority = Authority.load(Path(sys.argv[1]))
for _ in range(20):
    authority.direct({STATION!r}, Action.HOLD, exp=1, now=1, job="j", reason="")
"""


def test_two_processes_never_give_out_one_number(authority: Authority) -> None:
    command = [sys.executable, "-c", ISSUE_TWENTY, str(authority.directory)]
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert [row["seq"] for row in authority.issued(STATION)] == list(range(1, 41))
