"""From the queue into a process. The run's lock and the device's lease go over without a moment in which they are free.

We take both, fork, and close our copies: an flock belongs to the open file, which the child has inherited. So when the
app dies before the fork, the run is still queued; when it dies after, the child holds everything; and a second app, or
a second click, finds the lock taken or the run no longer queued.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from evaluation.disk import DiskRefused, LockHeld, take_lock, told_to_people
from evaluation.journal import CANCEL_FILE, PROCESS_FILE, RunKind, last_event
from playground.jobs.job import LOG_FILE
from playground.jobs.leases import DeviceBusy, Lease, visible_gpus
from playground.jobs.process import identify_child, write_process
from playground.jobs.work import make_ballast
from playground.settings import ROOT

WORK: tuple[str, ...] = (sys.executable, "-m", "playground", "work")
_log = logging.getLogger(__name__)
# A training asks no judge; a model that it loads must not find a judge's key in its environment.
_KEYS = {"training": ("PLAYGROUND_OPENAI_API_KEY", "OPENAI_API_KEY")}


def start(
    home: Path,
    run: Path,
    kind: RunKind,
    device: str,
    program: Sequence[str] = WORK,
    lent: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[bytes] | None:
    """Start the run's process, or return None when the device or the run is no longer free.

    `program` is called with the run's id, `--lock FD` and `--lease FD`; `lent` is added to its environment. Raises
    DiskRefused when there is no room even to begin, OSError when no process can be made.
    """
    try:
        lease = Lease(home, device)
    except DeviceBusy:
        return None
    with lease:
        try:
            with told_to_people(run / "lock"):
                lock = take_lock(run / "lock")
        except LockHeld:
            return None
        try:
            if not _is_queued(run):
                return None
            make_ballast(run)
            lease.describe(run.name, kind, os.getpid())
            with told_to_people(run / LOG_FILE):
                log = (run / LOG_FILE).open("ab")
            with log:
                child = subprocess.Popen(
                    [*program, run.name, "--lock", str(lock), "--lease", str(lease.fd)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,  # a file, never a pipe: a pipe that nobody empties stops the work
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock, lease.fd),
                    env={**_environment(home, kind, device), **lent},
                )
            try:
                # It writes the same itself; ours is there before it has imported anything, or died of an import.
                write_process(run, identify_child(child.pid))
            except DiskRefused as error:
                _log.warning("%s", error)
            return child
        finally:
            os.close(lock)


def _is_queued(run: Path) -> bool:
    """Whether the run waits to be started. The lock is ours, so this stays true until we let go."""
    last = last_event(run / "events.jsonl")
    return (
        last is not None
        and last.event == "queued"
        and not (run / PROCESS_FILE).exists()
        and not (run / CANCEL_FILE).exists()
    )


def _environment(home: Path, kind: RunKind, device: str) -> dict[str, str]:
    # A benchmark in the queue of the CPU on a machine with a GPU is answered elsewhere; its embedded judge, whose
    # precision is in its identity, computes where it does in the app.
    seen = {"CUDA_VISIBLE_DEVICES": visible_gpus(device)} if kind == "training" or device != "cpu" else {}
    inherited = {name: value for name, value in os.environ.items() if name not in _KEYS.get(kind, ())}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",  # a crash in native code leaves its traceback in the log
        "PLAYGROUND_HOME": str(home),
        **seen,
    }
