"""The inbox: a folder whose files are messages (CONTRACT section 6, "Inbox")."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigurationInvalid
from agent.intake import Answer
from agent.model import BATCH_LINES_MAX, BATCH_SIZE_MAX, MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from agent.station import Station

ENDINGS = (".jws", ".jose-seq")
REFUSED_FILES_MAX = 1_000
RESCAN_S = 5.0  # a look without being told, should a change be missed
WHITE_SPACE_MAX = 4096  # bytes around a message
_TOO_LARGE = Answer(
    413, "urn:print-agent:too-large", detail="the file is larger than the contract allows"
)


class Inbox:
    """Watches the folder and takes what has its final name.

    Args:
        station: Where messages go.
        directory: The folder; it and its accepted/ and refused/ are made where they are missing.
    """

    def __init__(self, station: Station, directory: Path) -> None:
        self._station = station
        self._directory = directory
        self._accepted = directory / "accepted"
        self._refused = directory / "refused"
        self._changed = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)
        self._observer: Any = None

    def start(self) -> None:
        """Makes the folders and begins to watch.

        Raises:
            ConfigurationInvalid: The folders cannot be made.
        """
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers import Observer

        try:
            for folder in (self._directory, self._accepted, self._refused):
                folder.mkdir(mode=0o770, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationInvalid(
                f"inbox.directory: {self._directory} cannot be made ({error.strerror}); allowed: a folder that this user may write"
            ) from error
        changed = self._changed

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                del event
                changed.set()

        self._observer = Observer()
        self._observer.schedule(Handler(), str(self._directory), recursive=False)
        self._observer.start()
        self._thread.start()

    def stop(self) -> None:
        """Ends after the file at hand."""
        self._stopping = True
        self._changed.set()
        self._observer.stop()
        self._observer.join()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._changed.clear()
                self.scan()
                self._changed.wait(RESCAN_S)
        except BaseException as error:  # noqa: BLE001 - a dead thread must end the process
            self._station.failed(error)

    def scan(self) -> None:
        """Takes every file that is there."""
        for name in sorted(os.listdir(self._directory)):
            if self._stopping:
                return
            if name.endswith(ENDINGS) and not name.startswith("."):
                self._take_file(self._directory / name)

    def _take_file(self, path: Path) -> None:
        try:
            # A link, a pipe or a device is left alone, and never waited for.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return
            if path.name.endswith(".jws"):
                limit = MESSAGE_SIZE_MAX + WHITE_SPACE_MAX
                answers = [self._take(file.read())] if status.st_size <= limit else [_TOO_LARGE]
                self._file_away(path, answers, problem=self._problem(answers[0]))
                return
            if status.st_size > BATCH_SIZE_MAX:
                self._file_away(path, [_TOO_LARGE], problem=self._problem(_TOO_LARGE))
                return
            lines = [line for line in file.read().split(b"\n") if line.strip()]
        if len(lines) > BATCH_LINES_MAX:
            self._file_away(path, [_TOO_LARGE], problem=self._problem(_TOO_LARGE))
            return
        answers = list(self._station.intake.take_many(lines))
        for answer, line in zip(answers, lines, strict=True):
            self._tell(answer, line)
        self._file_away(path, answers, problem=[answer.row() for answer in answers])

    def _take(self, raw: bytes) -> Answer:
        answer = self._station.intake.take(raw)
        self._tell(answer, raw)
        return answer

    def _tell(self, answer: Answer, raw: bytes) -> None:
        if not answer.accepted and answer.status != 507:
            self._station.refused(answer, raw)

    @staticmethod
    def _problem(answer: Answer) -> dict[str, Any]:
        return {
            "type": answer.type,
            "status": answer.status,
            "title": "Refused",
            "detail": answer.detail,
        }

    def _file_away(self, path: Path, answers: list[Answer], *, problem: Any) -> None:
        if any(answer.status == 507 for answer in answers):
            return  # it stays, and is tried again
        if all(answer.accepted for answer in answers):
            self._move(path, self._accepted)
            return
        target = self._move(path, self._refused)
        if target is not None:
            note = target.with_name(target.name + ".problem.json")
            note.write_text(json.dumps(problem) + "\n", encoding="utf-8")
        self._bound_refused()

    def _move(self, path: Path, folder: Path) -> Path | None:
        target, number = folder / path.name, 0
        while os.path.lexists(target) or os.path.lexists(
            target.with_name(target.name + ".problem.json")
        ):
            number += 1
            target = folder / f"{path.name}.{number}"
        try:
            path.rename(target)
        except FileNotFoundError:
            return None
        for changed in (folder, self._directory):
            descriptor = os.open(changed, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return target

    def _bound_refused(self) -> None:
        files = [
            entry for entry in os.scandir(self._refused) if entry.is_file(follow_symlinks=False)
        ]
        excess = len(files) - REFUSED_FILES_MAX
        if excess > 0:
            for entry in sorted(
                files, key=lambda found: found.stat(follow_symlinks=False).st_mtime_ns
            )[:excess]:
                Path(entry.path).unlink(missing_ok=True)
