"""Backups, restores and rotated keys: the past never pretends to be the present."""

from __future__ import annotations

import json
import random
import sys

import pytest
from station_fixture import VECTORS, serving, start_process
from test_printing import Office

from agent.authority import Authority, random_document
from agent.cli import main
from agent.cli.client import CallFailed
from agent.clock import SystemClock
from agent.crypto.keys import load_station_keys
from agent.crypto.receipts import ChainVerifier, public_keys


@pytest.fixture
def run(monkeypatch, capsys):
    """The command in this process: its exit code, and what it printed."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["print-agent", *words])
        code = main()
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def submit(client, name):
    raw = (VECTORS / f"messages/{name}.jws").read_bytes()
    return client.call("POST", "/v1/messages", raw, kind="application/jose")[0]


def test_a_rotated_key_is_announced_by_the_old_one_and_the_chain_stays_whole(tmp_path, run):
    config = ("--config", str(tmp_path / "station.toml"))
    with serving(tmp_path) as client:
        assert submit(client, "valid-es256") == 201
    before = json.loads(run("keys", "show", *config)[1])
    assert run("keys", "rotate", *config)[0] == 0
    after = json.loads(run("keys", "show", *config)[1])
    assert {key["kid"] for key in before["keys"]}.isdisjoint(key["kid"] for key in after["keys"])
    with serving(tmp_path) as client:
        # Encrypted to the old key, inside the overlap; and one from before is still opened.
        assert submit(client, "valid-sex-f") == 201
        assert client.call("GET", "/v1/jobs/valid-es256/preview.png")[0] == 200
        lines = client.call("GET", "/v1/receipts?limit=1000")[1].decode().split()
    chain = ChainVerifier("sambas-01", public_keys(before))
    events = [chain.add(line)["event"] for line in lines]
    assert events.count("keys-rotated") == 1
    assert chain.keys.keys() <= {key["kid"] for key in after["keys"]}
    assert run("journal", "verify", *config)[0] == 0


class Rehearsal(Office):
    """An office whose authority is the reference one, with four jobs."""

    JOBS = ("job-1", "job-2", "job-3", "job-4")

    def __init__(self, folder):
        super().__init__(folder)
        self.folder = folder
        self.authority = Authority.create(folder / "authority", "imigrasi-jakarta")
        self.settings.authority.trust.write_text(json.dumps(self.authority.trust_jwks()))
        keys = load_station_keys(self.settings.keys.station)
        self.authority.add_station("sambas-01", keys.public_jwks())

    def authorize(self):
        now = SystemClock().now()
        rng = random.Random(7)
        lines = [
            self.authority.authorize(
                "sambas-01",
                books=[(f"R{job[-1]}", random_document(f"R{job[-1]}", rng))],
                jti=job,
                exp=now + 3_600,
                now=now,
            )
            for job in self.JOBS
        ]
        status, _ = self.client.call(
            "POST", "/v1/messages", "\n".join(lines).encode(), kind="application/jose-seq"
        )
        assert status == 207

    def put_in(self, book):
        """Presents a book, as soon as the printer takes one."""

        def presented():
            try:
                return self.client.post("/v1/printers/main/book", {"number": book})
            except CallFailed:
                return None

        self.wait_for(presented)

    def state(self, job):
        return self.client.get(f"/v1/jobs/{job}")["state"]

    def print(self, book):
        self.put_in(book)
        self.wait_for(lambda: self.state(f"job-{book[-1]}") == "completed")

    def receipts(self, name):
        """What the authority fetches, in a file."""
        path = self.folder / name
        path.write_bytes(self.client.call("GET", "/v1/receipts?limit=1000")[1])
        return path


@pytest.fixture
def rehearsal(tmp_path):
    office = Rehearsal(tmp_path)
    yield office
    office.end()


def test_a_rehearsal_of_backup_and_restore_while_printing_prints_nothing_twice(rehearsal, run):
    office, backup = rehearsal, rehearsal.folder / "backup.db"
    config = ("--config", str(office.configuration))
    office.start()
    office.authorize()
    office.put_in("R1")
    office.wait_for(lambda: office.client.get("/v1/jobs/job-1")["reasons"] == ["book-wanted"])
    # Slow enough for a backup in the middle of the first book.
    office.printer.set_speed(2.0)
    office.wait_for(lambda: office.printer.state().printing)
    assert run("journal", "backup", str(backup), *config)[0] == 0
    assert office.printer.state().printing
    office.printer.set_speed(40.0)
    office.wait_for(lambda: office.state("job-1") == "completed")
    office.print("R2")
    held = office.receipts("held")
    # Printed, and the authority has not heard of it when the disk dies.
    office.print("R3")
    code, _, told = run("journal", "restore", str(backup), *config)
    assert code == 1
    assert "another agent works on" in told
    office.kill()
    for path in office.settings.station.state_dir.glob("journal.db*"):
        if path.suffix != ".witness":
            path.unlink()
    refused = start_process(office.configuration)
    assert refused.wait(30) == 1
    assert "journal restore" in (office.folder / "log").read_text()

    assert run("journal", "restore", str(backup), *config)[0] == 0
    text = office.configuration.read_text()
    office.configuration.write_text(f'{text}\nbook_check = "none"\n')
    office.start()
    # The backup was made in the middle of the first book: nothing that the printer says now tells its fate.
    office.wait_for(lambda: office.state("job-1") == "processing-stopped")
    for book in ("R2", "R3", "R4"):
        assert "journal-rolled-back" in office.client.get(f"/v1/jobs/job-{book[-1]}")["reasons"]
        with pytest.raises(CallFailed):
            office.client.post("/v1/printers/main/book", {"number": book})

    new = office.receipts("new")
    receipts = ("--receipts", str(held), "--receipts", str(new))
    direct = ("authority", "direct", str(office.folder / "authority"), "resume")
    code, resume, _ = run(*direct, "--station", "sambas-01", *receipts, "--printed", "job-3")
    assert code == 0
    message = office.folder / "resume.jws"
    message.write_text(resume)
    code, *told = run("submit", str(message), *config)
    assert code == 0, told
    assert [office.state(job) for job in office.JOBS[:3]] == ["completed"] * 3
    # Whatever book_check says now, what was accepted before waits for its book.
    assert "book-wanted" in office.client.get("/v1/jobs/job-4")["reasons"]
    office.print("R4")

    last = office.receipts("last")
    files = [str(path) for path in (held, new, last)]
    keys = ("--authority-dir", str(office.folder / "authority"))
    code, told, _ = run("authority", "verify", *files, *keys)
    assert code == 0, told
    assert "the authority's resume let it go on" in told
    assert sorted(book.number for book in office.ink()) == ["R1", "R2", "R3", "R4"]
    assert all(len(book.passes) == 1 for book in office.ink())
    assert office.verify().faults == ()
