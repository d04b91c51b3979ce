"""The app's side of long work: takes runs in, starts them in order, watches them, and finds them again after a restart.

Everything it knows is in the run folders. Several supervisors on one home do no harm: a run's lock and a device's
lease decide who starts what.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluation.disk import DiskRefused, LockHeld, lock_held, take_lock, told_to_people
from evaluation.errors import UserFacingError
from evaluation.journal import CANCEL_FILE, RunKind
from playground.jobs import control, leases
from playground.jobs.board import Board, in_order, queue_of
from playground.jobs.chat import in_the_way
from playground.jobs.control import DEADLINE_S
from playground.jobs.job import Job, find_run, read_job
from playground.jobs.leases import ELSEWHERE, DeviceUse, Holder, default_device
from playground.jobs.process import descriptor, read_process, write_exit
from playground.jobs.start import WORK, start
from playground.jobs.waiting import Waiter, Want

log = logging.getLogger(__name__)

POLL_S = 1.0  # for what nobody wakes us for: runs that the command line queues, changes or works on
RETRY_S = 5.0  # after a start that failed, as on a full disk
WATCHED_FILE = "supervisor.lock"  # held while an app watches the queue of this home


class Supervisor:
    """Owns the queue of one home. Methods may be called from any thread; `jobs` is cheap enough to poll."""

    def __init__(
        self,
        home: Path,
        *,
        program: Sequence[str] = WORK,
        deadline_s: float = DEADLINE_S,
        lend: Callable[[Path], Mapping[str, str]] = lambda run: {},
    ) -> None:
        """Nothing is started before `start`. `deadline_s`: seconds that a cancelled run has to save.

        `lend` says what the process of the run in that folder gets into its environment from us; while it raises a
        UserFacingError the run waits.
        """
        self._home = home
        self._runs = home / "runs"
        self._program = program
        self._deadline_s = deadline_s
        self._lend = lend
        self._board = Board(self._runs)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._pidfds: dict[int, str] = {}  # of processes at work, ours or adopted -> run
        self._wants: dict[str, Want] = {}  # device -> our sign that the first of its queue waits for it
        self._not_before: dict[str, tuple[float, str]] = {}  # run -> monotonic seconds, why its start failed
        self._complaints: dict[str, str] = {}  # run -> what was said of it last, so that it is said once
        self._looked = threading.Event()
        self._closing = threading.Event()
        self._wakers: tuple[int, int] | None = None  # a pipe that ends the watching thread's sleep
        self._poller = select.poll()
        self._watching: int | None = None  # descriptor of WATCHED_FILE while it is ours
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Adopt what is at work and begin watching. Calling it again does nothing. Raises DiskRefused."""
        if self._thread is None:
            with told_to_people(self._runs):
                self._runs.mkdir(parents=True, exist_ok=True)
            self._wakers = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._poller.register(self._wakers[0], select.POLLIN)
            self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
            self._thread.start()

    def submit(
        self,
        kind: RunKind,
        settings: Mapping[str, Any],
        identities: Mapping[str, Mapping[str, Any]],
        *,
        seed: int | None = None,
        device: str | None = None,
        key: str | None = None,
        command: str = "",
    ) -> str:
        """Put a run at the end of its device's queue and return its id; the same `key` gives the same run, always.

        `command` reproduces the run on the command line. Raises SettingsRejected, DiskRefused.
        """
        with control.one_submission_at_a_time(self._runs):
            if key is not None:
                self._board.look()
                for job in self._board.all():
                    if job.key == key:
                        return job.run_id
            run = control.submit(
                self._runs, kind, settings, identities, device or default_device(), seed=seed, key=key, command=command
            )
            self._board.read(run)
        self._wake()
        return run.name

    def cancel(self, run_id: str, reason: str = "cancelled on the page") -> None:
        """Ask a run to stop; one at work saves first. Raises SettingsRejected when it has ended, DiskRefused."""
        run = find_run(self._runs, run_id)
        control.request_stop(run, reason, self._deadline_s)
        self._board.read(run)
        self._wake()

    def resume(self, run_id: str) -> None:
        """Put a run that failed, was cancelled or is lost into the queue again.

        Raises SettingsRejected when there is nothing to resume, DiskRefused.
        """
        run = find_run(self._runs, run_id)
        device = read_job(run).device or default_device()
        control.queue_again(run, device, f"python -m playground runs resume {run_id}")
        self._board.read(run)
        self._wake()

    def jobs(self) -> list[Job]:
        """Every run but conversations: those at work, then the queue in order, then the ended, newest first."""
        if self._thread is None:
            self._board.look()
        else:
            self._looked.wait()
        return in_order(self._board.all(), self.holder, lambda run_id: self._not_before.get(run_id, (0.0, ""))[1])

    def job(self, run_id: str) -> Job | None:
        """One of `jobs`, or None."""
        return next((job for job in self.jobs() if job.run_id == run_id), None)

    def holder(self, device: str) -> Holder | None:
        """Who has the device now, or None."""
        return leases.holder(self._home, device)

    def in_the_way(self, device: str) -> Holder | Waiter | None:
        """Who keeps a question to a model in this process from the device now; on the CPU, who makes it slower."""
        return in_the_way(self._home, device)

    def devices(self) -> list[DeviceUse]:
        """Every device that somebody has or waits for."""
        return leases.devices_in_use(self._home)

    def close(self) -> None:
        """Stop watching. The runs go on, and the next app finds them."""
        if self._thread is None or self._closing.is_set():
            return
        self._wake()
        self._closing.set()
        self._thread.join()
        for opened in (*self._pidfds, *(self._wakers or ())):
            os.close(opened)

    def _wake(self) -> None:
        if self._wakers is not None and not self._closing.is_set():
            with suppress(BlockingIOError):  # a full pipe wakes as well
                os.write(self._wakers[1], b"!")

    # From here on everything runs on the watching thread.

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self._claim()
                self._reap()
                self._board.look()
                for job in self._board.all():
                    self._tend(job)
                self._start_next()
            except Exception:  # the watch must outlive whatever it meets; it tries again
                log.exception("supervising runs failed")
            self._looked.set()
            self._sleep()
        for want in self._wants.values():
            want.close()
        if self._watching is not None:
            os.close(self._watching)

    def _sleep(self) -> None:
        """Until something happens, or POLL_S."""
        for ready, _ in self._poller.poll(POLL_S * 1000):
            if self._wakers is not None and ready == self._wakers[0]:
                os.read(ready, 4096)
            else:  # a process has ended
                self._poller.unregister(ready)
                del self._pidfds[ready]
                os.close(ready)

    def _claim(self) -> None:
        """Hold the file that tells the command line that somebody watches the queue."""
        file = self._home / WATCHED_FILE
        if self._watching is None and not lock_held(file):
            # Another app was faster, which serves as well; or the disk is full, and a note to people can wait.
            with suppress(LockHeld, OSError):
                self._watching = take_lock(file)

    def _reap(self) -> None:
        """Note how our own children ended."""
        for run_id, child in list(self._children.items()):
            code = child.poll()
            if code is None:
                continue
            del self._children[run_id]
            run = self._runs / run_id
            log.info("run %s: its process ended with status %s", run_id, code)
            if run.exists():
                control.end_orphans(run)
                try:
                    write_exit(run, child.pid, code)
                except DiskRefused as error:
                    log.warning("run %s: %s", run_id, error)
                self._board.read(run)

    def _tend(self, job: Job) -> None:
        """Do what a run may need that works, or that was to stop and did not say so itself."""
        run = self._runs / job.run_id
        try:
            self._tend_folder(job, run)
        except (UserFacingError, OSError) as error:  # this folder cannot be dealt with; the others can
            if self._complaints.get(job.run_id) != str(error):
                log.warning("run %s: %s", job.run_id, error)
            self._complaints[job.run_id] = str(error)

    def _tend_folder(self, job: Job, run: Path) -> None:
        if job.status in ("running", "stopping"):
            self._watch_process(run)
            control.end_orphans(run)
        if job.status == "stopping" and control.enforce_stop(run):
            log.warning("run %s did not stop in time and is killed", job.run_id)
        if job.status in ("queued", "lost", "stopping") and (run / CANCEL_FILE).exists():
            control.settle(run)
            self._board.read(run)

    def _watch_process(self, run: Path) -> None:
        """Be woken when the run's process ends, also one that is not our child."""
        if run.name in self._pidfds.values():
            return
        process = read_process(run)
        pidfd = descriptor(process) if process is not None else None
        if pidfd is not None:
            self._pidfds[pidfd] = run.name
            self._poller.register(pidfd, select.POLLIN)

    def _start_next(self) -> None:
        """Start the first of the queue of each device that is free, and say which devices the others wait for."""
        first: dict[str, Job] = {}
        for job in queue_of(self._board.all()):
            if job.device != ELSEWHERE:
                first.setdefault(job.device or "cpu", job)  # who comes later waits, whatever becomes of the first
        for device, want in list(self._wants.items()):
            if device not in first or first[device].run_id != want.waiter.run_id:
                del self._wants[device]
                want.close()
        for device, job in first.items():
            if time.monotonic() < self._not_before.get(job.run_id, (0.0, ""))[0]:
                continue
            try:
                self._start_on(device, job)
            except (UserFacingError, OSError) as error:
                if self._not_before.get(job.run_id, (0.0, ""))[1] != str(error):  # said once
                    log.warning("run %s cannot be started: %s", job.run_id, error)
                self._not_before[job.run_id] = (time.monotonic() + RETRY_S, str(error))

    def _start_on(self, device: str, job: Job) -> None:
        """Start the run if the device is free; else say that it waits, which chat in any process hears."""
        if self.holder(device) is not None:
            if device not in self._wants:
                self._wants[device] = Want(self._home, device, job.kind, job.run_id)
            return
        run = self._runs / job.run_id
        child = start(self._home, run, job.kind, device, self._program, self._lend(run))
        self._not_before.pop(job.run_id, None)
        if child is not None:
            log.info("run %s: started as process %s on %s", job.run_id, child.pid, device)
            self._children[job.run_id] = child
        self._board.read(run)
