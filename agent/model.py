"""The words that all rooms share: frozen data, no behaviour that needs I/O."""

from __future__ import annotations

import base64
import enum
import re
from dataclasses import dataclass, field
from typing import Any

TECHNICIAN = "technician:"  # how a person's name as actor begins, CONTRACT section 3.4
MESSAGE_SIZE_MAX = 2 * 1024 * 1024  # bytes, CONTRACT section 3
BATCH_LINES_MAX = 2_000  # lines, CONTRACT section 3
BATCH_SIZE_MAX = 256 * 1024 * 1024  # bytes, CONTRACT section 3
INTEGER_MAX = 2**53 - 1  # CONTRACT section 3
BOOK_NUMBER = re.compile(r"[A-Z0-9]{1,9}")  # CONTRACT section 3.1

TYP_AUTHORIZATION = "print-authorization+jwt"
TYP_DIRECTIVE = "print-directive+jwt"
TYP_RECEIPT = "print-receipt+jwt"
TYP_EXTRACT = "print-extract+jwt"
TYP_DOCUMENT = "travel-document+json"


class JobState(enum.StrEnum):
    """RFC 8011 job-state keywords."""

    PENDING = "pending"
    PENDING_HELD = "pending-held"
    PROCESSING = "processing"
    PROCESSING_STOPPED = "processing-stopped"
    ABORTED = "aborted"
    CANCELED = "canceled"
    COMPLETED = "completed"


class Reason(enum.StrEnum):
    """Job state reasons, CONTRACT section 4."""

    BOOK_WANTED = "book-wanted"
    BOOK_REMOVAL_WANTED = "book-removal-wanted"
    VERIFY_WANTED = "verify-wanted"
    PRINTER_STOPPED = "printer-stopped"
    CLOCK_UNTRUSTED = "clock-untrusted"
    JOURNAL_ROLLED_BACK = "journal-rolled-back"
    JOB_HOLD = "job-hold"
    NOT_YET_VALID = "not-yet-valid"
    JOB_SET_ASIDE = "job-set-aside"
    REVOKED = "revoked"
    TRANSFERRED = "transferred"
    CANCELED_BY_TECHNICIAN = "canceled-by-technician"
    PRINT_IN_DOUBT = "print-in-doubt"
    PRINT_FAILED = "print-failed"
    VERIFY_FAILED = "verify-failed"
    PRINTER_NOT_CLEAR = "printer-not-clear"
    EXPIRED = "expired"
    BOOK_SPOILED = "book-spoiled"


class BookFate(enum.StrEnum):
    """What a person says of a dead station's book, with it in the hand (event ``inventory-taken``)."""

    BLANK = "blank"  # not one dot of ink
    PRINTED = "printed"  # the whole page, down to the last line of the MRZ
    DAMAGED = "damaged"  # anything else
    MISSING = "missing"  # not in the house


class Role(enum.StrEnum):
    """What a trusted key may sign: root trust updates and nothing else, an issuer the rest."""

    ISSUER = "issuer"
    ROOT = "root"


class Action(enum.StrEnum):
    """Directive actions, CONTRACT section 3.3."""

    REVOKE = "revoke"
    HOLD = "hold"
    RELEASE = "release"
    TRANSFER = "transfer"
    RETIRE = "retire"
    ACKNOWLEDGE = "acknowledge"
    TRUST = "trust"
    RESUME = "resume"


class CounterKept(enum.StrEnum):
    """What becomes of a printer's row counter at power-off (profile key ``counter_kept``)."""

    LOST = "lost"
    DURABLE = "durable"  # saved before its row is inked
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One entry of ``books``: the blank book's pre-printed number and the document's JWE (text)."""

    number: str
    document: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message whose signature, form, issuer and audience are good; its own claims are not read yet.

    ``claims`` is the decoded payload object; ``sha256`` the digest of the payload's bytes, which decides
    whether two messages are the same content; ``text`` the compact serialization, stripped.
    """

    typ: str
    kid: str
    role: str
    jti: str
    seq: int
    iat: int
    exp: int
    nbf: int | None
    claims: dict[str, Any] = field(repr=False)
    sha256: bytes
    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authorization:
    """A verified print authorization, CONTRACT section 3.1."""

    envelope: Envelope
    priority: int
    application: str | None
    books: tuple[BookEntry, ...]


@dataclass(frozen=True, slots=True)
class Directive:
    """A verified directive, CONTRACT section 3.3; the fields that its action does not have are None."""

    envelope: Envelope
    action: Action
    job: str | None = None
    reason: str | None = None
    to: str | None = None
    through: int | None = None
    head: str | None = None
    printed: tuple[str, ...] = ()
    version: int | None = None
    jwks: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TravelDocument:
    """The TD3 data page of CONTRACT section 3.2, checked. Never logged: ``repr`` shows nothing."""

    document_type: str = field(repr=False)
    issuing_state: str = field(repr=False)
    nationality: str = field(repr=False)
    primary_identifier: str = field(repr=False)
    secondary_identifier: str = field(repr=False)
    document_number: str = field(repr=False)
    date_of_birth: str = field(repr=False)
    date_of_issue: str = field(repr=False)
    date_of_expiry: str = field(repr=False)
    sex: str = field(repr=False)
    place_of_birth: str = field(repr=False)
    issuing_authority: str = field(repr=False)
    personal_number: str = field(repr=False)
    mrz: tuple[str, str] = field(repr=False)
    photo: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Raster:
    """A one-bit page: ``rows`` holds ``height`` rows of ``(width + 7) // 8`` bytes, most significant bit left, 1 = ink."""

    width: int
    height: int
    dpi_x: int
    dpi_y: int
    rows: bytes = field(repr=False)

    @property
    def stride(self) -> int:
        """Bytes a row."""
        return (self.width + 7) // 8

    def row(self, index: int) -> bytes:
        """The bytes of one row, 0 at the top."""
        return self.rows[index * self.stride : (index + 1) * self.stride]

    def inked_rows(self) -> int:
        """How many rows carry at least one dot: what a row counter moves by."""
        blank = bytes(self.stride)
        return sum(self.row(index) != blank for index in range(self.height))


@dataclass(frozen=True, slots=True)
class PrinterIdentity:
    """What a printer says of itself; None where its profile or the printer has no such answer."""

    serial: str | None = None
    model: str | None = None


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


PROCESS_ID_DIGITS = 4
PROCESS_ID_DIGIT_FIRST = 0x20  # the digits are the bytes 20h to 7Eh
PROCESS_ID_BASE = 95
PROCESS_ID_COUNT = PROCESS_ID_BASE**PROCESS_ID_DIGITS  # 81,450,625 numbers, from 0


def process_id_text(number: int) -> str:
    """The four base-95 digits of a process ID, the highest first (CONTRACT section 8 rule 6).

    They stand so in receipts and on the wire.

    Raises:
        ValueError: the number is not one of 0 to 81,450,624.
    """
    if not 0 <= number < PROCESS_ID_COUNT:
        raise ValueError(f"process ID {number}: 0 to {PROCESS_ID_COUNT - 1} are allowed")
    digits = []
    for _ in range(PROCESS_ID_DIGITS):
        number, digit = divmod(number, PROCESS_ID_BASE)
        digits.append(chr(PROCESS_ID_DIGIT_FIRST + digit))
    return "".join(reversed(digits))
