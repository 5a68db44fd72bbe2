"""`authority verify`: each attack on a chain has a name, and the answers are those that an auditor asks for."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.authority import Authority, random_document
from agent.cli import main
from agent.crypto import jose
from agent.crypto.keys import StationKeys
from agent.crypto.receipts import claims_unverified, hash_of
from agent.model import Action
from tests.unit.chain_writer import NOW, ChainWriter

STATION, AUTHORITY = "sambas-01", "imigrasi-jakarta"
FIRST, SECOND, FOREIGN = (StationKeys.generate() for _ in range(3))
DAY = 86_400


class Chain(ChainWriter):
    """A station's chain, with what this module needs to bend it."""

    def branch(self) -> Chain:
        other = Chain(self.station, self.keys)
        other.lines, other.seq, other.head = list(self.lines), self.seq, self.head
        return other

    def resume(self, lost: Chain, *, forked_after: int | None) -> None:
        self.seq = max(lost.seq, self.seq)
        evidence = {"through": lost.seq, "head": lost.head, "forked_after": forked_after}
        self.tell("journal-resumed", actor="authority", evidence=evidence)


def story() -> Chain:
    """A day: one book printed, one in doubt that a technician looked at, a job revoked."""
    chain = Chain(STATION, FIRST)
    chain.tell("station-started", actor="agent")
    for number in (1, 2, 3):
        chain.tell(
            "job-accepted",
            job=f"job-{number}",
            state="pending",
            book=f"C{number}",
            actor="authority",
        )
    for number, outcome in ((1, "print-completed"), (2, "print-in-doubt")):
        about = {"job": f"job-{number}", "book": f"C{number}"}
        chain.tell("book-presented", state="processing", actor="technician:ani", **about)
        chain.tell("print-committed", state="processing", actor="agent", **about)
        state = "completed" if outcome == "print-completed" else "processing-stopped"
        chain.tell(outcome, state=state, actor="agent", **about)
    chain.tell(
        "job-canceled",
        iat=NOW + DAY,
        job="job-3",
        state="canceled",
        reasons=["revoked"],
        book="C3",
        actor="authority",
    )
    chain.tell(
        "book-spoiled",
        iat=NOW + DAY,
        job="job-2",
        state="aborted",
        reasons=["book-spoiled"],
        book="C2",
        actor="technician:budi",
        note="torn at the fold",
    )
    return chain


class Desk:
    """An auditor with the station's public keys and files of receipts."""

    def __init__(self, folder: Path, monkeypatch, capsys) -> None:
        self._folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        self.keys = self.file("keys", json.dumps(FIRST.public_jwks()))

    def file(self, name: str, text: str) -> str:
        path = self._folder / name
        path.write_text(text)
        return str(path)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["print-agent", *arguments])
        code = main()
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def verify(self, *deliveries: list[str], options: tuple[str, ...] = ()) -> tuple[int, str, str]:
        files = [
            self.file(f"delivery-{number}", "".join(lines))
            for number, lines in enumerate(deliveries)
        ]
        keys = () if "--authority-dir" in options else ("--keys", self.keys)
        return self.run("authority", "verify", *files, *keys, *options)


@pytest.fixture
def desk(tmp_path, monkeypatch, capsys) -> Desk:
    return Desk(tmp_path, monkeypatch, capsys)


def gap() -> list[list[str]]:
    lines = story().lines
    return [lines[:3] + lines[5:]]


def missing_beginning() -> list[list[str]]:
    return [story().lines[1:]]


def fork_between_two_deliveries() -> list[list[str]]:
    chain = story()
    other = chain.branch()
    chain.tell("print-completed", job="job-2", state="completed", book="C2", actor="technician:ani")
    other.tell("station-started", actor="agent")
    return [chain.lines, other.lines]


def rollback() -> list[list[str]]:
    chain = story()
    old = Chain(STATION, FIRST)
    old.lines, old.seq, old.head = chain.lines[:4], 4, hash_of(chain.lines[3].strip())
    old.tell("station-started", actor="agent")
    return [chain.lines, old.lines]


def resigned_by_another_key() -> list[list[str]]:
    chain = Chain(STATION, FOREIGN)
    for line in range(5):
        chain.tell("station-started", note=str(line))
    return [chain.lines]


def one_receipt_resigned() -> list[list[str]]:
    chain = story()
    forged = chain.branch()
    forged.seq, forged.head, forged.keys = 4, hash_of(chain.lines[3].strip()), FOREIGN
    forged.tell(
        "book-presented", job="job-2", state="processing", book="C2", actor="technician:ani"
    )
    return [[*chain.lines[:4], forged.lines[-1], *chain.lines[5:]]]


def altered_claim() -> list[list[str]]:
    lines = story().lines
    head, payload, signature = lines[6].split(".")
    bent = jose.decode_base64url(payload.encode()).replace(b"job-1", b"job-2")
    return [[*lines[:6], f"{head}.{jose.encode_base64url(bent)}.{signature}", *lines[7:]]]


def second_jump() -> list[list[str]]:
    chain, lost = story(), story()
    lost.tell("station-started")
    chain.resume(lost, forked_after=None)
    chain.seq += 3
    chain.tell("station-started")
    return [chain.lines]


def jump_without_a_resume() -> list[list[str]]:
    chain = story()
    chain.seq += 5
    chain.tell("journal-rolled-back", evidence={"through": chain.seq, "head": "h"})
    return [chain.lines]


def jump_further_than_the_resume_says() -> list[list[str]]:
    chain = story()
    evidence = {"through": 20, "head": "h", "forked_after": None}
    chain.seq = 30
    chain.tell("journal-resumed", evidence=evidence)
    return [chain.lines]


def keys_rotated_signed_by_the_new_key() -> list[list[str]]:
    chain = story()
    chain.keys = FIRST.rotate(NOW, 60)
    chain.tell("keys-rotated", evidence=chain.keys.public_jwks())
    chain.tell("station-started")
    return [chain.lines]


def keys_rotated_signed_by_a_foreign_key() -> list[list[str]]:
    chain = story()
    chain.keys = FOREIGN
    chain.tell("keys-rotated", evidence=FOREIGN.public_jwks())
    return [chain.lines]


def old_key_used_after_the_rotation() -> list[list[str]]:
    chain = story()
    chain.tell("keys-rotated", evidence=SECOND.public_jwks())
    chain.tell("station-started")
    return [chain.lines]


def another_station_s_receipts() -> list[list[str]]:
    other = Chain("sambas-02", FIRST)
    other.tell("station-started")
    return [story().lines, other.lines]


def no_receipt_among_them() -> list[list[str]]:
    return [["e30.e30.e30\n", *story().lines]]


def fork_on_a_branch_with_a_hole() -> list[list[str]]:
    chain = story()
    branch = Chain(STATION, FIRST)
    branch.lines, branch.seq, branch.head = [], 4, hash_of(chain.lines[3].strip())
    branch.tell("journal-rolled-back", actor="agent", evidence={"restored_through": 4})
    branch.tell(
        "print-completed", job="job-3", state="completed", book="C3", actor="technician:ani"
    )
    branch.tell("station-started", actor="agent")
    hidden = branch.lines.pop(1)
    branch.resume(chain, forked_after=4)
    assert hidden not in branch.lines
    return [chain.lines, branch.lines]


ATTACKS: dict[Callable[[], list[list[str]]], str] = {
    gap: "receipt 6: a gap: receipts 4 to 5 are missing",
    missing_beginning: "receipt 2: a gap: receipt 1 is missing",
    fork_between_two_deliveries: "receipt 13: a fork: two receipts have this seq",
    rollback: "receipt 5: a fork: two receipts have this seq",
    one_receipt_resigned: "receipt 5: signed with a key that is not the station's at this point",
    altered_claim: "receipt 7: the signature is not the station's",
    second_jump: "receipt 18: a gap: receipts 15 to 17 are missing",
    jump_without_a_resume: "receipt 18: a gap: receipts 13 to 17 are missing",
    jump_further_than_the_resume_says: "receipt 31: a gap: journal-resumed is not the receipt after 20",
    keys_rotated_signed_by_the_new_key: "receipt 13: signed with a key that is not the station's",
    keys_rotated_signed_by_a_foreign_key: "receipt 13: signed with a key that is not the station's",
    old_key_used_after_the_rotation: "receipt 14: signed with a key that is not the station's",
    another_station_s_receipts: "receipt 1: the iss is another station",
    no_receipt_among_them: "the header is not exactly",
    fork_on_a_branch_with_a_hole: "receipt 7: a fork: two receipts have this seq",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_on_the_chain_is_told_and_exits_1(desk, attack):
    code, out, err = desk.verify(*attack(), options=("--station", STATION))
    assert code == 1
    assert f"! {ATTACKS[attack]}" in out
    assert f"the chain of {STATION} is BROKEN" in err
    assert err.count("\n") == 1


def test_a_chain_of_another_key_says_which_keys_are_needed(desk):
    chain = Chain(STATION, FOREIGN)
    for _ in range(50):
        chain.tell("station-started")
    code, out, err = desk.verify(chain.lines)
    assert code == 1
    assert "none of these receipts is signed with the given keys" in err
    assert "! and 30 more of the kind" in out


def test_a_whole_chain_in_overlapping_deliveries_in_any_order_is_whole(desk):
    chain = story()
    chain.tell("keys-rotated", evidence=SECOND.public_jwks())
    chain.keys = SECOND
    chain.tell("station-started")
    lines = chain.lines
    for deliveries in ([lines], [lines[:8], lines[4:]], [lines[6:], lines[:9]]):
        code, out, _ = desk.verify(*deliveries)
        assert code == 0
        assert "14 receipts of sambas-01: the chain is whole" in out
        assert f"--through 14 --head={chain.head}" in out


def test_what_became_of_a_job_a_book_and_who_did_what_that_day(desk):
    lines = story().lines
    code, out, _ = desk.verify(lines, options=("--job", "job-2"))
    assert code == 0
    assert out.startswith("job job-2 is aborted (book-spoiled) since 2030-01-02 00:00:00 UTC\n")
    assert [row.split()[3] for row in out.splitlines()[2:7]] == [
        *("job-accepted", "book-presented", "print-committed", "print-in-doubt", "book-spoiled")
    ]
    assert "torn at the fold" in out
    _, out, _ = desk.verify(lines, options=("--book", "C1"))
    assert out.startswith(
        "book C1 is printed, says print-completed of job job-1 by agent, 2030-01-01 00:00:00 UTC\n"
    )
    _, out, _ = desk.verify(lines, options=("--day", "2030-01-02"))
    assert "technician:budi" in out
    assert "authority" in out
    assert "technician:ani" not in out
    code, out, _ = desk.verify(lines, options=("--job", "job-9"))
    assert code == 0
    assert "the chain says nothing about it" in out


def test_the_answers_for_programs(desk):
    code, out, _ = desk.verify(story().lines, options=("--book", "C2", "--json"))
    told = json.loads(out)
    assert code == 0
    assert (told["whole"], told["through"], told["book_fate"]) == (True, 12, "spoiled")
    assert [entry["seq"] for entry in told["entries"]] == [3, 8, 9, 10, 12]
    code, out, _ = desk.verify(*gap(), options=("--json",))
    assert code == 1
    assert json.loads(out)["faults"] == [{"seq": 6, "detail": "a gap: receipts 4 to 5 are missing"}]


def rolled_back(*, told: int) -> tuple[Chain, Chain]:
    """A chain that was lost after receipt 4, and the restored one, of which ``told`` receipts stood before the resume."""
    lost = story()
    restored = Chain(STATION, FIRST)
    restored.lines, restored.seq, restored.head = [], 4, hash_of(lost.lines[3].strip())
    restored.tell("journal-rolled-back", actor="agent", evidence={"restored_through": 4})
    for _ in range(told - 1):
        restored.tell("station-started", actor="agent")
    return lost, restored


@pytest.mark.parametrize("told", [1, 3, 12])
def test_a_rollback_that_the_authority_has_resumed_is_whole_and_is_told(desk, told):
    lost, restored = rolled_back(told=told)
    code, out, _ = desk.verify(lost.lines, restored.lines)
    assert code == 1
    assert "a fork" in out
    restored.resume(lost, forked_after=4)
    restored.tell("station-started")
    for deliveries in ([lost.lines, restored.lines], [lost.lines, restored.lines, lost.lines]):
        code, out, _ = desk.verify(*deliveries)
        assert code == 0, out
        assert "the station had lost what it wrote between 4 and 12" in out
        assert "not among these receipts" not in out
    # The station's own view, and that of an authority that asked only for what came after its last.
    assert desk.verify(lost.lines[:4], restored.lines)[0] == 0
    code, out, _ = desk.verify(lost.lines, restored.lines[told:])
    assert code == 0
    assert "what it wrote before the resume is not among these receipts" in out


def test_a_fork_after_the_resume_is_not_explained_by_it(desk):
    lost, restored = rolled_back(told=1)
    restored.resume(lost, forked_after=4)
    other = restored.branch()
    restored.tell("station-started")
    other.tell("preview-shown")
    assert desk.verify(lost.lines, restored.lines, other.lines[-1:])[0] == 1


def test_a_resume_explains_only_what_it_ends(desk):
    lost, restored = rolled_back(told=12)
    # A fork from before the rollback stays one.
    older = Chain(STATION, FIRST)
    older.seq, older.head = 2, hash_of(lost.lines[1].strip())
    older.tell("preview-shown")
    # And so does everything where the resume names another chain than the one that was lost.
    foreign = restored.branch()
    foreign.lines = list(restored.lines)
    foreign.tell("journal-resumed", evidence={"through": 12, "head": "h" * 43, "forked_after": 4})
    restored.resume(lost, forked_after=4)
    assert desk.verify(lost.lines, restored.lines)[0] == 0
    assert desk.verify(lost.lines, restored.lines, older.lines)[0] == 1
    assert desk.verify(lost.lines, foreign.lines)[0] == 1


@pytest.fixture
def authority(desk, tmp_path) -> str:
    """A folder of the authority that issued the jobs of the story."""
    issuer = Authority.create(tmp_path / "authority", AUTHORITY)
    issuer.add_station(STATION, FIRST.public_jwks())
    for number in (1, 2, 3):
        document = random_document(f"C{number}", random.Random(number))
        issuer.authorize(
            STATION, books=[(f"C{number}", document)], jti=f"job-{number}", exp=NOW, now=NOW
        )
    return str(tmp_path / "authority")


def directed(authority: str, action: Action, **claims) -> None:
    Authority.load(Path(authority)).direct(STATION, action, exp=NOW, now=NOW, **claims)


def test_the_authority_sees_what_it_never_ordered(desk, authority):
    def verify(*deliveries):
        return desk.verify(*deliveries, options=("--authority-dir", authority))

    chain = story()
    assert verify(chain.lines)[0] == 0
    smuggled = chain.branch()
    smuggled.tell("job-accepted", job="smuggled", state="pending", book="C9")
    assert "! job smuggled was accepted, but never issued" in verify(smuggled.lines)[1]
    retrusted = chain.branch()
    retrusted.tell("trust-updated", actor="authority", evidence={"version": 9, "seq": 4})
    assert "trust-updated by message 4, which was never issued" in verify(retrusted.lines)[1]
    directed(authority, Action.TRUST, version=9)
    assert verify(retrusted.lines)[0] == 0
    lost, restored = rolled_back(told=1)
    restored.resume(lost, forked_after=4)
    code, out, _ = verify(lost.lines, restored.lines)
    assert code == 1
    assert "no resume through 12 was ever issued" in out
    directed(authority, Action.RESUME, through=12, head=lost.head, printed=[])
    assert verify(lost.lines, restored.lines)[0] == 0
    # An older chain, whole as it is, in the place of the one that was acknowledged.
    code, out, _ = verify(chain.lines)
    assert code == 0
    directed(authority, Action.ACKNOWLEDGE, through=14, head="h")
    assert "end at 12, but 14 were acknowledged" in verify(chain.lines)[1]


def test_a_resume_is_made_of_the_receipts_that_the_authority_holds(desk, authority):
    lost, restored = rolled_back(told=2)
    lost.tell("print-committed", job="job-3", state="processing", book="C3", actor="agent")
    held, new = desk.file("held", "".join(lost.lines)), desk.file("new", "".join(restored.lines))
    direct = ("authority", "direct", authority, "--station", STATION)
    code, out, err = desk.run(*direct, "resume", "--receipts", held, "--receipts", new)
    assert code == 0
    claims = claims_unverified(out.strip())
    assert (claims["through"], claims["head"]) == (13, lost.head)
    assert claims["printed"] == ["job-1"]
    assert "job job-3: book C3 may have ink (print-committed)" in err
    code, out, err = desk.run(*direct, "acknowledge", "--receipts", held)
    assert (code, claims_unverified(out.strip())["head"]) == (0, lost.head)
    code, out, err = desk.run(*direct, "acknowledge", "--receipts", held, "--receipts", new)
    assert (code, out) == (1, "")
    assert "are not whole (a fork" in err
    holes = desk.file("holes", "".join(lost.lines[:3] + lost.lines[5:]))
    code, out, err = desk.run(*direct, "resume", "--receipts", holes)
    assert (code, out) == (1, "")
    assert "are not whole (a gap" in err
    assert desk.run(*direct, "retire", "--reason", "x", "--receipts", held)[0] == 2


def test_wrong_usage_exits_2(desk):
    file = desk.file("chain", "".join(story().lines))
    assert desk.run("authority", "verify", file)[0] == 2
    assert desk.run("authority", "verify", file, "--keys", desk.keys, "--day", "soon")[0] == 2
    assert desk.run("authority", "verify", "--keys", desk.keys)[0] == 2
    assert desk.run("authority", "verify", file, "--keys", file)[0] == 1
    empty = desk.file("empty", "")
    assert desk.run("authority", "verify", empty, "--keys", desk.keys)[0] == 1
