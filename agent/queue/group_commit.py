"""The one thread that writes the journal: operations that arrive together share a durable commit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import apsw

from agent.errors import DiskFull
from agent.queue.journal import CHECKPOINT_PAGES, Journal, Operation, Reader

BATCH_MAX = 256  # operations after which a commit waits for no more
IDLE_CHECKPOINT_S = 2.0  # a checkpoint waits for a moment in which nobody waits, nor checks the next part of a batch
IDLE_STEP_S = 10.0  # how often the thread shows that it lives while nothing is written

T = TypeVar("T")
_Task = tuple[Operation[Any], Future[Any], bool]


class GroupCommit:
    """Serializes writes of many threads into few commits.

    Args:
        journal: The journal; nobody else writes to it while this runs.
        failed: Told of an error after which the process must end (a failed sync is never retried).
        make_room: Frees reserved space; called once when the disk is full and the operation may not wait.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        failed: Callable[[BaseException], None],
        make_room: Callable[[], bool] | None = None,
    ) -> None:
        self.journal = journal
        self._failed = failed
        self._make_room = make_room
        self._tasks: queue.SimpleQueue[list[_Task] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._broken: BaseException | None = None
        self.progress = 0  # the steps of the thread, also of one that only waits

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def write(self, operation: Operation[T]) -> T:
        """Runs an operation that must not fail for want of space: reserved room is used for it.

        Raises:
            DiskFull: There was no room even so.
        """
        return self._submit([operation], reserved=True)[0].result()

    def submit(self, operation: Operation[T]) -> Future[T]:
        """Queues an operation of intake; on a full disk its future fails with ``DiskFull``."""
        return self.submit_many([operation])[0]

    def submit_many(self, operations: Sequence[Operation[T]]) -> list[Future[T]]:
        """Queues operations that share one commit, as ``submit`` queues one."""
        return self._submit(operations, reserved=False)

    def _submit(self, operations: Sequence[Operation[T]], *, reserved: bool) -> list[Future[T]]:
        tasks = [(operation, Future[T](), reserved) for operation in operations]
        if self._broken is None:
            self._tasks.put(tasks)
        else:
            for _, done, _ in tasks:
                done.set_exception(self._broken)
        return [done for _, done, _ in tasks]

    def read(self) -> Reader:
        """A reader for this thread."""
        return self.journal.read()

    def clock_trusted(self) -> bool:
        """Whether the clock may be believed now."""
        return self.journal.clock_trusted()

    def clock_doubt(self) -> str | None:
        """Why the clock may not be believed now, for a person; None where nothing is against it."""
        return self.journal.clock_doubt()

    def time_for_expiry(self) -> int:
        """The clock, or the known time while the clock is not trusted."""
        return self.journal.time_for_expiry()

    def stop(self) -> None:
        """Ends the thread after what was queued before."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        written = 1  # the start wrote, before this thread was there
        while True:
            self.progress += 1
            try:
                tasks = self._tasks.get(timeout=IDLE_CHECKPOINT_S if written else IDLE_STEP_S)
            except queue.Empty:
                written = self._left_after_checkpoint() if written else 0
                continue
            batch, stop = self._gather(tasks)
            if batch:
                written += len(batch)
                try:
                    self._commit(batch)
                except BaseException as error:  # noqa: BLE001 - whatever it is, nobody may go on with this journal
                    self._break(error, batch)
                    return
            if stop or (written > CHECKPOINT_PAGES and self._tasks.empty()):
                written = self._left_after_checkpoint()
            if stop:
                return

    def _gather(self, tasks: list[_Task] | None) -> tuple[list[_Task], bool]:
        batch: list[_Task] = []
        while tasks is not None:
            batch += tasks
            if len(batch) >= BATCH_MAX:
                return batch, False
            try:
                tasks = self._tasks.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[_Task]) -> None:
        results = self.journal.write_many([operation for operation, _, _ in batch])
        if all(isinstance(result, DiskFull) for result in results):
            results = self._commit_in_need(batch, results)
        for (_, done, _), result in zip(batch, results, strict=True):
            if isinstance(result, BaseException):
                done.set_exception(result)
            else:
                done.set_result(result)

    def _commit_in_need(self, batch: list[_Task], results: list[Any]) -> list[Any]:
        """The disk is full: what a running job needs is written with the reserve, new work is refused."""
        reserved = [index for index, (_, _, needed) in enumerate(batch) if needed]
        if reserved and self._make_room is not None and self._make_room():
            for index, result in zip(
                reserved,
                self.journal.write_many([batch[index][0] for index in reserved]),
                strict=True,
            ):
                results[index] = result
        return results

    def _left_after_checkpoint(self) -> int:
        """Checkpoints; gives 0, or 1 where it must be tried again."""
        try:
            return 0 if self.journal.checkpoint() else 1
        except apsw.Error as error:
            self._failed(error)
            return 0

    def _break(self, error: BaseException, batch: list[_Task]) -> None:
        self._broken = error
        for _, done, _ in batch:
            done.set_exception(error)
        while not self._tasks.empty():
            for _, done, _ in self._tasks.get_nowait() or ():
                done.set_exception(error)
        self._failed(error)


__all__ = ["BATCH_MAX", "GroupCommit"]
