"""One simulated run: office, mishaps, lives of the agent, and the judge at the end."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import apsw

from agent import intake
from agent.backup import copy_journal, roll_back
from agent.crypto.documents import open_documents
from agent.crypto.keys import StationKeys
from agent.crypto.receipts import ReceiptSigner
from agent.drivers import book_printer
from agent.errors import DiskFull, JournalDamaged
from agent.live import Situation
from agent.model import Authorization, BookEntry
from agent.queue import witness
from agent.queue.damage import damaged_pages
from agent.queue.journal import Journal, Reader, Recorded
from agent.queue.states import PAGE_IN_PRINTER, Phase, state_of
from agent.verification import Examination
from tests.simulation.desk import Desk
from tests.simulation.disk import CHECKED, Disk, Trouble, WitnessFile, checksums_over
from tests.simulation.doubts import Doubts
from tests.simulation.judge import Judge
from tests.simulation.life import AUTHORITY, KEYS, STATION, Life, trust_of
from tests.simulation.office_authority import TRUST, CentralServer
from tests.simulation.people import People
from tests.simulation.plan import CUTS, Fault, Mishap, Plan
from tests.simulation.world import (
    AgentDied,
    Ended,
    PowerFailed,
    RunOver,
    SimulatedClock,
    World,
)

RESTARTS_S = (0.05, 0.3, 2.5)  # the service manager's pause, or the PC's start
RESTORED_AFTER_S = 30.0  # nobody is back at work sooner with another disk
BACKUP_EVERY_S = 40.0
TIDY_RATE = 0.6  # checkpoints a second, where the agent lives so long
TICK_EVERY = 4  # seconds; the service does it each second
CHUNK_BYTES = 64  # a small page, too, is loaded in many chunks
REST_S = 2_000.0  # after the last mishap everything must come to rest within this time
MEMORY = Path("/dev/shm")  # a folder in memory, where the machine has one
_names = count()


_opened: set[tuple[BookEntry, ...]] = set()


def _open_once(authorization: Authorization, keys: StationKeys, **how: Any) -> None:
    """The intake's look into the documents, which all runs share: one look at each is enough."""
    if authorization.books not in _opened:
        open_documents(authorization, keys, **how)
        _opened.add(authorization.books)


_DISK_TROUBLE = {
    Mishap.DISK_FULL: Trouble.FULL,
    Mishap.DISK_WRITE: Trouble.WRITE,
    Mishap.DISK_SYNC: Trouble.SYNC,
    Mishap.DISK_READ: Trouble.READ,
}


@dataclass(slots=True)
class Result:
    """What a run came to.

    Attributes:
        verdicts: The judge's sentences; none if all promises were kept.
        cuts: The power cuts and kills that happened.
        places: The points at which one could have, in order.
        lives: How often the agent started.
        events: The receipts by event.
        struck: The mishaps that were the first to strike an attempt between intent and outcome.
        doubts: The doubts, by the first mishap since their intent.
        story: What happened, with its moments in seconds.
    """

    plan: Plan
    verdicts: list[str]
    cuts: int = 0
    places: list[str] = field(default_factory=list)
    lives: int = 0
    events: Counter[str] = field(default_factory=Counter)
    struck: Counter[Mishap] = field(default_factory=Counter)
    doubts: Counter[Mishap | None] = field(default_factory=Counter)
    story: list[tuple[float, str]] = field(default_factory=list)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def run(plan: Plan) -> Result:
    """Plays a plan to its end; the same plan gives the same result."""
    chunks = patch.object(book_printer, "WRITE_CHUNK_BYTES", CHUNK_BYTES)
    documents = patch.object(intake, "open_documents", _open_once)
    with _folder() as folder, chunks, documents:
        one = _Run(plan, folder)
        witnessed = patch.object(witness, "os", one.witness_file)
        with checksums_over(one.disk), witnessed:
            one.play()
        return one.result()


class _Run:
    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.world = World(plan)
        self.disk = Disk(folder, f"simulated-{next(_names)}", self._disk_point)
        self.witness_file = WitnessFile(self.disk)
        self.path = self.disk.create("journal.db")
        self.desk = Desk(self.world, plan.office)
        self.clock = SimulatedClock(self.world)
        self.judge = Judge(STATION)
        self.doubts = Doubts(plan.office, self.desk, self.judge)
        self.people = People(self.world, self.desk)
        self.server = CentralServer(self.world, self.judge, self.desk.books, jobs=plan.office.jobs)
        self.world.on_fault = self._strike
        self.life: Life | None = None
        self._starting = False
        self._ended: Ended | None = None
        self._restart_s = RESTARTS_S[-1]
        self._connections: list[apsw.Connection] = []
        self.trust = trust_of(TRUST)
        self.boot = 1
        self.cuts = self.lives = 0
        self.world.later(1.0, self._second)
        self.world.later(7.0, self._tidy)
        self._backup: bytes | None = None
        self._restoring = False
        if any(fault.mishap is Mishap.RESTORE for fault in plan.faults):
            self.world.later(BACKUP_EVERY_S, self._back_up)

    def _disk_point(self, what: str) -> None:
        self.world.point(f"disk: {what}")

    # Lives

    def play(self) -> None:
        """One life of the agent after the other, until nothing more is to happen."""
        apsw.connection_hooks.append(self._connections.append)
        try:
            with contextlib.suppress(RunOver):
                while True:
                    self._one_life()
        except Exception:  # noqa: BLE001 - a crash of the agent is a verdict, with its story
            frames = traceback.format_exc().splitlines()
            self.judge.complain("the agent crashed: " + " | ".join(frames[-6:]))
        finally:
            apsw.connection_hooks.pop()
            self._bury()

    def result(self) -> Result:
        """What the judge says at last."""
        if not self.judge.verdicts:
            self._close()
        self.disk.forget()
        return Result(
            self.plan,
            self.judge.verdicts,
            cuts=self.cuts,
            places=self.world.places,
            lives=self.lives,
            events=self.judge.events,
            struck=self.doubts.struck,
            doubts=self.doubts.begun,
            story=self.world.story,
        )

    def _one_life(self) -> None:
        self.lives += 1
        power: Random | None = None
        self._ended = None
        try:
            self._starting = True
            self.doubts.life_begins(f"boot-{self.boot}")
            life = Life(
                self.world,
                self.disk,
                self.desk,
                self.clock,
                boot=f"boot-{self.boot}",
                path=self.path,
                trust=self.trust,
                observe=self._observe,
            )
            self._starting = False
            self.life = self.people.life = self.server.life = life
            life.worker.run()
            # Told to stop: nobody reaches it any more, but its end can be cut too.
            self.life = self.people.life = self.server.life = None
            self._starting = True
            life.witness.close()
            life.journal.close()
        except RunOver:
            raise
        except BaseException as error:
            # A handler of the agent may have met the dead disk on the way: what ended it came first.
            ended = self._ended or error
            if isinstance(ended, PowerFailed):
                power = ended.draw
            elif isinstance(ended, (DiskFull, JournalDamaged, apsw.Error)) and self.disk.in_trouble:
                self.world.tell(f"the agent ends: {ended}")
            elif not isinstance(ended, AgentDied):
                raise
        finally:
            self._bury()
        if power is not None:
            self._power_returns(power)
        else:
            self.disk.process_died()
        # On a full disk it ends at once; it need not do so twenty times a second.
        full = self.disk.trouble is Trouble.FULL
        self.world.advance_to(self.world.now + (RESTARTS_S[-1] if full else self._restart_s))

    def _bury(self) -> None:
        """Frees what the operating system frees of a dead process."""
        self._starting = False
        self.life = self.people.life = self.server.life = None
        self.disk.dead = True
        for connection in self._connections:
            with contextlib.suppress(apsw.Error, Ended):
                connection.close(True)
        self._connections.clear()
        self.witness_file.process_died()
        self.desk.process_gone()

    def _observe(self, journal: Journal, event: Recorded) -> None:
        if event.seq is None:
            self.doubts.journaled(event.kind, event.job, self.world.now)
            return
        for found, text in journal.receipts_after(Reader(journal.connection), event.seq - 1, 1):
            claims = self.judge.signed(
                found,
                text,
                self.desk.books,
                self.world.now,
                torn_unseen=self.desk.torn_unseen,
            )
            self.doubts.signed(claims, self.world.now)
            self.world.tell(
                " ".join(str(claims[name]) for name in ("event", "job", "book") if name in claims)
            )

    # Seconds

    def _second(self) -> None:
        self.world.later(1.0, self._second)
        if self.life is None:
            return
        if int(self.world.now) % TICK_EVERY == 0:
            self.life.tick()
        if self.world.faults_left:
            return
        waited = self.world.now - self.world.last_fault_at
        if self._at_rest() or waited > REST_S:
            self.server.fetch(self.life)
            raise RunOver

    def _at_rest(self) -> bool:
        assert self.life is not None
        return self.server.at_rest and all(job.ended for job in self.life.jobs())

    def _tidy(self) -> None:
        self.world.later(self.world.people.expovariate(TIDY_RATE), self._tidy)
        if self.life is not None:
            self.life.commits.tidy()

    # Mishaps

    def _strike(self, fault: Fault, where: str) -> None:
        rng = Random(fault.draw)
        self._restart_s = rng.choice(RESTARTS_S)
        mishap = fault.mishap
        self.doubts.struck_by(mishap)
        if mishap in CUTS:
            self.cuts += 1
        match mishap:
            case Mishap.OFFICE:
                self._printer_off(rng)
                self._pc_off(rng)
            case Mishap.PC:
                self._pc_off(rng)
            case Mishap.AGENT:
                self._kill()
            case Mishap.BOTH:
                self._printer_off(rng)
                self._kill()
            case Mishap.STOP:
                if self.life is not None:
                    self.life.worker.stop()
            case Mishap.CLOCK:
                self._clock_jumps(rng)
            case Mishap.RESTORE:
                if self._backup is not None and not self.plan.office.hostile:
                    self._restoring = True
                    self._restart_s = RESTORED_AFTER_S
                    self.desk.disturbed()
                    self._pc_off(rng)
            case _ if mishap in _DISK_TROUBLE:
                self.disk.trouble = _DISK_TROUBLE[mishap]
                self.world.later(rng.uniform(0.1, 20.0), self._disk_recovers)
            case _:
                self._at_the_desk(mishap, rng)

    def _at_the_desk(self, mishap: Mishap, rng: Random) -> None:
        desk, world = self.desk, self.world
        match mishap:
            case Mishap.PRINTER:
                self._printer_off(rng)
            case Mishap.OTHER_PRINTER:
                desk.replace_printer()
                world.later(rng.uniform(1.0, 30.0), desk.power_on)
            case Mishap.COVER:
                desk.disturbed()
                desk.printer.open_cover(world.now)
            case Mishap.JAM:
                desk.disturbed()
                desk.printer.jam(world.now)
            case Mishap.CABLE:
                desk.cable_out()
                world.later(rng.uniform(0.1, 20.0), lambda: setattr(desk, "cable_in", True))
            case Mishap.LINE_STALLS:
                desk.line_stalls_until = world.now + rng.uniform(0.5, 40.0)
            case Mishap.REPLY_LOST:
                desk.lose_replies += 1
            case Mishap.REPLY_TWICE:
                desk.double_replies += 1
            case Mishap.REPLY_LATE:
                desk.late_by = rng.uniform(0.1, 6.0)
                world.later(rng.uniform(1.0, 15.0), lambda: setattr(desk, "late_by", 0.0))
            case _:
                self._with_a_book(mishap, rng)

    def _with_a_book(self, mishap: Mishap, rng: Random) -> None:
        if mishap is Mishap.EARLY:
            self._insert_early(rng)
            return
        number = self.desk.take_out()
        if number is None or mishap is Mishap.PULL:
            return
        if mishap is Mishap.PULL_AND_PUT_BACK:
            self.world.later(rng.choice((0.05, 0.3, 2.0)), lambda: self._put_in(number))
            return
        assert mishap is Mishap.SWAP
        others = sorted(self.desk.books.keys() - {number})
        if others:
            other = rng.choice(others)
            self.world.later(rng.choice((0.5, 3.0)), lambda: self._put_in(other))

    def _insert_early(self, rng: Random) -> None:
        if self.life is not None:
            open_jobs = [job for job in self.life.jobs() if not job.ended]
            if open_jobs:
                self._put_in(rng.choice(open_jobs).book)

    def _put_in(self, number: str) -> None:
        """Any book while no page is on its way; else only that page's: whoever is asked looks at the number."""
        jobs = [] if self.life is None else self.life.jobs()
        asked = [job.book for job in jobs if job.phase in PAGE_IN_PRINTER]
        view = None if self.life is None else self.life.view
        unwatched = view is None or view.situation is Situation.RECONCILING
        if unwatched and self.desk.printer.printing:
            # A page waits for the book that was pulled out of it; nobody cancels that before its time is up.
            self.desk.torn_onto.add(number)
        self.desk.insert(asked[0] if asked else number)

    def _printer_off(self, rng: Random) -> None:
        self.desk.power_off()
        self.world.later(rng.choice((0.2, 3.0, 30.0)), self.desk.power_on)

    def _kill(self) -> None:
        if self.life is not None or self._starting:
            self._freeze(AgentDied())

    def _pc_off(self, rng: Random) -> None:
        self.boot += 1
        self.desk.host_off(rng)
        if self.life is not None or self._starting:
            self._freeze(PowerFailed(rng))
        self._power_returns(rng)

    def _freeze(self, ended: Ended) -> None:
        """From here on the process does nothing more, whatever its handlers try."""
        self._ended = ended
        self.disk.dead = True
        self.desk.process_gone()
        raise ended

    def _power_returns(self, rng: Random) -> None:
        self.disk.power_failed(rng)
        self.clock.booted_at = self.world.now
        if self._restoring:
            self._restoring = False
            self._restore()
        if rng.random() < 0.1:
            self._clock_jumps(rng)

    # Backups

    def _back_up(self) -> None:
        """What `journal backup` copies."""
        self.world.later(BACKUP_EVERY_S, self._back_up)
        if self.life is not None and not self.disk.in_trouble:
            copy = self.path.with_name("copy.db")
            with self.disk.unwatched():
                copy_journal(self.path, copy)
            self._backup = self.disk.take(copy)

    def _restore(self) -> None:
        """What `journal restore` does, beside the journal and renamed at last: it is there whole or not at all."""
        assert self._backup is not None
        fresh = self.disk.create("restoring.db")
        fresh.write_bytes(self._backup)
        with self.disk.unwatched():
            journal = Journal.open(
                fresh,
                signer=ReceiptSigner(KEYS.signing),
                station_id=STATION,
                authority_id=AUTHORITY,
                clock=self.clock,
                vfs=CHECKED,
            )
            journal.write(roll_back)
            witness.Witness(journal).close()
            journal.close()
        self.disk.replace(
            {
                self.path: fresh.read_bytes(),
                witness.witness_path(self.path): witness.witness_path(fresh).read_bytes(),
            }
        )
        self.people.restored = True
        for one in (self.judge, self.doubts, self.server):
            one.rolled_back()

    def _clock_jumps(self, rng: Random) -> None:
        if not self.judge.head_seq:
            return  # a new station has no known time yet, and takes the clock as it is
        self.clock.wrong_by = rng.choice((-1_790_000_000, 5 * 31_536_000, -3 * 3_600))
        self.world.tell(f"the clock is wrong by {self.clock.wrong_by} s")
        self.world.later(rng.uniform(5.0, 120.0), lambda: setattr(self.clock, "wrong_by", 0))

    def _disk_recovers(self) -> None:
        self.disk.trouble = None

    # The end

    def _close(self) -> None:
        reader = Reader(apsw.Connection(str(self.path)))
        shown = {
            row["id"]: state_of(Phase(row["phase"])).value
            for row in reader.rows("SELECT id, phase FROM jobs")
        }
        for fault in Examination(STATION, AUTHORITY, None).faults(reader):
            self.judge.complain(f"P6: {fault}")
        for page in damaged_pages(self.path):
            self.judge.complain(f"P6: page {page} of the journal has a wrong checksum")
        self.judge.close(self.desk.books, shown, self.desk.torn_onto, self.desk.disturbed_at)
