"""The agent broken on purpose, in the ways that its promises hang on: the judge must notice each (DESIGN, "How it is proven")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import apsw

from agent.drivers.book_printer import BookPrinter, CounterReading
from agent.errors import BookInTheWay
from agent.loading import Loading
from agent.queue import attempts, journal, recovery, start
from agent.queue.journal import Journal, Transaction
from agent.reconcile import Reconciliation
from agent.watch import Watch
from tests.simulation import disk
from tests.simulation import run as simulated
from tests.simulation.plan import Mishap

Patches = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One way to break it.

    Attributes:
        name: What is wrong.
        apply: Patches the production code.
        only: The mishaps among which it shows soonest.
        office: The office in which it does.
        at: Where a single mishap shows it: the beginning of a point's place.
    """

    name: str
    apply: Patches
    only: Sequence[Mishap] = ()
    office: dict[str, Any] = field(default_factory=dict)
    at: str = ""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The agent is broken within."""
        with ExitStack() as stack:
            self.apply(stack)
            yield


def _intent_after_commit(stack: ExitStack) -> None:
    await_book, commit = Loading._await_book, BookPrinter.commit

    def book_and_commit(self: Loading, attempt: Any) -> None:
        await_book(self, attempt)
        commit(self.session, int(self.worker.journal.read().station("process_id", 0)) + 1)

    stack.enter_context(patch.object(Loading, "_await_book", book_and_commit))
    stack.enter_context(patch.object(BookPrinter, "commit", lambda self, process_id: None))


def _synchronous_off(stack: ExitStack) -> None:
    opened = journal.open_connection

    def careless(*args: Any, **options: Any) -> apsw.Connection:
        connection = opened(*args, **options)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    stack.enter_context(patch.object(journal, "open_connection", careless))


def _receipt_in_second_transaction(stack: ExitStack) -> None:
    receipt, write_many = Transaction.receipt, Journal.write_many
    late: list[tuple[str, dict[str, Any]]] = []

    def postpone(self: Transaction, event: str, **about: Any) -> int:
        late.append((event, about))
        self.note(event, job=about.get("job"))
        return self._journal.head.seq + len(late)

    def write_twice(self: Journal, operations: Sequence[Any]) -> list[Any]:
        late.clear()
        results = write_many(self, operations)
        owed = list(late)
        if owed:

            def sign(tx: Transaction) -> None:
                for event, about in owed:
                    receipt(tx, event, **about)

            write_many(self, [sign])
        return results

    stack.enter_context(patch.object(Transaction, "receipt", postpone))
    stack.enter_context(patch.object(Journal, "write_many", write_twice))


def _process_ids_start_again(stack: ExitStack) -> None:
    begin = start.begin

    def forgetful(tx: Transaction, **about: Any) -> start.Start:
        tx.put("station", "process_id", value=0)
        return begin(tx, **about)

    stack.enter_context(patch.object(start, "begin", forgetful))


def _evidence_before_clear(stack: ExitStack) -> None:
    clear = Reconciliation._clear_and_identify

    def read_first(self: Reconciliation) -> Any:
        reading = self.session.read_counter()
        self.session.read_counter = lambda: reading  # type: ignore[method-assign] # the mutation itself
        return clear(self)

    stack.enter_context(patch.object(Reconciliation, "_clear_and_identify", read_first))


def _cleared_while_printing(stack: ExitStack) -> None:
    stack.enter_context(
        patch.object(Reconciliation, "_await_completion", lambda self, unfinished: None)
    )


def _reply_without_memory(stack: ExitStack) -> None:
    stack.enter_context(patch.object(recovery, "_memory_kept", lambda evidence: True))


def _reply_after_the_reading(stack: ExitStack) -> None:
    count = Watch.count

    def believe(self: Watch, reading: CounterReading | None) -> None:
        count(self, reading)
        self.counter_after_reply = reading is not None

    stack.enter_context(patch.object(Watch, "count", believe))


def _loaded_with_book_in(stack: ExitStack) -> None:
    stack.enter_context(
        patch.object(
            Loading, "_read_counter_without_book", lambda self: self.session.read_counter()
        )
    )
    stack.enter_context(patch.object(BookPrinter, "_refuse_book", lambda self: None))


def _broken_load_taken(stack: ExitStack) -> None:
    load = BookPrinter.load

    def hopeful(self: BookPrinter, page: bytes, **about: Any) -> bool:
        with suppress(BookInTheWay):
            load(self, page, **about)
        return True

    stack.enter_context(patch.object(BookPrinter, "load", hopeful))


def _resolved_before_clear(stack: ExitStack) -> None:
    latest = attempts.latest

    def as_if_clear(*args: Any) -> Any:
        attempt = latest(*args)
        return None if attempt is None else replace(attempt, clear=1)

    stack.enter_context(patch.object(attempts, "latest", as_if_clear))


def _failed_sync_retried(stack: ExitStack) -> None:
    sync = disk._File.xSync

    def again(self: Any, flags: int) -> None:
        try:
            sync(self, flags)
        except apsw.IOError:
            sync(self, flags)

    stack.enter_context(patch.object(disk._File, "xSync", again))


def _late_evidence_not_awaited(stack: ExitStack) -> None:
    def give_up(self: Reconciliation, undecided: list[Watch]) -> None:
        for watch in undecided:
            self._stand(watch)

    stack.enter_context(patch.object(Reconciliation, "_await_late_evidence", give_up))


def _held_replies_thrown_away(stack: ExitStack) -> None:
    keep_pending = BookPrinter.keep_pending

    def forget(self: BookPrinter) -> None:
        keep_pending(self)
        self.log.clear()

    stack.enter_context(patch.object(BookPrinter, "keep_pending", forget))


def _pc_restart_forgotten(stack: ExitStack) -> None:
    stack.enter_context(patch.object(attempts, "cut_off", lambda tx, attempt: attempt))


def _restored_unnoticed(stack: ExitStack) -> None:
    def only_tell(tx: Transaction) -> None:
        tx.receipt("journal-rolled-back", actor="agent")

    stack.enter_context(patch.object(simulated, "roll_back", only_tell))


_KILLS = (Mishap.AGENT, Mishap.OFFICE)
MUTATIONS = (
    Mutation("the intent after the commit", _intent_after_commit, _KILLS, at="commit on the line"),
    Mutation("synchronous=OFF", _synchronous_off, (Mishap.PC, Mishap.OFFICE)),
    Mutation("the receipt in a second transaction", _receipt_in_second_transaction, _KILLS),
    Mutation("process IDs that start again", _process_ids_start_again, _KILLS),
    Mutation(
        "evidence read before the buffers are clear",
        _evidence_before_clear,
        (Mishap.AGENT, Mishap.LINE_STALLS, Mishap.COVER),
        {"profile": "page-slip", "buffer_bytes": 4096, "holds_replies": True},
    ),
    Mutation(
        "buffers cleared while a page still prints",
        _cleared_while_printing,
        (Mishap.AGENT,),
        at="the printer",
    ),
    Mutation(
        "a reply believed without proof of memory",
        _reply_without_memory,
        (Mishap.PRINTER,),
        {"profile": "column-slip"},
        at="write to the line",
    ),
    Mutation(
        "a counter believed that was read before the reply",
        _reply_after_the_reading,
        (Mishap.REPLY_LATE,),
        {"profile": "page-slip", "counter_kept": "lost"},
        at="the printer",
    ),
    Mutation(
        "a page loaded with a book in",
        _loaded_with_book_in,
        (Mishap.OFFICE, Mishap.PRINTER, Mishap.EARLY, Mishap.BOTH),
    ),
    Mutation(
        "a broken load taken as loaded",
        _broken_load_taken,
        (Mishap.EARLY, Mishap.AGENT),
        {"profile": "column-slip", "book_check": False},
        at="write to the line",
    ),
    Mutation(
        "a doubt resolved before the printer is clear",
        _resolved_before_clear,
        (Mishap.COVER,),
        {"hostile": True, "book_check": False, "profile": "column-slip"},
        at="commit on the line",
    ),
    Mutation(
        "a failed sync retried", _failed_sync_retried, (Mishap.DISK_SYNC, Mishap.PC, Mishap.OFFICE)
    ),
    Mutation("a restored journal that prints at once", _restored_unnoticed, (Mishap.RESTORE,)),
    # These three only doubt more than CONTRACT 4.1 lets them.
    Mutation(
        "a held reply thrown away", _held_replies_thrown_away, (Mishap.AGENT,), at="the printer"
    ),
    Mutation(
        "a doubt left to stand while the book is in",
        _late_evidence_not_awaited,
        (Mishap.AGENT,),
        {"counter_kept": "unknown"},
        at="commit on the line",
    ),
    Mutation(
        "a load that the PC's own end cut off judged like one that went on",
        _pc_restart_forgotten,
        (Mishap.PC,),
        at="write to the line",
    ),
)
