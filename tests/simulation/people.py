"""Who handles the books: an operator who does what the station shows, and technicians, honest or not."""

from __future__ import annotations

from agent.drivers.virtual.model import Book, BookPlace
from agent.live import PrinterReason, Situation
from agent.queue import acts
from agent.queue.jobs import Job
from agent.queue.states import PAGE_IN_PRINTER, STOPPED, Phase
from tests.simulation.desk import Desk
from tests.simulation.judge import pages_on
from tests.simulation.life import Life
from tests.simulation.world import World

GLANCE_S = 0.4
PATIENCE_S = 60.0  # before a technician switches a printer off that does not come back
HOSTILE_AFTER_S = 15.0
TECHNICIAN = "technician:sri"


def seen(book: Book, *, whole: bool) -> acts.Outcome:
    """What an honest technician says of a book in doubt: by the ink alone.

    Args:
        book: The book in the hand.
        whole: Whether it bears the job's whole page.
    """
    if not book.inked():
        return acts.Outcome.BLANK
    return acts.Outcome.PRINTED if whole else acts.Outcome.SPOILED


class People:
    """Everybody at the desk; they act between the steps of the machine.

    Args:
        world: Time.
        desk: Printer and books.
    """

    def __init__(self, world: World, desk: Desk) -> None:
        self.world = world
        self.desk = desk
        self.life: Life | None = None
        self.restored = (
            False  # since an earlier journal was put in place everybody looks at a book first
        )
        self._away_since: float | None = None
        world.later(1.0, self._operator)
        world.later(1.5, self._technician)

    # The operator

    def _operator(self) -> None:
        self.world.later(GLANCE_S * self.world.people.uniform(0.5, 2.0), self._operator)
        printer = self.desk.printer
        view = None if self.life is None else self.life.view
        if printer.cover_is_open and self.world.people.random() < 0.15:
            printer.close_cover(self.world.now)
        if printer.jammed and self.world.people.random() < 0.15:
            printer.clear_jam(self.world.now)
        if printer.book is not None:
            asked = view is not None and PrinterReason.BOOK_REMOVAL_WANTED in view.reasons
            if asked or printer.place is BookPlace.EJECTED or self.world.people.random() < 0.01:
                self.desk.take_out()
            return
        if view is None or self.life is None:
            return
        if PrinterReason.MEDIA_NEEDED in view.reasons and view.job is not None:
            job = self.life.job(view.job)
            if job is not None and self._fit(job):
                self.desk.insert(job.book)
        elif view.presented is None and view.situation is Situation.READY:
            self._scan_next()

    def _scan_next(self) -> None:
        assert self.life is not None
        waiting = [job for job in self.life.jobs() if job.phase is Phase.WAITING and self._fit(job)]
        if waiting and (self.life.office.book_check or self._must_scan(waiting[0])):
            self.life.present(self.world.people.choice(waiting).book)

    def _fit(self, job: Job) -> bool:
        return not self.restored or not self.desk.book(job.book).inked()

    def _must_scan(self, job: Job) -> bool:
        assert self.life is not None
        through = self.life.commits.read().station("presented_only_through", 0)
        return job.number <= int(through)

    # Technicians

    def _technician(self) -> None:
        self.world.later(self.world.people.uniform(1.0, 4.0), self._technician)
        if self.life is None:
            return
        if self.life.office.hostile and self._still_hostile():
            self._act_at_random()
        else:
            self._act_honestly()

    def _still_hostile(self) -> bool:
        """In the end everybody wants to go home."""
        waited = self.world.now - self.world.last_fault_at
        return self.world.faults_left > 0 or waited < HOSTILE_AFTER_S

    def _act_honestly(self) -> None:
        life = self.life
        assert life is not None
        view = life.view
        if view.reasons and view.reasons[0] in (
            PrinterReason.PRINTER_CHANGED,
            PrinterReason.USED_ELSEWHERE,
        ):
            life.accept_printer()
        self._give_up_waiting(life)
        for job in life.jobs():
            if job.phase in STOPPED or job.phase is Phase.VERIFY_WANTED:
                self._resolve(life, job)
            elif job.phase is Phase.SET_ASIDE:
                life.act(lambda tx, job=job: acts.replay(tx, job.id, actor=TECHNICIAN, reason=None))
            elif job.hold_technician and not job.hold_authority:
                life.act(
                    lambda tx, job=job: acts.release(tx, job.id, actor=TECHNICIAN, reason=None)
                )
            elif (
                job.phase
                in ((Phase.WAITING, *PAGE_IN_PRINTER) if self.restored else (Phase.WAITING,))
                and self.desk.book(job.book).inked()
                and self.desk.printer.book is not self.desk.book(job.book)
            ):
                # A blank that is no blank: no one puts it in.
                life.resolve(job, acts.Outcome.SPOILED, job.book, actor=TECHNICIAN)

    def _give_up_waiting(self, life: Life) -> None:
        """A printer that stays away is switched off, and said to be."""
        if life.view.situation is not Situation.AWAY:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = self.world.now
        elif self.world.now - self._away_since > PATIENCE_S:
            self._away_since = None
            self.desk.power_off()
            life.accept_printer()
            self.world.later(5.0, self.desk.power_on)

    def _resolve(self, life: Life, job: Job) -> None:
        number = life.attempted_book(job)
        printer = self.desk.printer
        if printer.book is not None and printer.book.number == number:
            return  # it must be in the hand
        if job.phase is Phase.VERIFY_WANTED:
            matches = self._looks_printed(job, number)
            life.act(lambda tx: acts.verify(tx, job.id, matches=matches, actor=TECHNICIAN))
            return
        outcome = seen(self.desk.book(number), whole=self._looks_printed(job, number))
        refused = life.resolve(job, outcome, number, actor=TECHNICIAN)
        if refused is not None and self.world.now - self.world.last_fault_at > PATIENCE_S:
            # "Wait until the printer is back, or switch it off and say so": its printer is gone for good.
            life.accept_printer()
        if refused is None:
            self.world.tell(f"the technician resolves {job.id}: book {number} is {outcome}")

    def _looks_printed(self, job: Job, number: str) -> bool:
        return pages_on(self.desk.book(number)) == [(job.id, job.entry)]

    def _act_at_random(self) -> None:
        life, people = self.life, self.world.people
        assert life is not None
        known = life.jobs()
        if not known:
            return
        job = people.choice(known)
        match people.randrange(8):
            case 0:
                life.act(lambda tx: acts.cancel(tx, job.id, actor=TECHNICIAN, reason=None))
            case 1:
                life.act(lambda tx: acts.replay(tx, job.id, actor=TECHNICIAN, reason=None))
            case 2:
                life.act(lambda tx: acts.hold(tx, job.id, actor=TECHNICIAN, reason=None))
            case 3:
                life.accept_printer()
            case 4:
                life.act(
                    lambda tx: acts.verify(
                        tx, job.id, matches=people.random() < 0.5, actor=TECHNICIAN
                    )
                )
            case _:
                outcome = people.choice(list(acts.Outcome))
                book = people.choice((job.book, life.attempted_book(job)))
                life.resolve(job, outcome, book, actor=TECHNICIAN)
