"""The first operations of a start: who signs, which start this is, and what the last one left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from agent.errors import ConfigurationInvalid
from agent.queue import attempts, jobs
from agent.queue.journal import Journal, Reader, ReceiptSigner, Transaction
from agent.queue.recovery import Stage
from agent.queue.states import Phase


@dataclass(frozen=True, slots=True)
class Start:
    """This start of the agent: its number, and the kernel's id of the boot."""

    run: int
    boot: str


def last_signer_kid(reader: Reader) -> str | None:
    """The key that signs the chain so far; None in a new journal."""
    kid = reader.value("SELECT kid FROM signers ORDER BY number DESC LIMIT 1")
    return None if kid is None else str(kid)


def take_signer(
    journal: Journal,
    signer: ReceiptSigner,
    *,
    before: ReceiptSigner | None = None,
    public_jwks: dict[str, object],
) -> None:
    """Registers the signing key; where the chain was signed by the one before, that one hands over by ``keys-rotated``.

    Raises:
        ConfigurationInvalid: The chain was signed by a key that the station does not hold.
    """
    last = last_signer_kid(journal.read())
    if last == signer.kid:
        return
    if last is not None:
        if before is None or before.kid != last:
            raise ConfigurationInvalid(
                f"station.jwks: the journal is signed by key {last}, which this file does not hold; put back the right file,"
                " or use `keys rotate`, never a new key under an old journal"
            )
        journal.use_signer(before)

    def operation(tx: Transaction) -> None:
        number = tx.next_key("signers")
        if last is None:
            tx.put("station", "id", value=journal.station_id)
        else:
            tx.receipt("keys-rotated", actor=jobs.AGENT, evidence=public_jwks)
        tx.put("signers", number, kid=signer.kid, jwk=json.dumps(signer.public_jwk()))
        tx.note("journal-created" if last is None else "signer-changed")

    journal.write(operation)
    journal.use_signer(signer)


def begin(tx: Transaction, *, boot: str, version: str, book_checks: Mapping[str, str]) -> Start:
    """Counts this start, notes what the last one was doing, and tells it (``station-started``).

    ``book_checks`` are the configured printers with their ``book_check``: whoever takes over from this
    station must know that it prints only into presented books.
    """
    run = int(tx.station("run", 0)) + 1
    last_boot = tx.station("boot")
    tx.put("station", "run", value=run)
    tx.put("station", "boot", value=boot)
    evidence = {"version": version, "run": run, "book_check": dict(book_checks)}
    tx.receipt("station-started", actor=jobs.AGENT, evidence=evidence)
    for row in list(tx.rows("SELECT * FROM jobs WHERE phase = 'selected'")):
        attempts.take_back(tx, row["id"], printer=row["printer"])
    for row in list(tx.rows("SELECT * FROM attempts WHERE stage NOT IN ('closed', 'standing')")):
        attempt = attempts.from_row(row)
        if attempt.stage == Stage.LOAD and attempt.run + 1 == run:
            if boot == last_boot:
                # The process ended while it loaded this page; a power cut is not counted.
                attempts.count_crash(tx, attempt.job)
            else:
                attempts.cut_off(tx, attempt)
        gone = attempt.printer not in book_checks
        if gone and jobs.require(tx, attempt.job).phase is Phase.COMMITTED:
            attempts.doubt(
                tx,
                attempt,
                evidence={},
                note=f"printer {attempt.printer} is not configured any more: look at the book",
            )
    return Start(run, boot)
