"""Backups, restores and rotated keys: the past never pretends to be the present."""

from __future__ import annotations

import json
import subprocess
import sys

from station_fixture import ABSENT, VECTORS, await_healthy, prepare, serving, start_process

from agent.cli.client import Client
from agent.config import load_settings
from agent.crypto.receipts import ChainVerifier, public_keys


def command(configuration, *words):
    """The command, and what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *words, "--config", str(configuration)],
        capture_output=True,
        text=True,
        check=False,
    )


def submit(client, name):
    raw = (VECTORS / f"messages/{name}.jws").read_bytes()
    return client.call("POST", "/v1/messages", raw, kind="application/jose")[0]


def test_a_restored_backup_stops_printing_and_says_so(tmp_path):
    configuration = prepare(tmp_path, ABSENT)
    client = Client(load_settings(configuration).http.socket)
    process = start_process(configuration)
    await_healthy(client)
    assert submit(client, "valid-es256") == 201
    assert command(configuration, "journal", "backup", str(tmp_path / "copy.db")).returncode == 0
    assert submit(client, "valid-sex-f") == 201
    refused = command(configuration, "journal", "restore", str(tmp_path / "copy.db"))
    assert refused.returncode == 1
    assert "another agent works on" in refused.stderr
    process.terminate()
    assert process.wait(30) == 0
    assert command(configuration, "journal", "restore", str(tmp_path / "copy.db")).returncode == 0
    assert command(configuration, "journal", "verify").returncode == 0
    process = start_process(configuration)
    await_healthy(client)
    jobs = client.get("/v1/jobs")
    assert [job["id"] for job in jobs] == ["valid-es256"]
    assert "journal-rolled-back" in jobs[0]["reasons"]
    assert submit(client, "valid-sex-f") == 201
    process.terminate()
    assert process.wait(30) == 0


def test_a_rotated_key_is_announced_by_the_old_one_and_the_chain_stays_whole(tmp_path):
    with serving(tmp_path) as client:
        assert submit(client, "valid-es256") == 201
    configuration = tmp_path / "station.toml"
    before = json.loads(command(configuration, "keys", "show").stdout)
    assert command(configuration, "keys", "rotate").returncode == 0
    after = json.loads(command(configuration, "keys", "show").stdout)
    assert {key["kid"] for key in before["keys"]}.isdisjoint(key["kid"] for key in after["keys"])
    process = start_process(configuration)
    client = Client(load_settings(configuration).http.socket)
    await_healthy(client)
    # Encrypted to the old key, inside the overlap.
    assert submit(client, "valid-sex-f") == 201
    lines = client.call("GET", "/v1/receipts?limit=1000")[1].decode().split()
    process.terminate()
    assert process.wait(30) == 0
    chain = ChainVerifier("sambas-01", public_keys(before))
    events = [chain.add(line)["event"] for line in lines]
    assert events.count("keys-rotated") == 1
    assert chain.keys.keys() <= {key["kid"] for key in after["keys"]}
    assert command(configuration, "journal", "verify").returncode == 0
