"""An extract for an auditor: proven with public keys only, and nothing inside can be left out or altered."""

from __future__ import annotations

import json
import sys

import pytest
from station_fixture import FixedClock, index, serving

from agent.cli import main
from agent.config import load_settings
from agent.crypto import jose
from agent.crypto.keys import StationKeys, load_station_keys, write_private_file
from agent.crypto.receipts import claims_unverified, compact, sign_claims
from agent.model import TYP_EXTRACT
from agent.queue.journal import Journal
from agent.service import open_journal

NOW = index()["now"]
DAY = 86_400


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    """A stopped station with three days of receipts about two jobs, and two rotations of its keys."""
    folder = tmp_path_factory.mktemp("station")
    with serving(folder, clock=FixedClock(NOW)):
        pass
    settings = load_settings(folder / "station.toml")
    (folder / "first.jwks").write_text(
        json.dumps(load_station_keys(settings.keys.station).public_jwks())
    )
    for day in range(3):
        if day:
            rotated = load_station_keys(settings.keys.station).rotate(NOW, DAY)
            settings.keys.station.unlink()
            write_private_file(settings.keys.station, rotated.to_jwks())
        journal, _ = open_journal(settings, clock=FixedClock(NOW + day * DAY))
        tell_a_day(journal)
        journal.close()
    return folder


def tell_a_day(journal: Journal) -> None:
    for event, job, book in (
        ("book-presented", "job-1", "C1"),
        ("book-presented", "job-2", "C2"),
        ("print-completed", "job-1", "C1"),
    ):
        journal.write(
            lambda tx, event=event, job=job, book=book: tx.receipt(
                event, actor="agent", job=job, state="processing", book=book
            )
        )


@pytest.fixture
def run(station, monkeypatch, capsys):
    monkeypatch.setenv("PRINT_AGENT_CONFIG", str(station / "station.toml"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["print-agent", *arguments])
        code = main()
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def prove(run, station, tmp_path):
    def call(lines: list[str], *options: str) -> tuple[int, str, str]:
        file = tmp_path / "extract"
        file.write_text("".join(f"{line}\n" for line in lines))
        keys = ("--keys", str(station / "first.jwks"))
        return run("authority", "verify", str(file), *keys, *options)

    return call


@pytest.fixture
def extract(run) -> list[str]:
    code, out, _ = run("journal", "export", "--job", "job-2")
    assert code == 0
    return out.split()


@pytest.mark.parametrize(
    ("scope", "events"),
    [
        (["--job", "job-2"], 3),
        (["--book", "C1"], 6),
        (["--from", "2030-01-02"], 4),
        (["--from", "2030-01-01", "--to", "2030-01-02"], None),
    ],
    ids=str,
)
def test_an_extract_is_proven_by_the_public_keys_with_which_the_chain_began(
    run, prove, scope, events
):
    code, out, _ = run("journal", "export", *scope)
    assert code == 0
    lines = out.split()
    code, out, _ = prove(lines)
    assert code == 0
    assert "the extract is whole: between receipts" in out
    told = json.loads(prove(lines, "--json")[1])
    assert told["whole"]
    assert told["extract"]["through"] > told["extract"]["last"] or scope[0] == "--book"
    if events is not None:
        assert len(told["entries"]) == events


def test_a_run_in_the_middle_brings_the_rotations_that_lead_to_its_keys(run, prove):
    # The second day begins behind the first rotation, and the statement is signed behind the second.
    lines = run("journal", "export", "--from", "2030-01-02")[1].split()
    assert claims_unverified(lines[0])["rotations"] == 1
    assert prove(lines)[0] == 0
    assert prove([lines[0], *lines[2:]])[0] == 1


def test_any_receipt_that_was_left_out_is_seen(prove, extract):
    assert len(extract) == 10
    for place in range(1, len(extract)):
        code, _, err = prove(extract[:place] + extract[place + 1 :])
        assert code == 1
        assert "BROKEN" in err


def test_what_was_cut_off_put_in_swapped_or_altered_is_seen(prove, extract, run):
    other = run("journal", "export", "--job", "job-1")[1].split()
    for bent in (
        extract[:-1],
        [*extract, other[-1]],
        [extract[0], extract[2], extract[1], *extract[3:]],
        [other[0], *extract[1:]],
        [*extract[:-1], extract[-1][:-4] + "AAAA"],
        extract[1:],
    ):
        assert prove(bent)[0] == 1


def test_a_station_that_leaves_out_a_receipt_cannot_sign_it_away(prove, extract, station):
    """With its own key: the run is proven by the chain, not by the statement."""
    keys = load_station_keys(load_settings(station / "station.toml").keys.station)
    run = extract[1:4] + extract[5:]
    claims = claims_unverified(extract[0]) | {
        "sha256": jose.sha256_base64url("\n".join(run).encode())
    }
    payload, signature = sign_claims(keys, claims, typ=TYP_EXTRACT)
    code, out, _ = prove([compact(keys.kid, payload, signature, typ=TYP_EXTRACT), *run])
    assert code == 1
    assert "a gap" in out


def test_a_second_story_with_the_same_ends_is_not_what_was_signed(prove, extract, station):
    """The station signed two receipts for the last place: the statement counts for one of them."""
    keys = load_station_keys(load_settings(station / "station.toml").keys.station)
    payload, signature = sign_claims(keys, claims_unverified(extract[-1]) | {"note": "another"})
    code, out, _ = prove([*extract[:-1], compact(keys.kid, payload, signature)])
    assert code == 1
    assert "the lines are not the ones that the station signed" in out


def test_a_statement_of_another_key_is_refused(prove, extract):
    keys = StationKeys.generate()
    payload, signature = sign_claims(keys, claims_unverified(extract[0]), typ=TYP_EXTRACT)
    code, _, err = prove([compact(keys.kid, payload, signature, typ=TYP_EXTRACT), *extract[1:]])
    assert code == 1
    assert "the extract of sambas-01 is BROKEN: signed with a key that is not the station's" in err


@pytest.mark.parametrize(
    "claims", [{"rotations": 99}, {"first": "1"}, {"head": None}, {"iss": "sambas-02"}], ids=str
)
def test_a_statement_that_makes_no_sense_is_one_line(prove, extract, claims):
    keys = StationKeys.generate()
    payload, signature = sign_claims(keys, claims_unverified(extract[0]) | claims, typ=TYP_EXTRACT)
    code, _, err = prove([compact(keys.kid, payload, signature, typ=TYP_EXTRACT), *extract[1:]])
    assert (code, err.count("\n")) == (1, 1)


def test_what_the_chain_does_not_know_is_no_extract(run):
    code, out, err = run("journal", "export", "--job", "job-9")
    assert (code, out) == (1, "")
    assert "the chain says nothing about it" in err


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--job", "a", "--book", "B"],
        ["--to", "2030-01-01"],
        ["--from", "2030-01-02", "--to", "2030-01-01"],
        ["--from", "x"],
    ],
    ids=str,
)
def test_wrong_usage_of_export(run, given):
    assert run("journal", "export", *given)[0] == 2
