"""A day in one office: books are printed, the real process is killed at random moments, and the judge looks on."""

from __future__ import annotations

import contextlib
import math
import shutil
import statistics
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from agent.cli.client import CallFailed
from agent.clock import SystemClock, sleep
from agent.crypto.receipts import claims_unverified
from agent.drivers.virtual.book import Book
from agent.drivers.virtual.client import PrinterState
from agent.drivers.virtual.operator import Act, ActKind, StationView, next_act
from agent.errors import RequestRefused
from agent.live import PrinterReason
from agent.model import Action, JobState, Reason
from agent.verification import verify_journal
from tests.campaign.cuts import Cut, Cycle, Kind, Moment, Printer, Result
from tests.campaign.office import AUTHORITY, DAY_S, PRINTER, STATION, Office
from tests.simulation.judge import ENDED, Judge
from tests.simulation.people import seen

GLANCE_S = 0.025
HAND_S = 0.1  # what it takes to put a book in or out
LOOK_S = 0.3  # what a person takes to look at a book in doubt; late evidence may be faster
OUTAGES_S = (0.05, 0.6)  # how long the power is away
AGAIN_SHARE = 0.15  # so many of the cuts come while the station recovers from the one before
RECOVERY_S = 2.0
WAITING_JOBS = 2
FIRST_BOOKS = 2  # before the first cut, to learn how long a cycle is
REST_S = 60.0  # within this time everything must go on, whatever was cut
ACKNOWLEDGED_BOOKS = 5  # after so many the authority acknowledges what it has
STOPS = (PrinterReason.PRINTER_CHANGED, PrinterReason.USED_ELSEWHERE)


class Over(Exception):
    """The day ends early: the judge has found something."""


def run(seed: int, kinds: Sequence[Kind], *, mutation: str = "") -> Result:
    """Plays one day with a cut of each of these kinds, in order.

    Args:
        seed: Decides the people, the office and the moments; not what the machine's scheduler adds.
        kinds: What is cut.
        mutation: How the agent is broken on purpose; empty: not at all.
    """
    rng = Random(f"campaign {seed}")
    folder = Path(tempfile.mkdtemp(prefix=f"campaign-{seed}-"))
    printer = Printer(
        rng.choice(("lost", "durable", "unknown")), rng.choice(("printed", "ejected"))
    )
    office = Office(folder, Random(f"people {seed}"), printer, mutation=mutation)
    try:
        result = Day(office, rng, Result(seed, printer, folder)).play(kinds)
    finally:
        office.close()
    if result.verdicts or result.needless:
        lines = [f"{at:9.3f} s  {text}" for at, text in result.story]
        (folder / "story.txt").write_text("\n".join([*lines, *result.verdicts]) + "\n")
    else:
        shutil.rmtree(folder)
    return result


class Day:
    """Authority, operator, technician and the hand at the plugs; each step asks the station and acts once.

    Args:
        office: The real parts.
        rng: Everything random.
        result: Filled while the day goes on.
    """

    def __init__(self, office: Office, rng: Random, result: Result) -> None:
        self.office = office
        self.result = result
        self.judge = Judge(STATION, whole=office.pages.whole, traces=office.pages.traces)
        self._rng = rng
        self._clock = SystemClock()
        self._begun = self._asked_at = self._watched_at = self._clock.monotonic()
        self._jobs: dict[str, list[str]] = {}
        self._unsent: dict[str, str] = {}
        self._receipts: list[str] = []
        self._disturbed_at: list[float] = []
        self._open: dict[str, float] = {}  # job -> when its intent became durable, at the latest
        self._replied: dict[str, float] = {}  # book -> when its completion reply fell due
        self._to_look_at: dict[str, float | None] = {}  # job -> since when a person may look
        self._planned: tuple[Act, float] | None = None
        self._cut: Cut | None = None
        self._calm = True  # no cut since the station printed last
        self._last_done: float | None = None
        self._undisturbed: list[
            tuple[str, float, float]
        ] = []  # book, intent, seconds since the last
        self._ended: set[str] = set()
        self._books_done = self._acknowledged = 0
        self._orders = True

    def play(self, kinds: Sequence[Kind]) -> Result:
        """Until every cut was made and everything is at rest."""
        self.office.start_agent()
        try:
            self._until(lambda: self._books_done >= FIRST_BOOKS, "the first books are printed")
            for kind in kinds:
                self._make_cut(kind)
            self._settle()
            self._end()
        except Over:
            self._tell("the judge ends the day")
        self.result.verdicts = self.judge.verdicts
        return self.result

    def _tell(self, text: str, *, at: float | None = None) -> None:
        moment = self._clock.monotonic() if at is None else at
        self.result.story.append((moment - self._begun, text))

    def _until(self, holds: Callable[[], object], wanted: str) -> None:
        deadline = self._clock.monotonic() + REST_S
        while not holds():
            if self._clock.monotonic() > deadline:
                self.judge.complain(
                    f"P1: {REST_S:g} s went by, and it never came true that {wanted}"
                )
            self._step()
            if self.judge.verdicts:
                raise Over
            sleep(GLANCE_S)

    # Cuts

    def _make_cut(self, kind: Kind) -> None:
        """Lets the station print again before, or strikes while it recovers from the cut before."""
        cut, before = Cut(kind, self.office.printer), self._cut
        if before is not None and self._rng.random() < AGAIN_SHARE:
            before.alone = cut.alone = False
            delay_s = self._rng.uniform(0.0, RECOVERY_S)
        else:
            self._settle()
            # Over two cycles, so that a moment's share does not hang on how well the cycle is known.
            cycle_s = statistics.mean(cycle_s for _, _, cycle_s in self._undisturbed)
            delay_s = self._rng.uniform(0.0, 2 * cycle_s)
        outage_s = self._rng.uniform(*OUTAGES_S)
        first, hangs_up = self._rng.random() < 0.5, self._rng.random() < 0.5
        strike = threading.Timer(delay_s, self._strike, (cut, outage_s, first, hangs_up))
        self._cut = cut
        strike.start()
        self._until(lambda: not strike.is_alive(), "the cut was made")
        if kind in (Kind.OFFICE, Kind.PRINTER):
            self._disturbed_at.append(cut.struck_at)
        self._tell(f"CUT: {kind.told}; {self._book_in_printer()}", at=cut.struck_at)
        self._last_done = None
        self.result.cuts.append(cut)
        back_at = cut.struck_at + outage_s
        self._until(lambda: self._clock.monotonic() >= back_at, "time passes")
        self._restore(cut, agent_first=first)

    def _strike(self, cut: Cut, outage_s: float, agent_first: bool, hangs_up: bool) -> None:
        office = self.office
        self._calm = False
        cut.struck_at = self._clock.monotonic()
        match cut.kind:
            case Kind.AGENT:
                office.kill_agent()
            case Kind.OFFICE if agent_first:
                office.kill_agent()
                cut.struck_at = self._clock.monotonic()  # the ink ends here
                office.striking_hand.power_off(hang_up=True)
            case Kind.OFFICE:
                office.striking_hand.power_off(hang_up=True)
                office.kill_agent()
            case Kind.PRINTER:
                office.striking_hand.power_off(hang_up=hangs_up)
            case Kind.CABLE:
                office.striking_hand.hang_up(outage_s)

    def _restore(self, cut: Cut, *, agent_first: bool) -> None:
        office = self.office
        cut.returned_at = self._clock.monotonic()
        if cut.kind is Kind.OFFICE:
            office.boot += 1
        if cut.kind.ends_agent and agent_first:
            office.start_agent()
        if cut.kind in (Kind.OFFICE, Kind.PRINTER):
            office.hand.power_on()
        if cut.kind.ends_agent and not agent_first:
            office.start_agent()
        self._tell("everything is on again")

    def _settle(self) -> None:
        """A new book was printed since the cut, and nothing waits for a person: the next cycle begins."""
        cut = self._cut
        if cut is not None:
            self._until(lambda: self._printed_since(cut), "the station prints again")
        self._calm, self._cut = True, None

    def _printed_since(self, cut: Cut) -> bool:
        if cut.book_s is None or self._last_done is None or self._to_look_at:
            return False
        assert cut.returned_at is not None
        return self._last_done > cut.returned_at + cut.book_s

    def _book_in_printer(self) -> str:
        number = self.office.hand.state().book
        if number is None:
            return "no book is in"
        book = self.office.look(number)
        whole = ", a whole page" if self.office.pages.whole(book) else ""
        return f"book {number} is in, with {book.inked_rows()} rows of ink{whole}"

    # A step

    def _step(self) -> None:
        process = self.office.process
        if process is not None and process.poll() is not None and not self._agent_is_cut():
            self.judge.complain(f"the agent ended by itself, with code {process.returncode}")
        printer = self._watch_printer()
        station = self.office.station.view(with_waiting=True)
        # What the station said before it asked for a book is known before the book goes in.
        if not self._fetch():
            station = None
        self._operate(next_act(printer, station, inked=self._inked(station)))
        if station is None:
            return
        self._accept_printer(station)
        for job in list(self._to_look_at):
            self._look_at(job, held=printer.book)
        self._send()

    def _watch_printer(self) -> PrinterState:
        printer = self.office.hand.state()
        now = self._clock.monotonic()
        if printer.place == "ejected":
            ejected_at = (self._watched_at + now) / 2
            self._replied.setdefault(str(printer.book), ejected_at - self.office.reply_to_ejected_s)
        self._watched_at = now
        return printer

    def _agent_is_cut(self) -> bool:
        cut = self._cut
        return cut is not None and cut.struck and cut.kind.ends_agent and cut.returned_at is None

    # Receipts

    def _fetch(self) -> bool:
        asked_at = self._clock.monotonic()
        try:
            receipts = self.office.client.receipts(len(self._receipts))
        except CallFailed:
            return False
        now = intents_until = self._clock.monotonic()
        cut = self._cut
        if cut is not None and cut.returned_at is not None and cut.ready_s is None:
            cut.ready_s = now - cut.returned_at
            if cut.kind.ends_agent:
                # What is new is of the killed process; the next one has committed nothing yet.
                intents_until = cut.struck_at
        self._watch_printer()  # a reply comes before the receipt that tells of it
        for receipt in receipts:
            committed = claims_unverified(receipt)["event"] == "print-committed"
            self._take(receipt, since=self._asked_at, until=intents_until if committed else now)
        self._asked_at = asked_at
        return True

    def _take(self, receipt: str, *, since: float, until: float) -> None:
        """A receipt that became durable between two moments."""
        self._receipts.append(receipt)
        seq = len(self._receipts)
        claims = claims_unverified(receipt)
        event, job, book = claims["event"], claims.get("job"), claims.get("book")
        self._tell(
            " ".join(str(claims[name]) for name in ("event", "job", "book") if name in claims)
        )
        books = {} if book is None else {book: self.office.look(book)}
        self.judge.signed(seq, receipt, books, since if event == "print-committed" else until)
        self.judge.received(seq, receipt)
        if claims.get("state") in ENDED:
            self._ended.add(job)
        middle = (since + until) / 2
        if event == "print-committed":
            self._committed(job, middle)
        elif event in ("print-in-doubt", "print-failed"):
            self._doubted(job)
        elif event == "job-set-aside":
            self._to_look_at[job] = None
        elif event in ("print-completed", "job-requeued", "book-spoiled"):
            self._concluded(claims, middle)

    def _committed(self, job: str, at: float) -> None:
        self._open[job] = at
        cut = self._cut
        if cut is not None and cut.returned_at is not None and at > cut.returned_at:
            cut.book_s = cut.book_s or at - cut.returned_at

    def _doubted(self, job: str) -> None:
        self._to_look_at.setdefault(job, None)
        cut = self._cut
        if self._calm:
            self.judge.complain(f"P4: {job} came in doubt, and nothing had been cut")
        elif cut is not None and not cut.in_doubt:
            cut.in_doubt = job
            if job not in self._open:
                cut.moment = Moment.LOADING

    def _concluded(self, claims: dict[str, Any], at: float) -> None:
        job, event = claims["job"], claims["event"]
        by_person = claims["actor"] != "agent"
        cut = self._cut
        begun = self._open.pop(job, None)
        replied = self._replied.get(claims["book"])
        if cut is not None and begun is not None and begun <= cut.struck_at < math.inf:
            cut.moment = self._moment(cut, self.office.look(claims["book"]), replied)
        if cut is not None and cut.in_doubt == job:
            cut.by_person |= by_person
        if event != "print-completed" or by_person:
            return
        self._books_done += 1
        if self._calm and self._last_done and begun is not None:
            self._undisturbed.append((claims["book"], begun, at - self._last_done))
        self._last_done = at

    def _moment(self, cut: Cut, book: Book, replied: float | None) -> Moment:
        """Where the attempt on a book stood: its ink tells it, also where no reply ever came."""
        if not book.passes or cut.struck_at < book.passes[0].started_at:
            return Moment.INTENT
        if replied is None:
            # Without power, between the last row and the end of the ejection nobody saw the reply fall due.
            done = bool(self.office.pages.whole(book)) and self.office.reply_to_ejected_s > 0
        else:
            done = cut.struck_at >= replied
        return Moment.REPLY if done else Moment.INK

    # People

    def _inked(self, station: StationView | None) -> frozenset[str]:
        wanted = station.job["book"] if station is not None and station.job is not None else None
        inked = wanted is not None and self.office.look(wanted).inked()
        return frozenset({wanted}) if inked else frozenset()

    def _operate(self, act: Act | None) -> None:
        """Does what was decided a hand's time ago, if it is still wanted."""
        now = self._clock.monotonic()
        if act is None or self._planned is None or self._planned[0] != act:
            self._planned = None if act is None else (act, now + HAND_S)
            return
        if now < self._planned[1]:
            return
        self._planned = None
        with contextlib.suppress(RequestRefused, CallFailed):
            match act.kind:
                case ActKind.INSERT:
                    self.office.hand.insert(act.number)
                case ActKind.REMOVE:
                    self.office.hand.remove()
                case ActKind.PRESENT:
                    self.office.station.present(act.number)
                case ActKind.REFUSE:
                    self.judge.complain(f"P4: book {act.number} is wanted as a blank, and has ink")

    def _accept_printer(self, station: StationView) -> None:
        if not {*station.printer["reasons"]} & {*STOPS}:
            return
        self._tell("the technician accepts the printer")
        self.result.accepted_printers += 1
        with contextlib.suppress(CallFailed):
            self.office.client.post(f"/v1/printers/{PRINTER}/accept", {"reason": "looked at it"})

    def _look_at(self, job_id: str, *, held: str | None) -> None:
        """A person looks at a job that waits for one, and says what its book is by the ink alone."""
        with contextlib.suppress(CallFailed):
            job = self.office.client.get(f"/v1/jobs/{job_id}")
            reasons = job["reasons"]
            if Reason.JOB_SET_ASIDE in reasons:
                self.office.client.post(f"/v1/jobs/{job_id}/replay", {"reason": "looked at it"})
            if job["state"] != JobState.PROCESSING_STOPPED:
                del self._to_look_at[job_id]
                return
            if Reason.PRINTER_NOT_CLEAR in reasons or held == job["book"]:
                return
            now = self._clock.monotonic()
            since = self._to_look_at[job_id] = self._to_look_at[job_id] or now
            if now - since >= LOOK_S:
                self._resolve(job_id, job["book"])

    def _resolve(self, job: str, number: str) -> None:
        book = self.office.look(number)
        entry = self._jobs[job].index(number)
        outcome = seen(book, whole=self.office.pages.whole(book) == [(job, entry)])
        self._tell(f"the technician looks at book {number} of {job}: {outcome}")
        self.office.client.post(
            f"/v1/jobs/{job}/resolve", {"outcome": outcome.value, "book": number}
        )

    # The authority

    def _send(self) -> None:
        """Keeps some jobs waiting; a lost answer makes it send again. Every other message goes by the inbox."""
        if self._orders and len(self._jobs) - len(self._ended) < WAITING_JOBS:
            job, books, message = self.office.order(len(self._jobs) + 1)
            self._jobs[job] = books
            self._unsent[job] = message
            self.judge.issued(job, books)
        for job, message in list(self._unsent.items()):
            if self._delivered(job, message):
                self.judge.told(job)
                del self._unsent[job]
        if self._books_done >= self._acknowledged + ACKNOWLEDGED_BOOKS:
            self._acknowledged = self._books_done
            self._acknowledge()

    def _delivered(self, job: str, message: str) -> bool:
        if int(job[1:]) % 2:
            return self._posted(message)
        name = f"{job}.jws"
        if (self.office.inbox / "accepted" / name).exists():
            return True
        if not (self.office.inbox / name).exists():
            draft = self.office.folder / name
            draft.write_text(message, encoding="ascii")
            draft.rename(self.office.inbox / name)
        return False

    def _posted(self, message: str) -> bool:
        try:
            status, body = self.office.client.call(
                "POST", "/v1/messages", message.encode(), kind="application/jose"
            )
        except CallFailed:
            return False
        if status not in (200, 201):
            self.judge.complain(f"P1: a message was answered {status} {body.decode()}")
        return True

    def _acknowledge(self) -> None:
        """The station may now erase the documents of ended jobs."""
        now = self._clock.now()
        message = self.office.authority.direct(
            STATION,
            Action.ACKNOWLEDGE,
            exp=now + DAY_S,
            now=now,
            through=self.judge.head_seq,
            head=self.judge.head_hash,
        )
        self._posted(message)

    # The end

    def _end(self) -> None:
        """No more cuts: everything comes to rest, and everything is looked at."""
        self._orders = False
        self._until(self._at_rest, "every job has ended")
        shown = {job["id"]: job["state"] for job in self.office.client.get("/v1/jobs")}
        code = self.office.stop_agent()
        if code:
            self.judge.complain(f"the agent, told to stop, ended with code {code}")
        audit = self.office.authority.verify(STATION, self._receipts)
        for fault in audit.faults:
            self.judge.complain(f"P6: the authority finds: {fault}")
        report = verify_journal(
            self.office.state / "journal.db", station_id=STATION, authority_id=AUTHORITY
        )
        for text in report.faults:
            self.judge.complain(f"P6: {text}")
        books = {
            number: self.office.look(number) for names in self._jobs.values() for number in names
        }
        self.judge.close(books, shown, set(), self._disturbed_at)
        for number, begun, cycle_s in self._undisturbed:
            if number not in self._replied:
                continue  # the last one of the day
            replied, inked = self._replied[number], books[number].passes[0].started_at
            self.result.cycles.append(
                Cycle(self.office.printer, cycle_s, replied - begun, replied - inked)
            )

    def _at_rest(self) -> bool:
        return not self._unsent and not self._to_look_at and len(self._ended) == len(self._jobs)
