"""One life of the agent's process: the production core on the simulated disk, line and clock, in one thread."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from queue import Empty
from typing import Any

import apsw

from agent.clock import Clock
from agent.composer import ComposedPage
from agent.crypto.keys import StationKeys, TrustStore
from agent.crypto.receipts import ReceiptSigner, hash_of_signed
from agent.drivers.escpos import encode_page
from agent.drivers.profile import Profile, load_profile
from agent.errors import DiskFull, PrintAgentError, RequestRefused
from agent.intake import Intake
from agent.live import Board, PrinterView, Situation
from agent.model import Raster
from agent.queue import acts, attempts, intake_rules, jobs, start, witness
from agent.queue.group_commit import GroupCommit
from agent.queue.jobs import Job
from agent.queue.journal import Journal, Operation, Reader, Recorded, Transaction
from agent.queue.states import PAGE_IN_PRINTER
from agent.worker import PrinterWorker, WorkerSettings
from tests.simulation.desk import PAGE_HEIGHT, PAGE_WIDTH, Desk
from tests.simulation.disk import CHECKED, Disk
from tests.simulation.plan import Office
from tests.simulation.world import AgentDied, World

STATION, AUTHORITY, PRINTER = "sambas-01", "imigrasi-jakarta", "main"
WRITE_S = 0.004  # a durable commit on an old disk
KEYS = StationKeys.from_jwks(
    json.loads((Path(__file__).parents[1] / "vectors" / "station.jwks").read_text(encoding="utf-8"))
)
WHITE_ROW_EVERY = 4
NEWEST = 4  # jobs that people still know of, although they may have ended
_OPEN_JOBS = (
    "SELECT * FROM jobs WHERE phase NOT IN ('completed', 'canceled', 'aborted')"
    " OR number > (SELECT max(number) - ? FROM jobs) ORDER BY number"
)


@lru_cache(maxsize=1024)
def pattern(job: int, entry: int) -> Raster:
    """A page that no other job's page is like, nor any row of it like another row."""
    rows = bytearray()
    for row in range(PAGE_HEIGHT):
        white = row % WHITE_ROW_EVERY == WHITE_ROW_EVERY - 1
        rows += bytes(5) if white else bytes([0xC0 | entry, job >> 8, job & 0xFF, row + 1, 0x81])
    return Raster(PAGE_WIDTH, PAGE_HEIGHT, 180, 180, bytes(rows))


def job_number(job_id: str) -> int:
    """The number in a simulated job's id."""
    return int(job_id[1:])


@lru_cache(maxsize=256)
def _page(job: int, entry: int, profile: Profile) -> ComposedPage:
    raster = replace(pattern(job, entry), dpi_x=profile.dpi_x, dpi_y=profile.dpi_y)
    return ComposedPage(encode_page(raster, profile), raster.inked_rows())


@lru_cache(maxsize=64)
def profile_of(office: Office) -> Profile:
    """The office's profile, with small pages."""
    overrides: dict[str, Any] = {"width": PAGE_WIDTH, "height": PAGE_HEIGHT, "page_seconds": 3.0}
    if office.profile == "page-slip":
        overrides["counter_kept"] = office.counter_kept
    return load_profile(office.profile, overrides)


class _Patterns:
    """Composes pages: a pattern in the place of a person's data."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def page(self, reader: Reader, job: Job) -> ComposedPage:
        return _page(job_number(job.id), job.entry, self._profile)

    def compose_ahead(self, reader: Reader, job: Job) -> None:
        """Nothing is gained by it here."""


class InlineCommits(GroupCommit):
    """The journal's writer without its thread: an operation is durable when ``submit`` returns."""

    def __init__(self, journal: Journal, world: World) -> None:
        super().__init__(journal, failed=self._die, make_room=None)
        self._world = world

    def _submit(self, operations: Sequence[Operation[Any]], *, reserved: bool) -> list[Future[Any]]:
        tasks = [(operation, Future[Any](), reserved) for operation in operations]
        self._world.pass_time(WRITE_S)
        try:
            self._commit(tasks)
        except apsw.Error as error:
            # What the service does: nobody may go on with this journal.
            self._die(error)
        return [done for _, done, _ in tasks]

    def _die(self, error: BaseException) -> None:
        self._world.tell(f"the agent ends itself: {error}")
        raise AgentDied from error

    def tidy(self) -> None:
        """A moment in which nobody waits."""
        self._left_after_checkpoint()


class _Requests:
    """The worker's requests; waiting for one takes simulated time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: list[Any] = []

    def put(self, request: Any) -> None:
        self._waiting.append(request)

    def get(self, timeout: float) -> Any:
        deadline = self._world.now + timeout
        while not self._waiting:
            if self._world.now >= deadline:
                raise Empty
            self._world.point("wait for the printer")
            self._world.advance_to(min(deadline, max(self._world.next_act_at(), self._world.now)))
        return self._waiting.pop(0)

    def get_nowait(self) -> Any:
        if not self._waiting:
            raise Empty
        return self._waiting.pop(0)

    def empty(self) -> bool:
        return not self._waiting


class Life:
    """From the start of the process to its end.

    Args:
        world: Time and mishaps.
        disk: The PC's disk.
        desk: The printer.
        clock: The PC's clock.
        boot: The kernel's id of this boot.
        path: The journal.
        trust: The authority's public keys.
        observe: Told of every event when it is durable.
    """

    def __init__(
        self,
        world: World,
        disk: Disk,
        desk: Desk,
        clock: Clock,
        *,
        boot: str,
        path: Path,
        trust: TrustStore,
        observe: Callable[[Journal, Recorded], None],
    ) -> None:
        self.world = world
        self.disk = disk
        self.office = world.plan.office
        witness.check(path, hash_of_signed)
        self.journal = Journal.open(
            path,
            signer=ReceiptSigner(KEYS.signing),
            station_id=STATION,
            authority_id=AUTHORITY,
            clock=clock,
            vfs=CHECKED,
        )
        self._jobs: list[Job] | None = None  # as they are, until something is recorded

        def recorded(events: Sequence[Recorded]) -> None:
            self._jobs = None
            for event in events:
                observe(self.journal, event)

        self.journal.listen(recorded)
        start.take_signer(self.journal, ReceiptSigner(KEYS.signing), public_jwks=KEYS.public_jwks())
        self.commits = InlineCommits(self.journal, world)
        begun = self.journal.write(
            partial(
                start.begin,
                boot=boot,
                version="simulated",
                book_checks={PRINTER: "present" if self.office.book_check else "none"},
            )
        )
        self.witness = witness.Witness(self.journal)
        self.board = Board()
        profile = profile_of(self.office)
        self.board.add(PrinterView(name=PRINTER, profile=profile.name))
        self.intake = Intake(
            self.commits,
            trust=lambda: trust,
            keys=lambda: KEYS,
            station_id=STATION,
            authority_id=AUTHORITY,
            clock=clock,
        )
        self.worker = PrinterWorker(
            WorkerSettings(
                name=PRINTER,
                profile=profile,
                book_check=self.office.book_check,
                read_back=self.office.read_back,
                run=begun.run,
                boot=begun.boot,
            ),
            journal=self.commits,
            board=self.board,
            clock=clock,
            composer=_Patterns(profile),
            open_line=desk.open,
        )
        self.worker._requests = _Requests(world)  # type: ignore[assignment] # the same calls in simulated time

    # What others do to it

    @property
    def view(self) -> PrinterView:
        """The printer as the station shows it."""
        view = self.board.view(PRINTER)
        assert view is not None
        return view

    def jobs(self) -> list[Job]:
        """The jobs that have not ended, and the newest."""
        if self._jobs is None:
            # People read by the writer's connection, which need not read its own pages again; within a write by the other.
            busy = self.disk.at_work
            reader = self.commits.read() if busy else Reader(self.journal.connection)
            self._jobs = [jobs.from_row(row) for row in reader.rows(_OPEN_JOBS, (NEWEST,))]
        return self._jobs

    def job(self, job_id: str) -> Job | None:
        """One job."""
        return next((job for job in self.jobs() if job.id == job_id), None)

    def attempted_book(self, job: Job) -> str:
        """The book of a job's newest attempt."""
        attempt = attempts.latest(self.commits.read(), job)
        return job.book if attempt is None else attempt.book

    def act(self, operation: Callable[[Transaction], Any]) -> str | None:
        """A technician's act; gives why it was refused."""
        try:
            self.commits.write(operation)
        except (RequestRefused, DiskFull) as refused:
            return str(refused)
        self.worker.wake()
        return None

    def resolve(self, job: Job, outcome: acts.Outcome, book: str, *, actor: str) -> str | None:
        """A person says what a book is; a page in the printer is cleared before."""

        def operation(tx: Transaction) -> Any:
            return acts.resolve(
                tx, job.id, outcome=outcome, book=book, attempt_number=None, actor=actor
            )

        if outcome is acts.Outcome.SPOILED and job.phase in PAGE_IN_PRINTER:
            self.worker.request(lambda: self.commits.write(operation))
            return None
        return self.act(operation)

    def present(self, number: str) -> None:
        """Scans a book."""
        if self.view.situation is Situation.READY:
            self.worker.request(lambda: self.worker.present(number, actor="technician:sri"))

    def accept_printer(self) -> None:
        """A technician accepts whoever answers, or declares the printer switched off."""
        answers = self.view.situation is not Situation.AWAY
        self.act(
            lambda tx: attempts.accept_printer(
                tx, PRINTER, actor="technician:sri", reason="looked at it", answers=answers
            )
        )

    def tick(self) -> None:
        """What the station does about once a second."""
        due = intake_rules.due(self.commits.read())
        if due is not None and self.journal.clock.now() >= due and self.commits.clock_trusted():
            with contextlib.suppress(PrintAgentError):
                self.commits.write(intake_rules.let_time_pass)
            self.worker.wake()


def trust_of(jwks: dict[str, Any]) -> TrustStore:
    """The authority's public keys as the station holds them."""
    return TrustStore.from_jwks(jwks, version=0)


__all__ = ["KEYS", "Life", "StationKeys", "pattern"]
