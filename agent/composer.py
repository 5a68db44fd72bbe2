"""From a job to the bytes of its page: the document is opened in memory only, and forgotten after."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.crypto import jose
from agent.crypto.documents import open_document
from agent.crypto.keys import StationKeys
from agent.drivers.escpos import encode_page
from agent.drivers.profile import Profile
from agent.errors import JournalDamaged, PrintAgentError
from agent.model import BookEntry, Raster, TravelDocument, base64url
from agent.page.layout import compose
from agent.queue.jobs import Job
from agent.queue.journal import Reader


class DocumentGone(PrintAgentError):
    """The job's document was erased, or cannot be opened with the station's keys any more."""


@dataclass(frozen=True, slots=True)
class ComposedPage:
    """A page ready to be loaded.

    Attributes:
        data: The printer's bytes.
        inked_rows: How many rows of dots carry ink.
    """

    data: bytes = field(repr=False)
    inked_rows: int


def read_document(reader: Reader, job: Job, keys: StationKeys) -> TravelDocument:
    """Opens the document of the job's current entry.

    Raises:
        DocumentGone: It was erased.
        MessageRefused: It cannot be opened with the station's keys.
    """
    row = reader.row(
        "SELECT d.jws, m.sha256 FROM documents d JOIN messages m ON m.jti = d.job WHERE d.job = ?",
        (job.id,),
    )
    if row is None:
        raise DocumentGone(
            f"the document of job {job.id} was erased after the authority acknowledged its end"
        )
    payload = jose.decode_base64url(bytes(row["jws"]).split(b".")[1])
    # The signature was checked at acceptance; the receipt of that moment names this digest.
    if base64url(hashlib.sha256(payload).digest()) != row["sha256"]:
        raise JournalDamaged(
            f"the authorization of job {job.id} is not the one that was accepted; run `print-agent journal verify`"
        )
    entry = jose.parse_object(payload)["books"][job.entry]
    return open_document(BookEntry(entry["number"], entry["document"]), keys)


class Composer:
    """Composes pages for one printer; the next one may be composed while the printer prints.

    Args:
        keys: Gives the station's keys, which may be rotated while it runs.
        profile: The printer's kind.
        offset_mm: Where this printer puts the page's corner.
        specimen: Whether the page must bear SPECIMEN.
    """

    def __init__(
        self,
        *,
        keys: Callable[[], StationKeys],
        profile: Profile,
        offset_mm: tuple[float, float] = (0.0, 0.0),
        specimen: bool = False,
    ) -> None:
        self._keys = keys
        self._profile = profile
        self._offset_mm = offset_mm
        self._specimen = specimen
        self._lock = threading.Lock()
        self._ahead: tuple[tuple[str, int], ComposedPage] | None = None

    def raster(self, reader: Reader, job: Job) -> Raster:
        """The page as dots, e.g. for a preview."""
        document = read_document(reader, job, self._keys())
        return compose(
            document,
            dpi_x=self._profile.dpi_x,
            dpi_y=self._profile.dpi_y,
            width=self._profile.width,
            height=self._profile.height,
            offset_mm=self._offset_mm,
            specimen=self._specimen,
        )

    def page(self, reader: Reader, job: Job) -> ComposedPage:
        """The page as the printer's bytes; the one composed ahead, if it is this job's."""
        key = (job.id, job.entry)
        with self._lock:
            ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == key:
            return ahead[1]
        return self._compose(reader, job)

    def compose_ahead(self, reader: Reader, job: Job) -> None:
        """Composes a page that will probably be asked for next; one page is kept."""
        page = self._compose(reader, job)
        with self._lock:
            self._ahead = ((job.id, job.entry), page)

    def _compose(self, reader: Reader, job: Job) -> ComposedPage:
        raster = self.raster(reader, job)
        return ComposedPage(encode_page(raster, self._profile), raster.inked_rows())
