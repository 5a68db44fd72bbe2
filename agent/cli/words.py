"""What states and reasons mean to a person, and what the person does next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.model import JobState, Reason

STATE_STYLES = {
    JobState.PENDING: "",
    JobState.PENDING_HELD: "yellow",
    JobState.PROCESSING: "cyan",
    JobState.PROCESSING_STOPPED: "bold red",
    JobState.ABORTED: "magenta",
    JobState.CANCELED: "dim",
    JobState.COMPLETED: "green",
}
PRINTER_STATE_STYLES = {"idle": "green", "processing": "cyan", "stopped": "bold red"}

_REASONS = {
    Reason.BOOK_WANTED: "page loaded: insert the book",
    Reason.BOOK_REMOVAL_WANTED: "take the book out",
    Reason.VERIFY_WANTED: "printed: read its MRZ back",
    Reason.PRINTER_STOPPED: "no printer is ready",
    Reason.CLOCK_UNTRUSTED: "the clock cannot be trusted",
    Reason.JOURNAL_ROLLED_BACK: "the journal is older than the truth",
    Reason.JOB_HOLD: "on hold",
    Reason.NOT_YET_VALID: "not valid yet",
    Reason.JOB_SET_ASIDE: "set aside: stopped the station twice",
    Reason.REVOKED: "revoked by the authority",
    Reason.TRANSFERRED: "given to another station",
    Reason.CANCELED_BY_TECHNICIAN: "canceled by a technician",
    Reason.PRINT_IN_DOUBT: "in doubt: may have ink",
    Reason.PRINT_FAILED: "an error while printing",
    Reason.VERIFY_FAILED: "another MRZ was read",
    Reason.PRINTER_NOT_CLEAR: "printer not clear yet",
    Reason.EXPIRED: "its time has passed",
    Reason.BOOK_SPOILED: "its last book was spoiled",
}
_WISHES = {
    Reason.REVOKED: "will be canceled if it has no ink (revoked)",
    Reason.JOB_HOLD: "will be held if it has no ink",
}
_ENDED = (JobState.ABORTED, JobState.CANCELED, JobState.COMPLETED)


def why(job: Mapping[str, Any]) -> str:
    """A job's reasons as a phrase, ``-`` for none."""
    return "; ".join(_reason(reason, job["state"]) for reason in job["reasons"]) or "-"


def _reason(keyword: str, state: str) -> str:
    # A keyword of a newer agent is still better than nothing.
    if keyword not in set(Reason):
        return keyword
    reason = Reason(keyword)
    if state in (JobState.PROCESSING, JobState.PROCESSING_STOPPED) and reason in _WISHES:
        return _WISHES[reason]
    if reason is Reason.BOOK_WANTED and state == JobState.PENDING:
        return "waits for its book"
    return _REASONS[reason]


def next_steps(job: Mapping[str, Any]) -> list[str]:
    """What a person does about a job, a line each; none where it goes on by itself."""
    name, book, reasons = job["id"], job["book"], job["reasons"]
    if job["state"] in _ENDED:
        return []
    if job["state"] == JobState.PROCESSING_STOPPED:
        return _stopped_steps(name, book, reasons)
    if Reason.VERIFY_WANTED in reasons:
        return [f"Read the MRZ of book {book}: print-agent verify {name} --mrz -"]
    if Reason.BOOK_REMOVAL_WANTED in reasons:
        return ["Take the book out of the printer."]
    if Reason.JOB_SET_ASIDE in reasons:
        return [
            f"Try it once more: print-agent replay {name}",
            f"or give it up: print-agent cancel {name} --reason TEXT",
        ]
    if Reason.JOURNAL_ROLLED_BACK in reasons:
        return ["Nothing yet: the authority settles first which history counts (`resume`)."]
    if Reason.BOOK_WANTED in reasons:
        if job["state"] == JobState.PENDING:
            return [f"Take blank book {book} and present it: print-agent present {book}"]
        return [f"Insert book {book} into the printer."]
    if Reason.JOB_HOLD in reasons:
        return [
            f"A technician's hold: print-agent release {name}",
            "The authority's hold: only the authority ends it.",
        ]
    return []


def _stopped_steps(name: str, book: str, reasons: list[str]) -> list[str]:
    if Reason.PRINTER_NOT_CLEAR in reasons:
        return [
            f"Too early to decide on book {book}: the station clears the printer as soon as it answers.",
            "If the printer stays away, switch it off and say so: print-agent printer accept NAME --reason TEXT",
        ]
    return [
        f"Take book {book}, look at its data page, and say what you see.",
        "The whole page, down to the last line of the MRZ:",
        f"  print-agent resolve {name} --book {book} --outcome printed",
        "Not one dot of ink:",
        f"  print-agent resolve {name} --book {book} --outcome blank",
        "Anything else:",
        f"  print-agent resolve {name} --book {book} --outcome spoiled",
    ]
