"""The life of a job: two small enums and one total table.

A phase is finer than the RFC 8011 job state that the borders show: it also tells where an attempt stands
(CONTRACT section 4.1). ``next_phase`` is the only way from one phase to another; a pair that is not in
the table raises ``IllegalTransition`` and changes nothing. docs/architecture.md shows the diagram that
``diagram()`` prints.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.model import JobState, Reason


class Phase(enum.StrEnum):
    """Where a job stands, in the order of its life."""

    WAITING = "waiting"
    HELD = "held"
    SET_ASIDE = "set-aside"
    SELECTED = "selected"
    LOADING = "loading"
    LOADED = "loaded"
    COMMITTED = "committed"
    VERIFY_WANTED = "verify-wanted"
    IN_DOUBT = "in-doubt"
    FAILED = "failed"
    VERIFY_FAILED = "verify-failed"
    COMPLETED = "completed"
    CANCELED = "canceled"
    ABORTED = "aborted"


class Event(enum.StrEnum):
    """What can happen to a job."""

    HOLD = "hold"
    RELEASE = "release"
    RELEASE_IN_PART = "release-in-part"
    WAIT_OVER = "wait-over"
    CANCEL = "cancel"
    EXPIRE = "expire"
    SELECT = "select"
    LOAD = "load"
    LOAD_PROVEN = "load-proven"
    TAKE_BACK = "take-back"
    COMMIT = "commit"
    COMPLETE = "complete"
    COMPLETE_UNREAD = "complete-unread"
    MRZ_MATCHES = "mrz-matches"
    MRZ_DIFFERS = "mrz-differs"
    DOUBT = "doubt"
    FAIL = "fail"
    NO_INK = "no-ink"
    RESOLVE_PRINTED = "resolve-printed"
    RESOLVE_BLANK = "resolve-blank"
    SPOIL = "spoil"
    SPOIL_LAST = "spoil-last"
    REPLAY = "replay"
    SET_ASIDE = "set-aside"
    AUTHORITY_PRINTED = "authority-printed"


class IllegalTransition(Exception):
    """A pair that the table does not have; a bug of the caller, or a race that it must expect."""

    def __init__(self, phase: Phase, event: Event) -> None:
        super().__init__(f"a job that is {phase} cannot take the event {event}")
        self.phase = phase
        self.event = event


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table: the phase after, and the receipt event (CONTRACT section 3.4), None for a mere note."""

    phase: Phase
    receipt: str | None


_ENDS_WITHOUT_INK = {
    Event.CANCEL: Step(Phase.CANCELED, "job-canceled"),
    Event.EXPIRE: Step(Phase.ABORTED, "job-aborted"),
}
_AUTHORITY_KNOWS = {Event.AUTHORITY_PRINTED: Step(Phase.COMPLETED, "print-completed")}
# A torn or inked blank may be taken out of the queue before it is printed (CONTRACT 4.1, "spoiled is also allowed").
_BLANK_IS_SPOILED = {
    Event.SPOIL: Step(Phase.WAITING, "book-spoiled"),
    Event.SPOIL_LAST: Step(Phase.ABORTED, "book-spoiled"),
}
_PERSON_DECIDES = {
    Event.RESOLVE_PRINTED: Step(Phase.COMPLETED, "print-completed"),
    Event.RESOLVE_BLANK: Step(Phase.WAITING, "job-requeued"),
    **_BLANK_IS_SPOILED,
}
_EVIDENCE_DECIDES = {
    Event.COMPLETE: Step(Phase.COMPLETED, "print-completed"),
    Event.COMPLETE_UNREAD: Step(Phase.VERIFY_WANTED, "print-completed"),
    Event.NO_INK: Step(Phase.WAITING, "job-requeued"),
    Event.FAIL: Step(Phase.FAILED, "print-failed"),
}

TABLE: dict[Phase, dict[Event, Step]] = {
    Phase.WAITING: {
        Event.HOLD: Step(Phase.HELD, "job-held"),
        Event.SELECT: Step(Phase.SELECTED, None),
        Event.SET_ASIDE: Step(Phase.SET_ASIDE, "job-set-aside"),
        **_ENDS_WITHOUT_INK,
        **_BLANK_IS_SPOILED,
        **_AUTHORITY_KNOWS,
    },
    Phase.HELD: {
        Event.HOLD: Step(Phase.HELD, "job-held"),
        Event.RELEASE: Step(Phase.WAITING, "job-released"),
        Event.RELEASE_IN_PART: Step(Phase.HELD, "job-released"),
        Event.WAIT_OVER: Step(Phase.WAITING, None),
        **_ENDS_WITHOUT_INK,
        **_BLANK_IS_SPOILED,
        **_AUTHORITY_KNOWS,
    },
    Phase.SET_ASIDE: {
        Event.REPLAY: Step(Phase.WAITING, "job-requeued"),
        **_ENDS_WITHOUT_INK,
        **_BLANK_IS_SPOILED,
        **_AUTHORITY_KNOWS,
    },
    Phase.SELECTED: {
        Event.HOLD: Step(Phase.HELD, "job-held"),
        Event.LOAD: Step(Phase.LOADING, None),
        Event.TAKE_BACK: Step(Phase.WAITING, None),
        **_ENDS_WITHOUT_INK,
        **_BLANK_IS_SPOILED,
        **_AUTHORITY_KNOWS,
    },
    # While a page may lie in the printer, hold, cancel and expiry are wishes on the row: the phase changes
    # only when the buffers were proven clear.
    Phase.LOADING: {
        Event.LOAD: Step(Phase.LOADING, None),
        Event.LOAD_PROVEN: Step(Phase.LOADED, None),
        Event.TAKE_BACK: Step(Phase.WAITING, None),
        Event.DOUBT: Step(Phase.IN_DOUBT, "print-in-doubt"),
        **_AUTHORITY_KNOWS,
    },
    Phase.LOADED: {
        Event.LOAD: Step(Phase.LOADING, None),
        Event.TAKE_BACK: Step(Phase.WAITING, None),
        Event.COMMIT: Step(Phase.COMMITTED, "print-committed"),
        **_AUTHORITY_KNOWS,
    },
    Phase.COMMITTED: {
        Event.DOUBT: Step(Phase.IN_DOUBT, "print-in-doubt"),
        **_EVIDENCE_DECIDES,
        **_AUTHORITY_KNOWS,
    },
    Phase.VERIFY_WANTED: {
        Event.MRZ_MATCHES: Step(Phase.COMPLETED, "print-verified"),
        Event.MRZ_DIFFERS: Step(Phase.VERIFY_FAILED, "verify-failed"),
        Event.RESOLVE_PRINTED: Step(Phase.COMPLETED, "print-completed"),
        **_BLANK_IS_SPOILED,
        **_AUTHORITY_KNOWS,
    },
    # Late evidence may still end a doubt, unless a person has.
    Phase.IN_DOUBT: {
        Event.MRZ_MATCHES: Step(Phase.COMPLETED, "print-verified"),
        **_EVIDENCE_DECIDES,
        **_PERSON_DECIDES,
        **_AUTHORITY_KNOWS,
    },
    Phase.FAILED: {**_PERSON_DECIDES, **_AUTHORITY_KNOWS},
    Phase.VERIFY_FAILED: {
        Event.RESOLVE_PRINTED: Step(Phase.COMPLETED, "print-completed"),
        **_BLANK_IS_SPOILED,
        **_AUTHORITY_KNOWS,
    },
    Phase.COMPLETED: {},
    Phase.CANCELED: {},
    # An aborted job comes back only where no ink can be on a book that still counts.
    Phase.ABORTED: {Event.REPLAY: Step(Phase.WAITING, "job-requeued")},
}

_STATES: dict[Phase, JobState] = {
    Phase.WAITING: JobState.PENDING,
    Phase.HELD: JobState.PENDING_HELD,
    Phase.SET_ASIDE: JobState.PENDING_HELD,
    Phase.SELECTED: JobState.PROCESSING,
    Phase.LOADING: JobState.PROCESSING,
    Phase.LOADED: JobState.PROCESSING,
    Phase.COMMITTED: JobState.PROCESSING,
    Phase.VERIFY_WANTED: JobState.PROCESSING,
    Phase.IN_DOUBT: JobState.PROCESSING_STOPPED,
    Phase.FAILED: JobState.PROCESSING_STOPPED,
    Phase.VERIFY_FAILED: JobState.PROCESSING_STOPPED,
    Phase.COMPLETED: JobState.COMPLETED,
    Phase.CANCELED: JobState.CANCELED,
    Phase.ABORTED: JobState.ABORTED,
}

PHASE_REASONS: dict[Phase, Reason] = {
    Phase.SET_ASIDE: Reason.JOB_SET_ASIDE,
    Phase.LOADED: Reason.BOOK_WANTED,
    Phase.VERIFY_WANTED: Reason.VERIFY_WANTED,
    Phase.IN_DOUBT: Reason.PRINT_IN_DOUBT,
    Phase.FAILED: Reason.PRINT_FAILED,
    Phase.VERIFY_FAILED: Reason.VERIFY_FAILED,
}

ENDED = frozenset({Phase.COMPLETED, Phase.CANCELED, Phase.ABORTED})
STOPPED = frozenset({Phase.IN_DOUBT, Phase.FAILED, Phase.VERIFY_FAILED})
# A page may lie in the printer, but no intent was made.
PAGE_IN_PRINTER = frozenset({Phase.LOADING, Phase.LOADED})
AT_PRINTER = PAGE_IN_PRINTER | {Phase.SELECTED}  # taken by one, and not committed
# The intent was journaled: there is ink, or there may be.
MAY_HAVE_INK = STOPPED | {Phase.COMMITTED, Phase.VERIFY_WANTED, Phase.COMPLETED}
# What a person must look at before the job can go on.
NEEDS_PERSON = STOPPED | {Phase.SET_ASIDE, Phase.VERIFY_WANTED}


def next_phase(phase: Phase, event: Event) -> Step:
    """The row of the table for this phase and event.

    Raises:
        IllegalTransition: The table has no such row.
    """
    step = TABLE[phase].get(event)
    if step is None:
        raise IllegalTransition(phase, event)
    return step


def state_of(phase: Phase) -> JobState:
    """The RFC 8011 job state that the borders show for a phase."""
    return _STATES[phase]


def phases_of(state: JobState) -> tuple[Phase, ...]:
    """The phases that one RFC 8011 job state stands for."""
    return tuple(phase for phase in Phase if _STATES[phase] is state)


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/architecture.md."""
    lines = [
        "stateDiagram-v2",
        "    [*] --> waiting: job-accepted",
        "    [*] --> held: job-accepted",
    ]
    names = {phase: phase.value.replace("-", "_") for phase in Phase}
    for phase in Phase:
        for event, step in TABLE[phase].items():
            receipt = f" / {step.receipt}" if step.receipt else ""
            lines.append(f"    {names[phase]} --> {names[step.phase]}: {event.value}{receipt}")
    lines += [f"    {names[phase]} --> [*]" for phase in Phase if phase in ENDED]
    return "\n".join(lines) + "\n"
