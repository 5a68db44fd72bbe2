"""The inbox: a folder whose files are messages (CONTRACT section 6, "Inbox").

A file is taken, made durable, and only then moved; a crash in between is harmless, because the
message is known when it is taken again. Whoever may write into the folder may try tricks: names are
looked up below open folders, links and special files are never followed, and what was moved is
compared with what was read.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from agent.clock import Clock, SystemClock
from agent.errors import ConfigurationInvalid, DiskFull, MessageRefused
from agent.intake import Answer
from agent.links.problems import PROBLEM_URN, problem_details, problem_name
from agent.links.refused_folder import RefusedFolder, free_name, open_folder
from agent.links.sequence import (
    MESSAGE_STREAM_MAX,
    SequenceReader,
    message_too_large,
    sequence_too_large,
)
from agent.model import BATCH_SIZE_MAX

if TYPE_CHECKING:
    from agent.station import Station

MESSAGE_ENDING = ".jws"
SEQUENCE_ENDING = ".jose-seq"
ACCEPTED_STATUS, KNOWN_STATUS, DISK_FULL_STATUS = 201, 200, 507
PIECE_SIZE = 64 * 1024
RESCAN_S = 10.0  # a look without being told, should a change be missed
ACCEPTED_DAYS = 30
CLEAR_S = 3_600.0  # between two looks for old files
RETRY_S = 5.0  # after a full disk
# What would be refused is looked at again after this: it may still be written (`cp`).
SETTLE_S = 1.0

_log = logging.getLogger(__name__)


class Look(enum.Enum):
    """When a file needs another look."""

    DONE = enum.auto()
    SOON = enum.auto()
    DISK_FULL = enum.auto()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was at a look: another size, time or inode is another file."""

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Seen:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(slots=True)
class _Outcome:
    """What became of a file's messages: ``problem`` is None where none was refused."""

    problem: Any = None
    empty: bool = False
    disk_full: bool = False


class Inbox:
    """Watches the folder and takes what has its final name.

    Args:
        station: Where messages go; told when the thread dies.
        directory: The folder; it and its accepted/ and refused/ are made where they are missing.
        clock: Time.
        accepted_days: How long the file of an accepted message is kept; the journal holds what it said.
    """

    def __init__(
        self,
        station: Station,
        directory: Path,
        *,
        clock: Clock | None = None,
        accepted_days: int = ACCEPTED_DAYS,
    ) -> None:
        self._station = station
        self._directory = directory
        self._clock = clock or SystemClock()
        self.refused_folder = RefusedFolder(directory)
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)
        self._observer: Any = None
        self._first_seen: dict[str, tuple[_Seen, float]] = {}
        # Lines that an earlier look at a file that stayed has accepted, by their hashes; and the file's inode.
        self._taken: dict[str, tuple[int, set[bytes]]] = {}
        self._accepted_s = accepted_days * 86_400
        self._clear_at = 0.0
        self.progress = 0  # looks at the folder and at files in it

    def start(self) -> None:
        """Makes the folders and begins to watch.

        Raises:
            ConfigurationInvalid: The folders cannot be made.
        """
        try:
            self._directory.mkdir(mode=0o770, parents=True, exist_ok=True)
            with (
                self._open_inbox() as inbox,
                open_folder("accepted", parent=inbox),
                open_folder("refused", parent=inbox),
            ):
                pass
        except OSError as error:
            raise ConfigurationInvalid(
                f"inbox.directory: {self._directory} cannot be used ({error.strerror});"
                " allowed: a folder that this user may write, accepted/ and refused/ no links"
            ) from error
        self._watch()
        self._thread.start()

    def _watch(self) -> None:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        changed = self._changed

        class Handler(FileSystemEventHandler):
            def on_created(self, event: FileSystemEvent) -> None:
                del event
                changed.set()

            on_moved = on_closed = on_created

        observer = Observer()
        observer.daemon = True
        try:
            observer.schedule(Handler(), str(self._directory), recursive=False)
            observer.start()
        except OSError as error:
            # No inotify watch is left: the slow look finds everything too.
            _log.warning("inbox-unwatched", extra={"sentence": error.strerror})
            return
        self._observer = observer

    def stop(self) -> None:
        """Ends after the file at hand."""
        self._stopping.set()
        self._changed.set()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._changed.clear()
                self.progress += 1
                wait_s = self.scan()
                if wait_s == RETRY_S:
                    # Nothing can be taken while the disk is full, whatever else comes.
                    self._stopping.wait(wait_s)
                else:
                    self._changed.wait(wait_s)
        except BaseException as error:  # noqa: BLE001 - a dead thread must end the process
            self._station.failed(error)

    def scan(self) -> float:
        """Takes every file that is there; gives the seconds after which to look again."""
        try:
            with self._open_inbox() as inbox:
                self._clear_accepted(inbox)
                return self._scan(inbox)
        except OSError as error:
            _log.warning("inbox-unreadable", extra={"sentence": error.strerror})
            return RESCAN_S

    def _clear_accepted(self, inbox: int) -> None:
        """Once an hour: files of accepted messages go when they are old enough."""
        now = self._clock.monotonic()
        if now < self._clear_at:
            return
        self._clear_at = now + CLEAR_S
        with open_folder("accepted", parent=inbox) as accepted:
            with os.scandir(accepted) as entries:
                # The change time tells when it came here: a rename keeps the time of writing.
                old = [
                    entry.name
                    for entry in entries
                    if entry.is_file(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_ctime
                    < self._clock.now() - self._accepted_s
                ]
            for name in old:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=accepted)

    @contextlib.contextmanager
    def _open_inbox(self) -> Iterator[int]:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _scan(self, inbox: int) -> float:
        with os.scandir(inbox) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.name.endswith((MESSAGE_ENDING, SEQUENCE_ENDING))
                and not entry.name.startswith(".")
                and entry.is_file(follow_symlinks=False)
            )
        for gone in (self._first_seen.keys() | self._taken.keys()) - set(names):
            self._forget(gone)
        wait_s = RESCAN_S
        for name in names:
            if self._stopping.is_set():
                break
            self.progress += 1
            match self._look_at(inbox, name):
                case Look.DISK_FULL:
                    return RETRY_S
                case Look.SOON:
                    wait_s = SETTLE_S
                case Look.DONE:
                    pass
        return wait_s

    def _look_at(self, inbox: int, name: str) -> Look:
        try:
            # A link is not followed, a pipe or device that came in between not waited for.
            descriptor = os.open(
                name,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY,
                dir_fd=inbox,
            )
        except OSError:
            return Look.DONE
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            # A second name of a file that lies elsewhere is a link too: it is not ours to move.
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                return Look.DONE
            try:
                return self._take_file(inbox, name, file, _Seen.of(status))
            except DiskFull:
                return Look.DISK_FULL
            except OSError as error:
                # Whatever was taken is durable; the file stays and is known at the next look.
                _log.warning("inbox-file-stuck", extra={"sentence": error.strerror})
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                return Look.DISK_FULL if full else Look.DONE

    def _take_file(self, inbox: int, name: str, file: Any, seen: _Seen) -> Look:
        settled = self._settled(name, seen)
        outcome = self._outcome(name, file, seen, settled=settled)
        if outcome.disk_full:
            return Look.DISK_FULL
        if not settled and (outcome.problem is not None or outcome.empty):
            return Look.SOON
        if _Seen.of(os.fstat(file.fileno())) != seen:
            return Look.SOON  # more was written meanwhile
        if outcome.problem is None:
            with open_folder("accepted", parent=inbox) as accepted:
                self._move(inbox, name, accepted, free_name(accepted, name), seen)
                os.fsync(accepted)
        else:
            with self.refused_folder.place(inbox, name, outcome.problem) as (refused, free):
                self._move(inbox, name, refused, free, seen)
        os.fsync(inbox)
        self._forget(name)
        return Look.DONE

    def _forget(self, name: str) -> None:
        self._first_seen.pop(name, None)
        self._taken.pop(name, None)

    def _settled(self, name: str, seen: _Seen) -> bool:
        """Whether the file has looked like this for a while."""
        now = self._clock.monotonic()
        before = self._first_seen.get(name)
        if before is None or before[0] != seen:
            self._first_seen[name] = (seen, now)
            return False
        return now - before[1] >= SETTLE_S

    def _move(self, inbox: int, name: str, folder: int, target: str, seen: _Seen) -> None:
        os.rename(name, target, src_dir_fd=inbox, dst_dir_fd=folder)
        moved = os.stat(target, dir_fd=folder, follow_symlinks=False)
        if (moved.st_dev, moved.st_ino) != (seen.device, seen.inode):
            # Another file got this name in the last moment, and was not read: it goes back.
            ending = MESSAGE_ENDING if name.endswith(MESSAGE_ENDING) else SEQUENCE_ENDING
            back = free_name(inbox, name)
            back = back if back.endswith(ending) else back + ending
            os.rename(target, back, src_dir_fd=folder, dst_dir_fd=inbox)
            self._changed.set()

    # What the file holds

    def _outcome(self, name: str, file: BinaryIO, seen: _Seen, *, settled: bool) -> _Outcome:
        try:
            if name.endswith(MESSAGE_ENDING):
                return self._take_message(file, seen, settled=settled)
            return self._take_sequence(name, file, seen, settled=settled)
        except MessageRefused as refused:
            if settled:
                self._station.refused(
                    Answer(refused.status, f"{PROBLEM_URN}{refused.name}", detail=refused.detail),
                    None,
                )
            return _Outcome(problem_details(refused.status, refused.name, refused.detail))

    def _take_message(self, file: BinaryIO, seen: _Seen, *, settled: bool) -> _Outcome:
        if seen.size > MESSAGE_STREAM_MAX:
            raise message_too_large()  # by its size alone: it is never read
        raw = b"".join(_pieces(file, MESSAGE_STREAM_MAX))
        answer = self._station.intake.take(raw)
        if answer.accepted:
            return _Outcome()
        if answer.status == DISK_FULL_STATUS:
            return _Outcome(disk_full=True)
        if settled:
            self._station.refused(answer, raw)
        return _Outcome(problem_details(answer.status, problem_name(answer.type), answer.detail))

    def _take_sequence(self, name: str, file: BinaryIO, seen: _Seen, *, settled: bool) -> _Outcome:
        if seen.size > BATCH_SIZE_MAX:
            raise sequence_too_large()
        under_way: deque[bytes] = deque()
        inode, taken = self._taken.get(name, (seen.inode, set()))
        if inode != seen.inode:
            taken = set()
        self._taken[name] = (seen.inode, taken)
        in_this_look: set[bytes] = set()
        rows: list[dict[str, Any]] = []
        outcome = _Outcome()
        refused = False
        for answer in self._station.intake.take_many(_lines(file, under_way)):
            line = under_way.popleft()
            digest = hashlib.sha256(line).digest()
            by_an_earlier_look = digest in taken - in_this_look
            in_this_look.add(digest)
            row = answer.row()
            if answer.status == KNOWN_STATUS and by_an_earlier_look:
                row["status"] = ACCEPTED_STATUS
            if row["status"] == ACCEPTED_STATUS:
                taken.add(digest)
            rows.append(row)
            if answer.status == DISK_FULL_STATUS:
                outcome.disk_full = True
            elif not answer.accepted:
                refused = True
                if settled:
                    # Of a line over the limit nothing is left that could be proven by its hash.
                    too_large = answer.type == f"{PROBLEM_URN}too-large"
                    self._station.refused(answer, None if too_large else line)
        outcome.problem = rows if refused else None
        outcome.empty = not rows
        return outcome


def _pieces(file: BinaryIO, size_max: int) -> Iterator[bytes]:
    """The file's bytes, up to a limit even while somebody makes it longer."""
    size = 0
    while size <= size_max and (piece := file.read(PIECE_SIZE)):
        size += len(piece)
        yield piece


def _lines(file: BinaryIO, under_way: deque[bytes]) -> Iterator[bytes]:
    """The sequence's lines; each is remembered until its answer came."""
    reader = SequenceReader()
    for piece in _pieces(file, BATCH_SIZE_MAX):
        for line in reader.feed(piece):
            under_way.append(line)
            yield line
    for line in reader.finish():
        under_way.append(line)
        yield line
