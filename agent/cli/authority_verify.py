"""`print-agent authority verify`: proves a chain or an extract of it, and answers from it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.authority import chain_station, opened_authority, read_object, read_receipts
from agent.cli.options import Json, UnusedConfig, day_of
from agent.errors import ConfigurationInvalid, PrintAgentError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from agent.authority import Audit, Entry
    from agent.crypto.extract import Extract

commands = typer.Typer()
LINES_SHOWN_MAX = 20  # faults of one kind that somebody reads


@commands.command("verify")
def authority_verify(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Receipts, one a line, in the order of their deliveries; or one extract; - for standard input.",
            show_default=False,
        ),
    ],
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The station's public keys when its chain began.",
            show_default=False,
        ),
    ] = None,
    authority_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="An authority: its keys of the station, and what it issued.",
            show_default=False,
        ),
    ] = None,
    station: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Else the one that the first receipt names.", show_default=False
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(metavar="ID", help="What became of this job?", show_default=False),
    ] = None,
    book: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="What became of this book?", show_default=False),
    ] = None,
    day: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD", help="What did people do on this day (UTC)?", show_default=False
        ),
    ] = None,
    as_json: Json = False,
    config: UnusedConfig = None,  # noqa: ARG001 - every command takes it
) -> None:
    """Proves a chain of receipts, or an extract of it, and answers from it.

    Exit status: 0 whole, 1 broken.
    """
    from agent.crypto.extract import is_extract, read_extract
    from agent.crypto.receipts import ChainBroken

    if keys is None and authority_dir is None:
        raise typer.BadParameter("give --keys FILE or --authority-dir DIR")
    asked_day = None if day is None else day_of(day)
    lines = [line for file in files for line in read_receipts(file)]
    name = station or chain_station(lines)
    extract = None
    if is_extract(lines):
        try:
            extract = read_extract(lines, _first_keys(name, keys, authority_dir))
        except ChainBroken as broken:
            raise PrintAgentError(f"the extract of {name} is BROKEN: {broken}") from None
    audit = _audit(lines, name, extract, keys=keys, authority_dir=authority_dir)
    shown = [
        entry
        for entry in audit.entries
        if (extract is None or extract.scope.holds(job=entry.job, book=entry.book, iat=entry.iat))
        and (job is None or entry.job == job)
        and (book is None or entry.book == book)
        and (asked_day is None or (entry.day() == asked_day and entry.by_a_person()))
    ]
    asked = extract is not None or any(value is not None for value in (job, book, asked_day))
    answer = _Answer(name, audit, extract, shown if asked else [], job=job, book=book)
    answer.say_json() if as_json else answer.say(asked=asked)
    if not audit.is_whole():
        raise PrintAgentError(answer.broken())


def _first_keys(
    station: str, keys: Path | None, authority_dir: Path | None
) -> Mapping[str, Ed25519PublicKey]:
    """The keys with which the station's chain began."""
    from agent.crypto.receipts import public_keys

    if authority_dir is not None:
        issuer = opened_authority(authority_dir)
        if keys is not None:
            issuer.add_station(station, read_object(keys))
        return issuer.first_keys(station)
    assert keys is not None
    try:
        # Behind a rotated key stands the older one.
        return dict(list(public_keys(read_object(keys)).items())[-1:])
    except ValueError as error:
        raise ConfigurationInvalid(f"{keys}: {error}") from None


def _audit(
    lines: list[str],
    station: str,
    extract: Extract | None,
    *,
    keys: Path | None,
    authority_dir: Path | None,
) -> Audit:
    from agent.authority import Audit
    from agent.crypto.receipts import ChainVerifier, claims_unverified

    if extract is not None:
        return Audit.of(extract.run, extract.verifier, faults=extract.faults)
    first = _first_keys(station, keys, authority_dir)
    if authority_dir is not None:
        return opened_authority(authority_dir).verify(station, lines)
    to = str(claims_unverified(lines[0]).get("aud")) if lines else None
    return Audit.of(lines, ChainVerifier(station, first, authority_id=to))


class _Answer:
    """What is said of an audit."""

    def __init__(
        self,
        station: str,
        audit: Audit,
        extract: Extract | None,
        shown: list[Entry],
        *,
        job: str | None,
        book: str | None,
    ) -> None:
        self._station = station
        self._audit = audit
        self._extract = extract
        self._shown = shown
        self._job = job if extract is None else extract.scope.job
        self._book = book if extract is None else extract.scope.book

    def broken(self) -> str:
        """One line on a chain that is not whole."""
        if not self._audit.entries:
            return (
                f"none of these receipts is signed with the given keys of {self._station}: needed are the public keys with which"
                " its chain began"
            )
        what = "chain" if self._extract is None else "extract"
        return (
            f"the {what} of {self._station} is BROKEN: {len(self._audit.faults)} breaks,"
            f" {len(self._audit.never_issued)} jobs that nobody issued"
        )

    def say(self, *, asked: bool) -> None:
        """For people."""
        from agent.cli.output import Styled, say

        for sentence in self._sentences():
            say(sentence)
        if self._shown:
            _say_entries(self._shown)
        elif asked:
            say("the chain says nothing about it")
        audit = self._audit
        notes = [
            f"! {f'receipt {fault.seq}: ' if fault.seq else ''}{fault.detail}"
            for fault in audit.faults
        ]
        notes += [f"! job {job} was accepted, but never issued" for job in audit.never_issued]
        _say_some(notes, "red")
        _say_some([_rollback(one) for one in audit.resumptions], "yellow")
        waiting = [
            f"? job {job} was issued, and is not accepted so far" for job in audit.never_accepted
        ]
        _say_some(waiting, "yellow")
        if not audit.is_whole():
            return
        if self._extract is None:
            say(
                f"{len(audit.entries)} receipts of {self._station}: ",
                Styled("the chain is whole", "green"),
            )
            say(f"acknowledge it with --through {audit.through} --head={audit.head}")
        else:
            say(Styled(_told_of(self._extract), "green"))

    def _sentences(self) -> list[str]:
        sentences = []
        audit = self._audit
        if self._job is not None and (state := audit.job_state(self._job)) is not None:
            last = [entry for entry in audit.job(self._job) if entry.state is not None][-1]
            reasons = f" ({', '.join(last.reasons)})" if last.reasons else ""
            sentences.append(f"job {self._job} is {state}{reasons} since {_utc(last.iat)}")
        if self._book is not None and (fate := audit.book_fate(self._book)) is not None:
            what, entry = fate
            sentences.append(
                f"book {self._book} is {what}, says {entry.event} of job {entry.job} by {entry.actor or 'agent'}, {_utc(entry.iat)}"
            )
        return sentences

    def say_json(self) -> None:
        """For programs."""
        from agent.cli.output import say_json

        audit, extract = self._audit, self._extract
        fate = None if self._book is None else audit.book_fate(self._book)
        say_json(
            {
                "station": self._station,
                "whole": audit.is_whole(),
                "receipts": len(audit.entries),
                "through": audit.through,
                "head": audit.head,
                "extract": None if extract is None else extract.told(),
                "faults": [{"seq": fault.seq, "detail": fault.detail} for fault in audit.faults],
                "resumptions": [asdict(one) for one in audit.resumptions],
                "never_issued": list(audit.never_issued),
                "never_accepted": list(audit.never_accepted),
                "job_state": None if self._job is None else audit.job_state(self._job),
                "book_fate": None if fate is None else fate[0],
                "entries": [_plain(entry) for entry in self._shown],
            }
        )


def _rollback(resumption: Any) -> str:
    lost = (
        "it does not know how much"
        if resumption.forked_after is None
        else f"what it wrote between {resumption.forked_after} and {resumption.through}"
    )
    if resumption.forked_after == resumption.through:
        lost = "nothing that the authority had"
    told = f"~ receipt {resumption.seq}: the station had lost {lost}, and the authority's resume let it go on"
    if not resumption.follows:
        told += "; what it wrote before the resume is not among these receipts"
    return told


def _told_of(extract: Extract) -> str:
    return (
        f"the extract is whole: between receipts {extract.first} and {extract.last} nothing can be missing or altered."
        f" On {_utc(extract.iat)} the station signed that no other one through {extract.through} belongs to it"
    )


def _say_some(lines: list[str], style: str) -> None:
    from agent.cli.output import Styled, say

    for line in lines[:LINES_SHOWN_MAX]:
        say(Styled(line, style))
    if len(lines) > LINES_SHOWN_MAX:
        say(Styled(f"{lines[0][0]} and {len(lines) - LINES_SHOWN_MAX} more of the kind", style))


def _utc(seconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _plain(entry: Entry) -> dict[str, Any]:
    return asdict(entry) | {"evidence": dict(entry.evidence), "reasons": list(entry.reasons)}


def _say_entries(shown: list[Entry]) -> None:
    from agent.cli.output import Column, is_wide, say_table

    columns = {
        "SEQ": [str(entry.seq) for entry in shown],
        "WHEN (UTC)": [_utc(entry.iat).removesuffix(" UTC") for entry in shown],
        "EVENT": [entry.event for entry in shown],
        "JOB": [entry.job or "-" for entry in shown],
        "BOOK": [entry.book or "-" for entry in shown],
        "STATE": [entry.state or "-" for entry in shown],
        "BY": [entry.actor or "-" for entry in shown],
        "NOTE": [entry.note or "-" for entry in shown],
    }
    if not is_wide():
        # Who asked about one job knows its id; of several, the book is the lesser loss.
        del columns["JOB" if len(set(columns["JOB"])) == 1 else "BOOK"]
        del columns["NOTE"]
        columns["WHEN (UTC)"] = [when[: len("YYYY-MM-DD HH:MM")] for when in columns["WHEN (UTC)"]]
    say_table(
        [Column(name, folds=name in ("JOB", "BY", "NOTE")) for name in columns],
        list(zip(*columns.values(), strict=True)),
    )
