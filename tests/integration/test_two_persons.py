"""Acts for which the configuration wants two technicians, by the command and by a program's call."""

from __future__ import annotations

import pytest
from station_fixture import VECTORS, serving
from typer.testing import CliRunner

from agent.cli.app import app
from agent.cli.client import CallFailed
from agent.crypto.receipts import claims_unverified

JOB = "valid-mononym"
TWO = '\n[console]\ntwo_person = ["hold", "accept"]\n'


@pytest.fixture
def client(tmp_path):
    with serving(tmp_path, printer='port = "/nonexistent/printer"' + TWO) as client:
        raw = (VECTORS / f"messages/{JOB}.jws").read_bytes()
        assert client.call("POST", "/v1/messages", raw, kind="application/jose")[0] == 201
        yield client


def token(client, name: str) -> str:
    return client.post(f"/v1/technicians/{name}/add", {})["token"]


def last_receipt(client):
    _, body = client.call("GET", "/v1/receipts?limit=1000")
    return claims_unverified(body.decode().splitlines()[-1])


def command(tmp_path, monkeypatch, *words: str, typed: str):
    monkeypatch.setattr("agent.cli.options.getpass", lambda prompt: typed)
    return CliRunner().invoke(app, [*words, "--config", str(tmp_path / "station.toml")])


def test_one_is_not_enough_and_the_receipt_names_both(client, tmp_path, monkeypatch):
    with pytest.raises(CallFailed, match="--second"):
        client.post(f"/v1/jobs/{JOB}/hold", {"reason": "r"})
    with pytest.raises(CallFailed, match="two technicians"):
        client.post(f"/v1/jobs/{JOB}/hold", {"reason": "r", "second": "guessed"})
    assert client.get(f"/v1/jobs/{JOB}")["state"] == "pending"

    second = token(client, "budi")
    done = command(tmp_path, monkeypatch, "hold", JOB, "--second", typed=second)
    assert done.exit_code == 0, done.output
    assert second not in done.output
    receipt = last_receipt(client)
    assert (receipt["event"], receipt["evidence"]) == ("job-held", {"second": "budi"})
    assert receipt["actor"].startswith("technician:")
    assert receipt["actor"] != "technician:budi"

    # For what is not listed one is enough.
    client.post(f"/v1/jobs/{JOB}/release", {"reason": "r"})
    assert "evidence" not in last_receipt(client)


def test_a_printer_is_accepted_by_two(client, tmp_path, monkeypatch):
    with pytest.raises(CallFailed, match="accept needs two technicians"):
        client.post("/v1/printers/main/accept", {"reason": "r"})
    words = ("printer", "accept", "main", "--reason", "new", "--second")
    refused = command(tmp_path, monkeypatch, *words, typed="guessed")
    assert refused.exit_code == 1
    done = command(tmp_path, monkeypatch, *words, typed=token(client, "budi"))
    assert done.exit_code == 0, done.output
