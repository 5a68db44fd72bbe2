"""The reference authority's commands: what they sign the station takes, and a broken chain is seen."""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from station_fixture import ABSENT, VECTORS, await_healthy, prepare

from agent.authority import random_document
from agent.cli import main
from agent.cli.client import Client
from agent.cli.message_commands import claims_of
from agent.config import load_settings
from agent.crypto.keys import load_station_keys
from agent.service import Service, hold_state_directory

Run = Callable[..., tuple[int, str, str]]
STATION = "sambas-01"
AUTHORITY = "imigrasi-jakarta"


@pytest.fixture
def run(monkeypatch, capsys) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["print-agent", *arguments])
        code = main()
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def folder(run, tmp_path, monkeypatch) -> str:
    """An authority that knows the station's public keys."""
    monkeypatch.setenv("PRINT_AGENT_CONFIG", str(tmp_path / "station.toml"))
    assert run("authority", "init", str(tmp_path / "auth"), "--id", AUTHORITY)[0] == 0
    return str(tmp_path / "auth")


def test_a_day_from_authorization_to_a_proven_chain(run, folder, tmp_path):
    keys = keys_of_the_station(folder)
    public = keys[-1]
    with serving_with_trust(tmp_path, Path(folder, "trust.jwks")):
        code, out, _ = run(
            *("authority", "authorize", folder, *keys),
            *("--book", "C0000001", "--book", "D0000001", "--random", "--count", "3"),
            *("--out", str(tmp_path / "out")),
        )
        assert code == 0
        files = out.split()
        assert len(files) == 3
        assert run("submit", *files)[0] == 0
        jobs = json.loads(run("jobs", "--json")[1])
        assert [job["book"] for job in jobs] == ["C0000001", "C0000002", "C0000003"]
        revoke = tmp_path / "revoke.jws"
        name = jobs[0]["id"]
        revoke.write_text(
            run("authority", "direct", folder, "revoke", "--station", STATION, "--job", name)[1]
        )
        assert run("submit", str(revoke))[0] == 0
        chain = tmp_path / "chain"
        chain.write_text(run("receipts")[1])
    code, out, _ = run("authority", "verify", str(chain), "--keys", public, "--job", name)
    assert code == 0
    assert "the chain is whole" in out
    assert "canceled" in out
    code, out, _ = run(
        "authority", "verify", str(chain), "--authority-dir", folder, "--json", "--job", name
    )
    assert json.loads(out)["job_state"] == "canceled"
    lines = chain.read_text().splitlines()
    chain.write_text("\n".join([*lines[:2], *lines[3:]]))
    code, _, err = run("authority", "verify", str(chain), "--keys", public)
    assert code == 1
    assert "BROKEN" in err


@contextlib.contextmanager
def serving_with_trust(folder: Path, trust: Path) -> Iterator[None]:
    """A station that trusts the authority of the test."""
    settings = load_settings(prepare(folder, ABSENT))
    settings.authority.trust.write_bytes(trust.read_bytes())
    with hold_state_directory(settings):
        service = Service(settings)
        service.start()
        try:
            await_healthy(Client(settings.http.socket))
            yield
        finally:
            service.stop()


def keys_of_the_station(folder: str) -> list[str]:
    """The vectors' station, by its public keys."""
    private = Path(folder, "station.jwks")
    private.write_bytes((VECTORS / "station.jwks").read_bytes())
    private.chmod(0o600)
    file = Path(folder, "public.jwks")
    file.write_text(json.dumps(load_station_keys(private).public_jwks()))
    return ["--station", STATION, "--station-keys", str(file)]


def test_the_station_s_keys_are_remembered(run, folder):
    book = ["--book", "C0000001", "--random"]
    code, _, err = run("authority", "authorize", folder, "--station", STATION, *book)
    assert code == 1
    assert f"station {STATION}: unknown" in err
    assert run("authority", "authorize", folder, *keys_of_the_station(folder), *book)[0] == 0
    code, out, _ = run("authority", "authorize", folder, "--station", STATION, *book, "--exp", "2h")
    assert code == 0
    claims = claims_of(out)
    assert claims["exp"] - claims["iat"] == 7_200
    assert claims["seq"] == 2


def test_a_document_from_a_file_and_a_bad_one_without_its_content(run, folder, tmp_path):
    keys = keys_of_the_station(folder)
    file = tmp_path / "document.json"
    document = random_document("C0000001", random.Random(3))
    file.write_text(json.dumps(document))
    base = ["authority", "authorize", folder, *keys, "--book", "C0000001", "--document", str(file)]
    assert run(*base)[0] == 0
    bad = {name: value for name, value in document.items() if name != "mrz"}
    file.write_text(json.dumps(bad | {"primary_identifier": "漢字"}))
    code, _, err = run(*base)
    assert (code, err.count("\n")) == (1, 1)
    assert "漢字" not in err
    del bad["sex"]
    file.write_text(json.dumps(bad))
    assert "the document has no sex" in run(*base)[2]


@pytest.mark.parametrize(
    "given",
    [
        ["--book", "C1"],
        ["--book", "C1", "--random", "--document", "x.json"],
        ["--book", "C1", "--random", "--count", "2", "--jti", "a"],
        ["--book", "CX", "--random", "--count", "2"],
        ["--book", "C9", "--random", "--count", "2"],
        ["--book", "C1", "--random", "--exp", "soon"],
        [*(("--book", "C1") * 5), "--random"],
    ],
)
def test_wrong_usage_of_authorize(run, folder, given):
    keys = keys_of_the_station(folder)
    assert run("authority", "authorize", folder, *keys, *given)[0] == 2


@pytest.mark.parametrize(
    ("given", "claims"),
    [
        (["hold", "--job", "a", "--reason", "r"], {"job": "a", "reason": "r"}),
        (["transfer", "--job", "a", "--to", "s2"], {"job": "a", "to": "s2"}),
        (["retire", "--reason", "moved"], {"reason": "moved"}),
        (["acknowledge", "--through", "3", "--head", "h"], {"through": 3, "head": "h"}),
        (
            ["resume", "--through", "3", "--head", "h", "--printed", "a"],
            {"through": 3, "head": "h", "printed": ["a"]},
        ),
        (["trust", "--version", "2"], {"version": 2}),
    ],
)
def test_directives_carry_what_their_action_needs(run, folder, given, claims):
    run("authority", "authorize", folder, *keys_of_the_station(folder), "--book", "C1", "--random")
    code, out, _ = run("authority", "direct", folder, *given, "--station", STATION)
    assert code == 0
    told = claims_of(out)
    assert told | claims == told
    assert told["action"] == given[0]


@pytest.mark.parametrize(
    "given",
    [
        ["revoke"],
        ["transfer", "--job", "a"],
        ["retire"],
        ["acknowledge", "--through", "1"],
        ["hold", "--job", "a", "--to", "b"],
    ],
)
def test_a_directive_that_lacks_a_claim_is_wrong_usage(run, folder, given):
    run("authority", "authorize", folder, *keys_of_the_station(folder), "--book", "C1", "--random")
    assert run("authority", "direct", folder, *given, "--station", STATION)[0] == 2


def test_what_is_no_chain_is_one_line(run, folder, tmp_path):
    file = tmp_path / "chain"
    file.write_text("nonsense\n")
    code, _, err = run("authority", "verify", str(file), "--authority-dir", folder)
    assert (code, err.count("\n")) == (1, 1)
    assert run("authority", "verify", str(file))[0] == 2
