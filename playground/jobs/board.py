"""What a supervisor remembers of the run folders: a cache that can be thrown away at any time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.disk import lock_held
from evaluation.journal import CANCEL_FILE, RunInfo, RunUnreadable, read_run
from playground.jobs.control import CHANGED_FILE
from playground.jobs.job import Job, read_job
from playground.jobs.leases import Holder

_SETTLED_NS = 1_000_000_000  # file systems give two changes within some milliseconds the same time


class Board:
    """The runs of a home, conversations excepted. Methods may be called from any thread."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._reading = threading.RLock()  # one reader of folders at a time, so that no older view replaces a newer
        self._mutex = threading.Lock()  # around the dict; never held while a file is read
        self._jobs: dict[str, Job] = {}
        self._infos: dict[str, RunInfo] = {}
        self._sizes: dict[str, int] = {}  # of events.jsonl when the run was read
        self._marks: tuple[int, int] | None = None  # modification times that say whether folders may have changed

    def all(self) -> list[Job]:
        """Everything remembered, in no order."""
        with self._mutex:
            return list(self._jobs.values())

    def look(self) -> None:
        """Bring the memory up to the folders, reading only what may have changed."""
        with self._reading:
            marks = (_changed_at(self._runs), _changed_at(self._runs / CHANGED_FILE))
            if marks != self._marks:
                self._marks = marks if time.time_ns() - max(marks) > _SETTLED_NS else None
                self._look_at_all()
            for job in self.all():
                if not job.ended:
                    self._look_at_active(job)

    def read(self, run: Path) -> None:
        """Read one run; forget it when it is gone or cannot be read: `runs show` says what is wrong with it."""
        with self._reading:
            events = run / "events.jsonl"
            try:
                info = self._infos.get(run.name) or read_run(run)
                self._sizes[run.name] = _size(events)
                job = None if info.kind == "chat" else read_job(run, info)
            except (RunUnreadable, FileNotFoundError):
                self._forget(run.name)
                return
            self._infos[run.name] = info
            if job is not None:
                self._remember(job)

    def _look_at_all(self) -> None:
        paths = self._runs.iterdir() if self._runs.is_dir() else ()
        there = {path.name for path in paths if not path.name.startswith(".") and path.is_dir()}
        for gone in self._infos.keys() - there:
            self._forget(gone)
        known = {job.run_id for job in self.all()}
        for name in there:
            # A conversation stays one; of the others an ended run may have been resumed.
            grew = name in known and _size(self._runs / name / "events.jsonl") != self._sizes[name]
            if name not in self._infos or grew:
                self.read(self._runs / name)

    def _look_at_active(self, job: Job) -> None:
        run = self._runs / job.run_id
        known_to_work = job.status in ("running", "stopping") and job.pid is not None and job.started_at is not None
        if known_to_work and lock_held(run / "lock"):
            # The common case, once a second: it works on, so its many events need not be searched for an end.
            stopping = (run / CANCEL_FILE).exists()
            last_sign = _changed_at(run / "events.jsonl") / 1e9
            self._remember(replace(job, status="stopping" if stopping else "running", last_sign=last_sign))
        else:
            self.read(run)

    def _remember(self, job: Job) -> None:
        with self._mutex:
            self._jobs[job.run_id] = job

    def _forget(self, run_id: str) -> None:
        self._infos.pop(run_id, None)
        with self._mutex:
            self._jobs.pop(run_id, None)


def in_order(
    jobs: Sequence[Job], holder: Callable[[str], Holder | None], why_not: Callable[[str], str] = lambda run_id: ""
) -> list[Job]:
    """Runs at work, then the queue with each one's place and what it waits for, then the ended, newest first.

    `why_not` gives the reason why a queued run could not be started, or "".
    """
    working = sorted((job for job in jobs if job.status in ("running", "stopping")), key=lambda job: job.run_id)
    ended = sorted((job for job in jobs if job.ended), key=lambda job: job.run_id, reverse=True)
    places: dict[str, int] = {}
    waiting = []
    for job in queue_of(jobs):
        device = job.device or "cpu"
        places[device] = places.get(device, 0) + 1
        waiting.append(
            replace(job, position=places[device], waits_for=holder(device), reason=job.reason or why_not(job.run_id))
        )
    return [*working, *waiting, *ended]


def queue_of(jobs: Sequence[Job]) -> list[Job]:
    """Those that wait, first come first."""
    return sorted((job for job in jobs if job.status == "queued"), key=lambda job: (job.queued_at or "", job.run_id))


def _changed_at(path: Path) -> int:
    """When the file was last changed, in nanoseconds; 0 when it is not there."""
    return path.stat().st_mtime_ns if path.exists() else 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
