"""How long documents are kept (CONTRACT section 3): ids, hashes and receipts stay for ever, and so do jobs and books.

A job without its document takes some 3 KB, nearly all of it receipts; books are what no other job may be printed into.
"""

from __future__ import annotations

from agent.queue import jobs
from agent.queue.journal import Transaction

ERASED_AT_ONCE_MAX = 500  # documents in one commit of the hourly look
DAY_S = 86_400


def erase_documents(
    tx: Transaction, *, kept_days: int, actor: str = jobs.AGENT, limit: int = ERASED_AT_ONCE_MAX
) -> int:
    """Erases documents of jobs that ended so long ago, and whose end the authority has acknowledged; gives their count."""
    if kept_days and not tx.clock_trusted:
        return 0
    through = int(tx.station("acknowledged", 0))
    due = list(
        tx.rows(
            "SELECT number, id FROM jobs WHERE end_seq <= ? AND end_seq IS NOT NULL AND erased = 0"
            " AND (? = 0 OR ended_at <= ?) ORDER BY end_seq LIMIT ?",
            (through, kept_days, tx.now - kept_days * DAY_S, limit),
        )
    )
    for row in due:
        tx.put("jobs", row["number"], erased=1)
        tx.erase_document(row["id"])
    if due:
        tx.receipt("documents-erased", actor=actor, evidence={"through": through, "jobs": len(due)})
    return len(due)
