"""Replays of what was accepted, and floods of what never will be, against a real station."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading

import pytest
from station_fixture import (
    ABSENT,
    VECTORS,
    await_healthy,
    directive,
    eventually,
    index,
    prepare,
    serving,
    start_process,
)

from agent.cli.client import CallFailed, Client
from agent.config import load_settings
from agent.crypto import jose
from agent.crypto.receipts import hash_of

JOB = "valid-es256"
OTHER = "valid-sex-f"
SEQ = 900_000
PR_GET_DUMPABLE = 3


def message(name):
    return (VECTORS / f"messages/{name}.jws").read_bytes()


def post(client, raw):
    status, body = client.call("POST", "/v1/messages", raw, kind="application/jose")
    return status, json.loads(body)["type"]


def state(client, job=JOB):
    return client.get(f"/v1/jobs/{job}")["state"]


def chain_end(lines):
    return {"through": len(lines), "head": hash_of(lines[-1])}


def events(client):
    bodies = [line.split(".")[1].encode() for line in client.receipts(0)]
    return [jose.parse_object(jose.decode_base64url(body))["event"] for body in bodies]


# Replays


def test_what_was_accepted_is_known_after_a_kill_and_a_restart(tmp_path):
    configuration = prepare(tmp_path, ABSENT)
    client = Client(load_settings(configuration).http.socket)
    process = start_process(configuration)
    await_healthy(client)
    assert post(client, message(JOB)) == (201, None)
    process.kill()
    process.wait()
    for _ in range(2):
        with serving(tmp_path) as client:
            assert post(client, message(JOB)) == (200, None)
            assert events(client).count("job-accepted") == 1


def test_what_was_erased_is_known_for_ever_and_is_no_new_job(tmp_path):
    with serving(tmp_path) as client:
        assert post(client, message(JOB)) == (201, None)
        assert post(client, directive(SEQ, "revoke", job=JOB)) == (201, None)
        acknowledge = directive(SEQ + 1, "acknowledge", **chain_end(client.receipts(0)))
        assert post(client, acknowledge) == (201, None)
        assert events(client)[-1] == "documents-erased"
        assert post(client, message(JOB)) == (200, None)
    with serving(tmp_path) as client:
        assert post(client, message(JOB)) == (200, None)
        assert post(client, directive(SEQ, "revoke", job=JOB)) == (200, None)
        assert post(client, directive(SEQ, "revoke", job=OTHER))[0] == 409
        assert state(client) == "canceled"


def journal(folder, *words):
    command = [
        sys.executable,
        "-m",
        "agent",
        "journal",
        *words,
        "--config",
        folder / "station.toml",
    ]
    subprocess.run(command, capture_output=True, check=True)


def test_what_a_restored_journal_has_forgotten_comes_back_printed_and_never_to_a_printer(tmp_path):
    with serving(tmp_path) as client:
        assert post(client, message(JOB)) == (201, None)
        journal(tmp_path, "backup", tmp_path / "copy.db")
        assert post(client, message(OTHER)) == (201, None)
        stored = client.receipts(0)
    journal(tmp_path, "restore", tmp_path / "copy.db")
    with serving(tmp_path) as client:
        assert post(client, message(JOB)) == (200, None)
        # The station has forgotten that it took the other one; the authority has not.
        resume = {"printed": [OTHER], **chain_end(stored)}
        assert post(client, directive(SEQ, "resume", **resume)) == (201, None)
        assert post(client, message(OTHER)) == (201, None)
        assert state(client, OTHER) == "completed"
        # Old orders were signed for another past: they are known, or taken and without effect.
        assert post(client, directive(SEQ, "resume", **resume)) == (200, None)
        old = directive(SEQ - 1, "acknowledge", **chain_end(stored))
        assert post(client, old) == (201, None)
        conditions = {condition["name"] for condition in client.get("/v1/status")["conditions"]}
        assert "journal-rolled-back" not in conditions


def test_a_replaced_key_stays_replaced_after_a_restart_whatever_the_file_says(tmp_path):
    with serving(tmp_path) as client:
        for name in ("trust-es256-before", "trust-v2"):
            assert post(client, message(name)) == (201, None)
    with serving(tmp_path) as client:
        bad_signature = (401, "urn:print-agent:bad-signature")
        assert post(client, message("trust-es256-after")) == bad_signature
        assert post(client, message("trust-v1")) == (409, "urn:print-agent:conflict")
        assert post(client, message("trust-new-issuer")) == (201, None)


# Floods


@pytest.mark.parametrize("name", ["signature-flipped", "kid-unknown", "too-large"])
def test_good_messages_are_served_while_bad_ones_pour_in(tmp_path, name):
    good = [line for line in message_batch() if line]
    bad = message(name)
    pouring = threading.Event()
    answered = [0]
    with serving(tmp_path) as client:

        def pour():
            own = Client(client.path)
            while not pouring.is_set():
                with contextlib.suppress(CallFailed):
                    assert own.call("POST", "/v1/messages", bad, kind="application/jose")[0] >= 400
                answered[0] += 1

        threads = [threading.Thread(target=pour) for _ in range(12)]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: answered[0] > 20)
            for raw in good[:20]:
                status, _ = client.call("POST", "/v1/messages", raw, kind="application/jose")
                assert status == 201
        finally:
            pouring.set()
            for thread in threads:
                thread.join()
        assert len(client.get("/v1/jobs")) == 20


def message_batch():
    return (VECTORS / index()["batch"]["file"]).read_bytes().split(b"\n")


# What a process may leave behind


def test_a_command_leaves_no_core_even_where_the_kernel_pipes_it_to_a_program():
    script = (
        "import ctypes, resource, sys; sys.argv = ['print-agent', '--version']\n"
        "from agent.cli import main\n"
        "assert main() == 0\n"
        f"print(ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines()[-1] == "0 (0, 0)"
