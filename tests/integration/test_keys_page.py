"""docs/keys.md, command by command: what is done after a rotation, a theft, a leak, with the reference authority and a thief."""

from __future__ import annotations

import contextlib
import json
import random
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from station_fixture import eventually, serving

from agent.authority import Authority, random_document
from agent.cli import main
from agent.cli.client import Client
from agent.clock import SystemClock
from agent.crypto.keys import StationKeys, write_private_file
from agent.model import Action, Role

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
STATION, AUTHORITY = "sambas-01", "imigrasi-jakarta"


def section(title: str) -> list[tuple[str, str]]:
    """The marked commands of a section: where each is typed, and what."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh (station|authority)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(place, line) for place, block in blocks for line in block.splitlines()]


class Desk:
    """An authority and a station that trusts it; the page is typed between them."""

    def __init__(self, folder: Path, monkeypatch, capsys) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        self.authority = Authority.create(folder / "imigrasi", AUTHORITY)
        state = folder / "station" / "s"
        state.mkdir(parents=True, mode=0o700)
        (folder / "received").mkdir()
        keys = StationKeys.generate()
        write_private_file(state / "station.jwks", keys.to_jwks())
        write_private_file(state / "trust.jwks", self.authority.trust_jwks())
        self.authority.add_station(STATION, keys.public_jwks())
        self._running = contextlib.ExitStack()
        self.client: Client
        self.start()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PRINT_AGENT_CONFIG", str(folder / "station" / "station.toml"))

    def start(self) -> None:
        self.client = self._running.enter_context(serving(self.folder / "station"))

    def stop(self) -> None:
        self._running.close()

    def type_section(self, title: str) -> list[str]:
        """Types a section's commands; gives what each showed."""
        shown = []
        for _, line in section(title):
            code, out, err = self.type(line)
            assert code == ("# exits with 1" in line), (line, out, err)
            shown.append(out + err)
        assert len(shown) >= 4
        return shown

    def type(self, line: str) -> tuple[int, str, str]:
        if line == "systemctl restart print-agent":
            self.stop()
            self.start()
            return 0, "", ""
        words = shlex.split(line, comments=True)
        file = None
        if ">" in words:
            words, (_, file) = words[: words.index(">")], words[words.index(">") :]
        self._monkeypatch.setattr(sys, "argv", words)
        code = main()
        out, err = self._capsys.readouterr()
        if file is not None:
            Path(file).write_text(out)
        return code, out, err

    def send(self, message: str) -> int:
        return self.client.call("POST", "/v1/messages", message.encode(), kind="application/jose")[
            0
        ]

    def authority_now(self) -> Authority:
        """The authority as its commands left it."""
        return Authority.load(self.folder / "imigrasi")

    def fetch(self) -> None:
        """The authority fetches the receipts, as every day."""
        raw = self.client.call("GET", "/v1/receipts?limit=1000")[1]
        (self.folder / "received" / f"{STATION}.receipts").write_bytes(raw)

    def job(self, job: str) -> tuple[str, list[str]]:
        found = self.client.get(f"/v1/jobs/{job}")
        return found["state"], found["reasons"]


def authorization(authority: Authority, job: str, book: str) -> str:
    now = SystemClock().now()
    document = random_document(book, random.Random(book))
    return authority.authorize(STATION, books=[(book, document)], jti=job, exp=now + 3_600, now=now)


@pytest.fixture
def desk(tmp_path, monkeypatch, capsys):
    desk = Desk(tmp_path, monkeypatch, capsys)
    assert desk.send(authorization(desk.authority, "job-1", "C1")) == 201
    yield desk
    desk.stop()


@pytest.fixture
def thief(desk) -> Authority:
    """Whoever has a copy of the authority's keys."""
    shutil.copytree(desk.folder / "imigrasi", desk.folder / "thief")
    return Authority.load(desk.folder / "thief")


def test_new_keys_for_the_station_and_what_was_under_way_to_the_old_ones(desk):
    under_way = authorization(desk.authority, "job-2", "C2")
    assert (
        "the chain is whole" in desk.type_section("Every year or two: new keys for the station")[-1]
    )
    assert desk.send(under_way) == 201
    assert desk.send(authorization(desk.authority, "job-3", "C3")) == 201
    registered = json.loads((desk.folder / "imigrasi/stations/sambas-01.jwks").read_text())
    new = json.loads((desk.folder / "sambas-01.keys").read_text())
    assert registered["keys"][:2] == new["keys"]
    assert len(registered["keys"]) == 4


def test_keys_that_were_copied_open_nothing_more(desk):
    under_way = authorization(desk.authority, "job-2", "C2")
    shown = desk.type_section("The station's keys were copied, the PC is still here")
    assert "? job job-2 was issued, and is not accepted so far" in shown[-1]
    rotated = SystemClock().now()
    eventually(
        lambda: SystemClock().now() > rotated
    )  # the old key takes messages to the end of its second
    assert desk.send(under_way) == 422
    assert desk.send(authorization(desk.authority, "job-4", "C2")) == 201
    # What was accepted in time is still opened.
    assert desk.client.call("GET", "/v1/jobs/job-1/preview.png")[0] == 200


def test_a_stolen_station_gives_everything_up_once_it_comes_back(desk):
    desk.fetch()
    shown = desk.type_section("The station was stolen")
    assert "C1\topen\tpending\tjob-1" in (desk.folder / "sambas-01.books").read_text()
    assert "--through" in shown[1]
    assert desk.job("job-1") == ("canceled", ["transferred"])
    assert desk.send(authorization(desk.authority, "job-2", "C2")) == 403


def test_after_a_leaked_issuer_key_the_thief_is_out_and_his_job_is_found_and_ended(desk, thief):
    # With the very number that the authority uses next.
    assert desk.send(authorization(thief, "smuggled", "C9")) == 201
    shown = desk.type_section("The issuer's key leaked")
    assert any("job smuggled was accepted, but never issued" in text for text in shown)
    assert desk.job("smuggled") == ("canceled", ["revoked"])
    assert desk.job("job-1") == ("pending", ["book-wanted", "printer-stopped"])
    assert desk.send(authorization(thief, "again", "C8")) == 401
    assert desk.send(authorization(desk.authority_now(), "job-2", "C2")) == 201


def test_after_a_leaked_root_key_the_faster_one_has_the_station(desk, thief):
    now = SystemClock().now()
    stolen = thief.direct(STATION, Action.TRUST, exp=now + 60, now=now, version=9)
    assert "the chain is whole" in desk.type_section("The root's key leaked")[-1]
    assert desk.send(stolen) == 401
    assert desk.send(authorization(desk.authority_now(), "job-2", "C2")) == 201


def test_a_thief_who_was_faster_with_the_root_key_is_seen(desk, thief):
    now = SystemClock().now()
    thief.rotate(Role.ROOT)
    assert desk.send(thief.direct(STATION, Action.TRUST, exp=now + 60, now=now, version=1)) == 201
    results = [desk.type(line) for _, line in section("The root's key leaked")]
    assert [code for code, _, _ in results] == [0, 0, 1, 0, 1]
    assert "trust-updated by message 2, which was never issued" in results[-1][1]
