"""The working side of a run: one process, one run folder, from `started` to exactly one end.

The worker itself is a plain function. This file gives it what every kind of work needs: events, a heartbeat, a way to
be asked to stop, and room for its last words when the disk is full.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from evaluation.disk import DiskRefused, told_to_people
from evaluation.errors import UserFacingError
from evaluation.journal import RunFolder, RunInfo, last_event
from evaluation.records import EventName
from playground.jobs.control import announce, forget_last_process, read_request
from playground.jobs.process import identify, write_process

HEARTBEAT_S = 10.0  # of silence; any other event is a sign of life too
LOOK_S = 1.0  # how often cancel.json is looked for
BALLAST_FILE = "ballast"
_BALLAST_BYTES = 1 << 16  # given back to a full disk, so that the last event finds room
_LONGEST_REASON = 1000  # characters

Say = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Assignment:
    """What a worker is given. `resume` says that an earlier process began this run."""

    path: Path
    home: Path
    info: RunInfo
    folder: RunFolder  # open for writing, with the run's lock
    command: str
    resume: bool
    report: Callable[[str, dict[str, Any]], None]  # event name, its data
    should_stop: Callable[[], bool]  # cheap: ask it after every step


@dataclass(frozen=True)
class Outcome:
    """What a worker did. `stopped`: it was asked to stop, saved, and could go on from there."""

    data: Mapping[str, Any] = field(default_factory=dict)
    stopped: bool = False
    step: int = 0


@dataclass(frozen=True)
class Ending:
    """The end that was written. `data` is the last event's."""

    status: Literal["finished", "cancelled"]
    data: Mapping[str, Any]


Worker = Callable[[Assignment], Outcome]


def work(folder: RunFolder, worker: Worker, home: Path, command: str, say: Say = lambda name, data: None) -> Ending:
    """Do the run in this process and write how it ended. What the worker raises is recorded as `failed` and raised.

    The first SIGINT or SIGTERM asks the worker to stop, a second SIGINT interrupts it. `say` is told every event.
    """
    path = folder.path
    last = last_event(path / "events.jsonl")
    if last is None or last.event != "queued":
        forget_last_process(path)  # what was asked of an earlier process; a queued run may be cancelled already
    resume = last_event(path / "events.jsonl", ("started",)) is not None
    process = identify(os.getpid())
    assert process is not None
    write_process(path, process)
    make_ballast(path)
    announce(path.parent)
    run = _AtWork(folder, say)
    try:
        with run.listening():
            run.look()
            if run.should_stop():
                return run.end("cancelled", {"reason": run.reason, "step": 0})
            run.report("started", {"command": command, "resume": resume})
            with run.beating():
                outcome = worker(
                    Assignment(path, home, folder.info, folder, command, resume, run.report, run.should_stop)
                )
            if outcome.stopped:
                return run.end("cancelled", {**outcome.data, "reason": run.reason, "step": outcome.step})
            return run.end("finished", outcome.data)
    except KeyboardInterrupt:
        folder.reopen()  # it may have come between a line and our note of it
        run.last_words("cancelled", "interrupted before it could save")
        raise
    except Exception as error:
        run.last_words("failed", _reason(error, path))
        raise
    finally:
        (path / BALLAST_FILE).unlink(missing_ok=True)
        announce(path.parent)


class _AtWork:
    """The run while its worker is at it. Events come from the worker's thread and from the heartbeat's."""

    def __init__(self, folder: RunFolder, say: Say) -> None:
        self._folder = folder
        self._say = say
        self._last_event = time.monotonic()
        self._done = threading.Event()
        self._interrupted = False
        self._refused: DiskRefused | None = None  # told to the heartbeat, whom nobody hears
        self.reason = ""  # why it is to stop; empty while it is not

    def should_stop(self) -> bool:
        return bool(self.reason) or self._refused is not None

    def look(self) -> None:
        """See whether somebody has asked for a stop in the folder."""
        request = read_request(self._folder.path)
        if request is not None:
            self.reason = request.reason

    def report(self, name: str, data: Mapping[str, Any]) -> None:
        if self._refused is not None:
            raise self._refused
        self._folder.event(name, **data)  # type: ignore[arg-type]
        self._last_event = time.monotonic()
        self._say(name, data)

    def end(self, status: Literal["finished", "cancelled"], data: Mapping[str, Any]) -> Ending:
        self.report(status, data)
        return Ending(status, data)

    def last_words(self, name: EventName, reason: str) -> None:
        """Write the last event. Raises DiskRefused when the disk is so full that even the ballast does not help."""
        try:
            self._folder.event(name, reason=reason)
        except DiskRefused:
            (self._folder.path / BALLAST_FILE).unlink(missing_ok=True)
            self._folder.reopen()
            self._folder.event(name, reason=reason)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into a request to stop, where this is the thread that gets them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.look()
        self.reason = self.reason or f"asked to stop by {signal.Signals(number).name}"
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            os.write(2, b"Stopping after this step and saving; press Ctrl-C again to end at once.\n")

    @contextmanager
    def beating(self) -> Iterator[None]:
        thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _beat(self) -> None:
        while not self._done.wait(LOOK_S):
            self.look()
            if time.monotonic() - self._last_event > HEARTBEAT_S:
                try:
                    self._folder.event("heartbeat")
                except DiskRefused as error:
                    self._refused = error  # raised by the next event; until then the worker is asked to stop
                    return
                self._last_event = time.monotonic()


def make_ballast(path: Path) -> None:
    """Put a small file into the run folder whose room is given back for the last event. Raises DiskRefused."""
    file = path / BALLAST_FILE
    with told_to_people(file):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, bytes(_BALLAST_BYTES))
        finally:
            os.close(descriptor)


def _reason(error: Exception, path: Path) -> str:
    words = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
    if isinstance(error, DiskRefused):
        return words
    if shutil.disk_usage(path).free < _BALLAST_BYTES or getattr(error, "errno", None) == errno.ENOSPC:
        return f"The disk of {path} is full ({words}). Free some space there, then resume the run."
    if isinstance(error, UserFacingError):
        return words
    return f"{type(error).__name__}: {words}"
