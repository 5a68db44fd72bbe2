"""Every error of the product, on one page. The class says who must act.

    PrintAgentError
    ├── MessageRefused        the authority: a signed message that the station does not take
    ├── RequestRefused        a technician: a call that the station does not carry out
    ├── PrinterFault          a technician: the printer or its line
    │   ├── LineLost          the line is gone: ENODEV, hang-up, loss of DSR, CTS or DCD
    │   ├── LineUnavailable   the line cannot be opened: no such port, no permission, in use
    │   ├── WriteStalled      the printer took no bytes in time; says how many went
    │   ├── NoAnswer          an asked reply did not come in time
    │   ├── PrinterRestarted  a sign that the printer lost its memory in this session
    │   ├── ReplyGarbled      a reply that its command cannot have
    │   └── BookInTheWay      a book was seen where none may be
    ├── ConfigurationInvalid  an administrator: file, key, what was found, what is allowed
    ├── StationBusy           an administrator: another agent holds the state directory
    ├── DiskFull              an administrator: no room; nothing was written
    ├── ThreadStuck           nobody: the service manager starts the agent again; support, if it comes back
    └── JournalDamaged        support: the journal cannot be trusted; it is never mended silently

A bug is none of these: it stops the process, and recovery runs at the next start.
"""

from __future__ import annotations


class PrintAgentError(Exception):
    """The root: ``str(error)`` is one line that a person can act on, without holder data."""


class MessageRefused(PrintAgentError):
    """A signed message that is refused, with the answer that CONTRACT section 3 names.

    Args:
        status: the HTTP status, e.g. 401.
        name: the problem's name without ``urn:print-agent:``, e.g. ``bad-signature``.
        detail: what failed, what was expected and found; no holder data.

    Attributes:
        jti: What a message with a good signature calls itself, where that is well formed.
        seq: Its number, likewise.
    """

    def __init__(self, status: int, name: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.jti: str | None = None
        self.seq: int | None = None


class RequestRefused(PrintAgentError):
    """A technician's call that is refused: status, problem name (``not-allowed`` …) and why."""

    def __init__(self, status: int, name: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail


class PrinterFault(PrintAgentError):
    """The printer or its line; the job's fate is decided by the evidence rules, not by the fault."""


class LineLost(PrinterFault):
    """The open line is gone; the session with the printer ended."""


class LineUnavailable(PrinterFault):
    """The line could not be opened."""


class WriteStalled(PrinterFault):
    """The printer took no more bytes in time.

    Args:
        detail: one line.
        written: how many bytes of the data went out before it stalled.
    """

    def __init__(self, detail: str, *, written: int) -> None:
        super().__init__(detail)
        self.written = written


class NoAnswer(PrinterFault):
    """An asked reply did not come in time."""


class PrinterRestarted(PrinterFault):
    """The printer lost its memory in this session."""


class ReplyGarbled(PrinterFault):
    """A reply that the command cannot have."""


class BookInTheWay(PrinterFault):
    """A book was seen where none may be."""


class ConfigurationInvalid(PrintAgentError):
    """A file that an administrator must mend: one line with file, key, found and allowed."""


class StationBusy(PrintAgentError):
    """Another agent holds this state directory."""


class DiskFull(PrintAgentError):
    """There is no room on the disk; the change was not made."""


class ThreadStuck(PrintAgentError):
    """A thread waits for something that does not come; only a new process helps."""


class JournalDamaged(PrintAgentError):
    """The journal cannot be trusted; what was found, and what to do."""
