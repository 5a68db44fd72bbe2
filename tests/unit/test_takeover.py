"""A takeover at the authority: what it signs, that again is the same again, and what it refuses to believe."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.authority import Authority, random_document
from agent.authority.takeover import Takeover, take_over
from agent.authority.takeover_rule import Verdict
from agent.crypto.documents import open_documents
from agent.crypto.keys import StationKeys, TrustStore
from agent.crypto.verifier import open_envelope, read_claims
from agent.errors import ConfigurationInvalid, PrintAgentError
from agent.model import Action, Authorization, Directive
from agent.page.mrz import check_mrz
from tests.unit.chain_writer import NOW, ChainWriter

DEAD, SPARE, OTHER = "sambas-01", "sambas-02", "sambas-03"
KEYS = {station: StationKeys.generate() for station in (DEAD, SPARE, OTHER)}
PRESENT = {"version": "1", "run": 1, "book_check": {"main": "present"}}


class Office:
    """An authority, and the receipts that it has of three stations."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.create(folder, "imigrasi-jakarta")
        self.chains = {}
        for station, keys in KEYS.items():
            self.authority.add_station(station, keys.public_jwks())
            self.chains[station] = ChainWriter(station, keys)
        self.chains[DEAD].tell("station-started", evidence=PRESENT)

    def authorize(self, job: str, *books: str, station: str = DEAD, **terms: Any) -> None:
        document = random_document(books[0], random.Random(job))
        document.pop("mrz")
        self.authority.authorize(
            station,
            books=[(book, document) for book in books],
            jti=job,
            now=NOW,
            **{"exp": NOW + 999} | terms,
        )

    def count(self, at: str = SPARE, iat: int = NOW, **books: list[str]) -> None:
        self.chains[at].tell(
            "inventory-taken",
            iat=iat,
            actor="technician:adi",
            evidence={"of": DEAD, "books": books},
        )

    def take_over(self, spare: str = SPARE, *chains: str, **options: Any) -> Takeover:
        audits = {
            station: self.authority.verify(station, self.chains[station].lines)
            for station in chains or (DEAD, spare)
        }
        return take_over(self.authority, audits, dead=DEAD, spare=spare, now=NOW, **options)

    def read(self, message: str, station: str = SPARE) -> Authorization | Directive:
        trust = TrustStore.from_jwks(self.authority.trust_jwks())
        return read_claims(
            open_envelope(
                message.encode(), trust=trust, station_id=station, authority_id=self.authority.id
            )
        )


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "authority")


def given(done: Takeover) -> list[str]:
    return [job for job, decision in done.decisions.items() if decision.verdict is Verdict.GIVEN]


def why(done: Takeover, job: str) -> str:
    assert done.decisions[job].verdict is Verdict.WAITS
    return done.decisions[job].why


def test_the_spare_may_print_what_was_authorized_into_the_blank_books(office: Office) -> None:
    office.authorize("job-1", "A1", "B1", priority=80, nbf=NOW + 5, application="2018-7")
    office.authorize("job-2", "A2")
    office.count(damaged=["A1"], blank=["B1"], missing=["A2"])
    done = office.take_over()
    assert given(done) == ["job-1"]
    (message,) = done.authorizations
    taken = office.read(message)
    assert isinstance(taken, Authorization)
    assert (taken.priority, taken.application) == (80, "2018-7")
    assert (taken.envelope.exp, taken.envelope.nbf) == (NOW + 999, NOW + 5)
    assert [entry.number for entry in taken.books] == ["B1"]
    (printed,) = open_documents(taken, KEYS[SPARE], now=NOW, check_mrz=check_mrz)
    assert printed.document_number == "B1"
    kept = office.authority.documents(DEAD, 1)
    assert printed.primary_identifier == kept["B1"]["primary_identifier"]
    assert taken.envelope.jti != "job-1"


def test_the_dead_station_is_retired_for_as_long_as_a_pc_may_sleep(office: Office) -> None:
    office.count(blank=["X9"])
    retirement = office.read(office.take_over().retirement, DEAD)
    assert isinstance(retirement, Directive)
    assert retirement.action is Action.RETIRE
    assert retirement.envelope.exp > NOW + 5 * 365 * 86_400


def test_a_retirement_that_has_expired_is_signed_anew(office: Office) -> None:
    office.count(blank=["X9"])
    office.authority.direct(DEAD, Action.RETIRE, exp=NOW - 1, now=NOW - 9, reason="")
    message = office.take_over().retirement
    assert office.read(message, DEAD).envelope.exp > NOW
    assert office.take_over().retirement == message


def test_again_gives_the_same_messages_and_signs_nothing(office: Office) -> None:
    office.authorize("job-1", "A1")
    office.authorize("job-2", "A2")
    office.count(blank=["A1"])
    first = office.take_over()
    rows = [office.authority.issued(station) for station in KEYS]
    again = office.take_over()
    assert (again.authorizations, again.retirement) == (first.authorizations, first.retirement)
    assert [office.authority.issued(station) for station in KEYS] == rows
    assert given(again) == ["job-1"]
    # The missing book was found.
    office.count(iat=NOW + 1, blank=["A1", "A2"])
    later = office.take_over()
    assert later.authorizations[:1] == first.authorizations
    assert len(later.authorizations) == 2


@pytest.mark.parametrize("survived", range(3))
def test_killed_between_two_jobs_goes_on_where_it_was(
    office: Office, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    for number in range(3):
        office.authorize(f"job-{number}", f"A{number}")
    office.count(blank=["A0", "A1", "A2"])
    authorize: Callable[..., str] = office.authority.authorize
    calls = []

    def authorize_until_killed(*arguments: Any, **terms: Any) -> str:
        if len(calls) == survived:
            raise KeyboardInterrupt
        calls.append(authorize(*arguments, **terms))
        return calls[-1]

    monkeypatch.setattr(office.authority, "authorize", authorize_until_killed)
    with pytest.raises(KeyboardInterrupt):
        office.take_over()
    monkeypatch.undo()
    done = office.take_over()
    assert list(done.authorizations[:survived]) == calls
    books = [office.read(message).books[0].number for message in done.authorizations]
    assert books == ["A0", "A1", "A2"]
    assert [row["seq"] for row in office.authority.issued(SPARE)] == [1, 2, 3]


def test_a_message_that_was_kept_but_never_listed_is_no_message(office: Office) -> None:
    office.authorize("job-1", "A1")
    office.count(blank=["A1"])
    orphan = office.authority.directory / "kept" / SPARE / "1.jws"
    orphan.parent.mkdir()
    orphan.write_text("half a mess")
    (message,) = office.take_over().authorizations
    assert office.read(message).envelope.seq == 1


def test_nothing_is_given_to_a_second_spare(office: Office) -> None:
    office.authorize("job-1", "A1")
    office.authorize("job-2", "A2")
    office.count(blank=["A1"])
    office.take_over()
    office.count(at=OTHER, blank=["A1", "A2"])
    done = office.take_over(OTHER)
    assert SPARE in done.decisions["job-1"].why
    (message,) = done.authorizations
    assert office.read(message, OTHER).books[0].number == "A2"


def test_two_stations_that_both_counted_a_book_as_theirs_are_told(office: Office) -> None:
    office.authorize("job-1", "A1")
    office.count(blank=["A1"])
    office.count(at=OTHER, blank=["A1"])
    assert f"at {OTHER}" in why(office.take_over(SPARE, DEAD, SPARE, OTHER), "job-1")


def test_a_revoked_a_held_and_a_transferred_job_stay_where_the_authority_wants_them(
    office: Office,
) -> None:
    for action, claims in (
        (Action.REVOKE, {"reason": "r"}),
        (Action.HOLD, {"reason": "r"}),
        (Action.TRANSFER, {"to": OTHER}),
    ):
        office.authorize(f"{action}", f"A{action}"[:9].upper())
        office.authority.direct(DEAD, action, job=f"{action}", exp=NOW + 9, now=NOW, **claims)
    office.count(blank=["AREVOKE", "AHOLD", "ATRANSFER"])
    done = office.take_over()
    assert given(done) == []
    assert done.decisions["revoke"].verdict is Verdict.ENDED
    assert "release it first" in why(done, "hold")
    assert OTHER in why(done, "transfer")
    office.authority.direct(DEAD, Action.RELEASE, job="hold", exp=NOW, now=NOW, reason="r")
    assert given(office.take_over()) == ["hold"]


def test_what_the_receipts_tell_of_a_job_counts(office: Office) -> None:
    for job in ("done", "doubt", "woken"):
        office.authorize(job, f"A{job}".upper())
    dead = office.chains[DEAD]
    for job in ("done", "doubt"):
        facts = {"job": job, "book": f"A{job}".upper()}
        dead.tell("print-committed", iat=NOW - 9, state="processing", **facts)
    dead.tell("print-completed", job="done", state="completed", book="ADONE")
    dead.tell("station-retired")
    dead.tell("job-canceled", job="woken", state="canceled", reasons=["transferred"])
    office.count(blank=["ADOUBT", "AWOKEN"], printed=["ADONE"])
    done = office.take_over()
    assert given(done) == ["doubt", "woken"]
    assert done.decisions["done"].verdict is Verdict.ENDED


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        ({"book_check": {"main": "none"}}, "printer main of sambas-01 has no book_check"),
        ({"book_check": {"main": "present", "b": "none"}}, "printer b of sambas-01 has no"),
        ({"run": 2}, "no receipt tells the book_check"),
    ],
)
def test_nothing_is_given_away_while_the_dead_station_might_print_without_a_book_number(
    office: Office, evidence: dict[str, Any], told: str
) -> None:
    office.authorize("job-1", "A1")
    office.chains[DEAD].tell("station-started", evidence=evidence)
    office.count(blank=["A1"])
    done = office.take_over()
    assert told in why(done, "job-1")
    assert done.authorizations == ()
    assert office.read(done.retirement, DEAD).action is Action.RETIRE
    stated = office.take_over(book_check_stated=True)
    assert (given(stated) == ["job-1"]) is ("book_check" not in evidence)
    office.chains[DEAD].tell("station-retired")
    assert given(office.take_over()) == ["job-1"]


def test_a_station_that_never_told_anything_needs_a_person_s_word(office: Office) -> None:
    office.authorize("job-1", "A1")
    office.count(blank=["A1"])
    assert "--book-check-was-present" in why(office.take_over(SPARE, SPARE), "job-1")
    assert given(office.take_over(SPARE, SPARE, book_check_stated=True)) == ["job-1"]


def test_a_book_that_was_authorized_for_another_job_meanwhile_is_not_promised_twice(
    office: Office,
) -> None:
    office.authorize("job-1", "A1")
    office.authorize("by-hand", "A1", station=OTHER)
    office.count(blank=["A1"])
    assert "authorized for job by-hand too" in why(office.take_over(), "job-1")


def test_a_spare_that_dies_is_taken_over_in_its_turn(office: Office) -> None:
    office.authorize("job-1", "A1")
    office.count(blank=["A1"])
    office.take_over()
    office.chains[SPARE].tell("station-started", evidence=PRESENT)
    office.chains[OTHER].tell("inventory-taken", evidence={"of": SPARE, "books": {"blank": ["A1"]}})
    audits = {
        station: office.authority.verify(station, office.chains[station].lines)
        for station in (SPARE, OTHER)
    }
    done = take_over(office.authority, audits, dead=SPARE, spare=OTHER, now=NOW)
    (message,) = done.authorizations
    assert office.read(message, OTHER).books[0].number == "A1"


def test_documents_that_are_lost_are_a_person_s_affair(office: Office) -> None:
    office.authorize("job-1", "A1")
    (office.authority.directory / "kept" / DEAD / "1.jwe").write_text("x.y")
    office.count(blank=["A1"])
    assert "documents are not kept" in why(office.take_over(), "job-1")
    with pytest.raises(ConfigurationInvalid, match="no documents that this authority sealed"):
        office.authority.documents(DEAD, 7)


def test_books_of_nobody_are_told(office: Office) -> None:
    office.count(blank=["X9"])
    assert list(office.take_over().strangers) == ["X9"]


def test_a_chain_that_is_broken_or_cut_off_is_not_believed(office: Office) -> None:
    office.count(blank=["A1"])
    dead = office.chains[DEAD]
    dead.tell("sequence-gap")
    dead.tell("sequence-filled")
    office.authority.direct(DEAD, Action.ACKNOWLEDGE, exp=NOW, now=NOW, through=3, head=dead.head)
    whole = list(dead.lines)
    dead.lines = whole[:2]
    with pytest.raises(PrintAgentError, match="end at 2, but 3 were acknowledged"):
        office.take_over()
    dead.lines = [whole[0], whole[2]]
    with pytest.raises(PrintAgentError, match="the chain of sambas-01 is BROKEN"):
        office.take_over()
    assert all("retire" not in row.values() for row in office.authority.issued(DEAD))


def test_without_a_count_or_a_station_nothing_is_signed(office: Office) -> None:
    with pytest.raises(PrintAgentError, match="hold no count of the books of sambas-01"):
        office.take_over()
    with pytest.raises(PrintAgentError, match="cannot take itself over"):
        office.take_over(DEAD)
    office.authority.direct(OTHER, Action.RETIRE, exp=NOW, now=NOW, reason="")
    with pytest.raises(PrintAgentError, match=f"{OTHER} is retired itself"):
        office.take_over(OTHER)
    for stations in ({"dead": "nobody-9", "spare": SPARE}, {"dead": DEAD, "spare": "nobody-9"}):
        with pytest.raises(ConfigurationInvalid, match="nobody-9: unknown"):
            take_over(office.authority, {}, now=NOW, **stations)
    assert office.authority.issued(DEAD) == []
