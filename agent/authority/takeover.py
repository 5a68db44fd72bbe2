"""Carries a takeover out: gathers what is known, asks the rule, retires the dead station, authorizes for the spare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.authority.audit import Audit, Entry
from agent.authority.issuer import Authority, Replaced, locked
from agent.authority.takeover_rule import Count, Decision, Inventory, JobRecord, decide, wait
from agent.clock import random_name
from agent.errors import ConfigurationInvalid, PrintAgentError
from agent.model import Action, BookFate

RETIREMENT_S = 10 * 365 * 86_400  # a PC may sleep in a cupboard for years and must still be retired
_INKED = ("print-completed", "print-verified")


@dataclass(frozen=True, slots=True)
class Takeover:
    """What a takeover did: a decision for each job, and the messages that carry it out.

    ``strangers`` are counted books that no job of the dead station names.
    """

    dead: str
    spare: str
    decisions: Mapping[str, Decision]
    retirement: str
    authorizations: tuple[str, ...]
    strangers: Mapping[str, BookFate]


def records_of(authority: Authority, dead: str, audit: Audit | None) -> dict[str, JobRecord]:
    """What is known of each job that was issued to a station, by id.

    Args:
        authority: who issued.
        dead: a registered station.
        audit: its receipts; None where there are none.
    """
    rows = authority.issued(dead)
    given = {
        row["replaces"]["job"]: station
        for station in authority.stations()
        for row in authority.issued(station)
        if row.get("replaces", {}).get("station") == dead
    }
    directed: dict[str, dict[Action, dict[str, Any]]] = {}
    for row in rows:
        if "job" in row:
            directed.setdefault(row["job"], {})[Action(row["action"])] = row
    told: dict[str | None, list[Entry]] = {}
    for entry in () if audit is None else audit.entries:
        told.setdefault(entry.job, []).append(entry)
    records: dict[str, JobRecord] = {}
    for row in rows:
        job = row["jti"]
        if "books" in row and job not in records:
            records[job] = _record(
                row, told.get(job, []), given_to=given.get(job), directed=directed.get(job, {})
            )
    return records


def _record(
    row: Mapping[str, Any],
    entries: Sequence[Entry],
    *,
    given_to: str | None,
    directed: Mapping[Action, Mapping[str, Any]],
) -> JobRecord:
    last = next((entry for entry in reversed(entries) if entry.state is not None), None)
    spoiled = frozenset(
        entry.book for entry in entries if entry.event == "book-spoiled" and entry.book
    )
    inked = frozenset(entry.book for entry in entries if entry.event in _INKED and entry.book)
    return JobRecord(
        job=row["jti"],
        books=tuple(row["books"]),
        exp=row.get("exp"),
        state=None if last is None else last.state,
        reasons=() if last is None else last.reasons,
        told_at=0 if last is None else last.iat,
        given_to=given_to,
        directed=directed,
        spoiled=spoiled,
        inked=inked - spoiled,
        committed_at={
            entry.book: entry.iat
            for entry in entries
            if entry.event == "print-committed" and entry.book
        },
    )


def inventories_of(station: str, audit: Audit, *, dead: str) -> list[Inventory]:
    """The counts of a dead station's books that a station's receipts hold."""
    return [
        Inventory(
            station,
            entry.iat,
            entry.actor or "somebody",
            {
                book: BookFate(fate)
                for fate, books in entry.evidence["books"].items()
                for book in books
            },
        )
        for entry in audit.entries
        if entry.event == "inventory-taken" and entry.evidence["of"] == dead
    ]


def take_over(
    authority: Authority,
    audits: Mapping[str, Audit],
    *,
    dead: str,
    spare: str,
    book_check_stated: bool = False,
    now: int,
) -> Takeover:
    """Retires the dead station, and authorizes for the spare what may be printed there; again is the same again.

    Args:
        authority: who issued to both.
        audits: what the receipts of stations prove: the spare's, the dead one's where there are any, others that counted.
        dead: the station that is gone.
        spare: the station that holds its books.
        book_check_stated: a person says that the dead station printed only into presented books; counts where its receipts
            do not tell.
        now: NumericDate.

    Raises:
        PrintAgentError: a chain is broken or cut off, the spare counted nothing, or a station is not known.
    """
    if dead == spare:
        raise PrintAgentError(f"{dead} cannot take itself over: a spare is a station of its own")
    authority.require_station(dead)
    authority.require_station(spare)
    if _is_retired(authority, spare):
        raise PrintAgentError(f"{spare} is retired itself: name a station that prints")
    for station, audit in audits.items():
        _require_whole(station, audit)
    inventories = [
        inventory
        for station, audit in audits.items()
        for inventory in inventories_of(station, audit, dead=dead)
    ]
    if not any(inventory.station == spare for inventory in inventories):
        raise PrintAgentError(
            f"the receipts of {spare} hold no count of the books of {dead}: run `print-agent takeover` there first"
        )
    count = Count.of(inventories, spare=spare)
    with locked(authority.directory / "takeover.lock"):
        retirement = _retire(authority, dead, spare=spare, now=now)
        records = records_of(authority, dead, audits.get(dead))
        unsafe = _unsafe(dead, audits.get(dead), book_check_stated=book_check_stated)
        rows = {row["jti"]: row for row in reversed(authority.issued(dead)) if "books" in row}
        taken = _taken(authority)
        decisions: dict[str, Decision] = {}
        for record in records.values():
            decision = decide(record, count, now=now)
            if decision.books:
                decision = unsafe or _free(decision, taken) or decision
            if decision.books:
                source = Replaced(dead, record.job)
                decision = _give(
                    authority, rows[record.job], decision, source, spare=spare, now=now
                )
                taken |= dict.fromkeys(decision.books, record.job)
            decisions[record.job] = decision
        authorizations = tuple(
            authority.kept_message(spare, row["seq"])
            for row in authority.issued(spare)
            if row.get("replaces", {}).get("station") == dead
        )
    named = {book for record in records.values() for book in record.books}
    strangers = {book: fate for book, (fate, _) in count.hand.items() if book not in named}
    return Takeover(dead, spare, decisions, retirement, authorizations, strangers)


def _require_whole(station: str, audit: Audit) -> None:
    if not audit.is_whole():
        found = audit.faults[0].detail if audit.faults else "it accepted jobs that nobody issued"
        raise PrintAgentError(
            f"the chain of {station} is BROKEN, nothing was issued ({found}); see `print-agent authority verify`"
        )


def _retire(authority: Authority, dead: str, *, spare: str, now: int) -> str:
    """The directive that waits until the old PC wakes up."""
    for row in authority.issued(dead):
        if row.get("action") == Action.RETIRE and row["exp"] > now:
            return authority.kept_message(dead, row["seq"])
    return authority.direct(
        dead, Action.RETIRE, exp=now + RETIREMENT_S, now=now, reason=f"taken over by {spare}"
    )


def _unsafe(dead: str, audit: Audit | None, *, book_check_stated: bool) -> Decision | None:
    """Why no job may be given away: a station that asks for no book number may wake up and print it too."""
    entries = () if audit is None else audit.entries
    if any(entry.event == "station-retired" for entry in entries):
        return None
    started = [entry.evidence for entry in entries if entry.event == "station-started"]
    checks = started[-1].get("book_check") if started else None
    if isinstance(checks, dict) and checks:
        loose = [name for name, check in checks.items() if check != "present"]
        if not loose:
            return None
        return wait(
            f"printer {loose[0]} of {dead} has no book_check: it must first say that it is retired, or be destroyed"
        )
    if book_check_stated:
        return None
    return wait(
        f"no receipt tells the book_check of {dead}: who knows it says --book-check-was-present"
    )


def _taken(authority: Authority) -> dict[str, str]:
    """The jobs of the books that are authorized for a station that was not retired."""
    taken: dict[str, str] = {}
    for station in authority.stations():
        if not _is_retired(authority, station):
            rows = authority.issued(station)
            taken |= {book: row["jti"] for row in rows for book in row.get("books", ())}
    return taken


def _is_retired(authority: Authority, station: str) -> bool:
    return any(row.get("action") == Action.RETIRE for row in authority.issued(station))


def _free(decision: Decision, taken: Mapping[str, str]) -> Decision | None:
    book = next((book for book in decision.books if book in taken), None)
    return None if book is None else wait(f"book {book} is authorized for job {taken[book]} too")


def _give(
    authority: Authority,
    row: Mapping[str, Any],
    decision: Decision,
    source: Replaced,
    *,
    spare: str,
    now: int,
) -> Decision:
    """Authorizes a job for the spare as it was authorized before, for its blank books only."""
    try:
        documents = authority.documents(source.station, row["seq"])
    except ConfigurationInvalid:
        return wait("its documents are not kept: authorize it anew")
    authority.authorize(
        spare,
        books=[(book, documents[book]) for book in decision.books],
        jti=f"job-{random_name()}",
        exp=row["exp"],
        nbf=row.get("nbf"),
        priority=row["priority"],
        application=row.get("application"),
        replaces=source,
        now=now,
    )
    return decision
