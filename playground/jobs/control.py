"""What anybody may do to a run from outside: ask it to stop, end one that does not, put it into the queue again.

The command line and the supervisor call the same functions; both may at once, since each step looks at the folder
first and changes it only with the folder's lock or with one atomic file.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.disk import lock_held, told_to_people, write_json
from evaluation.errors import SettingsRejected
from evaluation.journal import (
    CANCEL_FILE,
    PROCESS_FILE,
    RunBusy,
    RunFolder,
    RunKind,
    create_run,
    last_event,
    run_status,
    utc_now,
)
from playground.jobs.leases import check_device
from playground.jobs.process import EXIT_FILE, is_alive, kill_all, orphans, read_process, send

# A 13B model's checkpoint with its optimiser takes a disk minutes.
DEADLINE_S = 180.0
CHANGED_FILE = ".changed"


@dataclass(frozen=True)
class StopRequest:
    """What cancel.json says. After `deadline_s` seconds from `at` (ISO 8601) the run may be killed."""

    at: str
    reason: str
    deadline_s: float = DEADLINE_S
    killed: bool = False


def announce(runs: Path) -> None:
    """Tell supervisors that a run they have read may have changed."""
    with told_to_people(runs):
        (runs / CHANGED_FILE).touch()


@contextmanager
def one_submission_at_a_time(runs: Path) -> Iterator[None]:
    """Keep every other submission to this home waiting, in this process and in others. Raises DiskRefused."""
    with told_to_people(runs):
        runs.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(runs / ".submit.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def submit(
    runs: Path,
    kind: RunKind,
    settings: Mapping[str, Any],
    identities: Mapping[str, Mapping[str, Any]],
    device: str,
    *,
    seed: int | None = None,
    key: str | None = None,
    command: str,
) -> Path:
    """Create a run at the end of the device's queue and return its folder. Raises SettingsRejected, DiskRefused."""
    queued = {"device": check_device(device), "key": key, "command": command}
    with create_run(runs, kind, settings, identities, seed=seed, queued=queued) as folder:
        return folder.path


def request_stop(run: Path, reason: str, deadline_s: float = DEADLINE_S) -> None:
    """Ask a run to stop. One in the queue is cancelled at once; one at work saves first.

    After `deadline_s` seconds whoever watches may kill it (`enforce_stop`). Raises SettingsRejected when the run has
    ended, DiskRefused.
    """
    status = run_status(run)
    if status not in ("queued", "running", "stopping"):
        raise SettingsRejected(f"Run {run.name} is {status}; there is nothing to cancel.")
    if status != "stopping":
        with told_to_people(run):
            write_json(run / CANCEL_FILE, asdict(StopRequest(utc_now(), reason, deadline_s)))
    # The file alone stops it within a second, also where a signal cannot reach; the signal makes it quick.
    process = read_process(run)
    if process is not None:
        send(process, signal.SIGTERM)
    settle(run)
    announce(run.parent)


def enforce_stop(run: Path) -> bool:
    """Kill the run's processes if it was asked to stop and its deadline has passed; return whether it was so."""
    request = read_request(run)
    if request is None or not lock_held(run / "lock"):
        return False
    asked = datetime.fromisoformat(request.at)
    if (datetime.now(UTC) - asked).total_seconds() < request.deadline_s:
        return False
    process = read_process(run)
    if process is not None:
        with told_to_people(run):
            write_json(run / CANCEL_FILE, asdict(replace(request, killed=True)))
        kill_all(process, run / "lock")
    return True


def end_orphans(run: Path) -> None:
    """Kill what a dead process has left running: without it nothing they do is recorded, but they keep the device."""
    process = read_process(run)
    if process is not None and process.leads_group and not is_alive(process) and orphans(process, run / "lock"):
        kill_all(process, run / "lock")


def settle(run: Path) -> None:
    """Write the end of a run that was to stop and could not write it itself. Does nothing while it works.

    Raises DiskRefused.
    """
    request = read_request(run)
    if request is None or lock_held(run / "lock"):
        return
    try:
        folder = RunFolder.open(run)
    except RunBusy:
        return
    with folder:
        last = last_event(run / "events.jsonl")
        if last is not None and last.event in ("queued", "started"):
            metric = last_event(run / "events.jsonl", ("metric",))
            killed = f"; it did not stop within {request.deadline_s:g} s and was killed"
            folder.event(
                "cancelled",
                reason=request.reason + (killed if request.killed else ""),
                step=metric.data.get("step", 0) if metric else 0,
            )


def queue_again(run: Path, device: str, command: str) -> None:
    """Put a run that ended before its work was done at the end of its device's queue.

    Raises SettingsRejected when there is nothing to resume, RunBusy, DiskRefused.
    """
    refuse_unless_resumable(run)
    with RunFolder.open(run) as folder:
        last = last_event(run / "events.jsonl")
        # Somebody may have been faster, before the lock was ours.
        if last is not None and last.event == "finished":
            raise SettingsRejected(f"Run {run.name} is finished, so there is nothing to resume; start a new one.")
        if last is not None and last.event == "queued" and not (run / PROCESS_FILE).exists():
            return
        before = last_event(run / "events.jsonl", ("queued",))
        forget_last_process(run)
        key = before.data.get("key") if before else None
        folder.event("queued", device=check_device(device), key=key, command=command)
    announce(run.parent)


def refuse_unless_resumable(run: Path) -> None:
    """Raise SettingsRejected unless the run is failed, cancelled or lost."""
    status = run_status(run)
    if status not in ("failed", "cancelled", "lost"):
        advice = {"finished": "start a new one", "queued": "it starts by itself while the app runs"}
        raise SettingsRejected(
            f"Run {run.name} is {status}, so there is nothing to resume; {advice.get(status, 'cancel it first')}."
        )


def forget_last_process(run: Path) -> None:
    """Take away what was said to and about an earlier process. Call it with the run's lock held. Raises DiskRefused."""
    with told_to_people(run):
        for name in (CANCEL_FILE, PROCESS_FILE, EXIT_FILE):
            (run / name).unlink(missing_ok=True)


def read_request(run: Path) -> StopRequest | None:
    """Whether and how the run was asked to stop. A file that somebody made by hand asks too."""
    file = run / CANCEL_FILE
    try:
        asked = StopRequest(**json.loads(file.read_text(encoding="utf-8")))
        if datetime.fromisoformat(asked.at).tzinfo is None:
            raise ValueError("a time of no time zone")
        return replace(asked, reason=str(asked.reason), deadline_s=float(asked.deadline_s))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return StopRequest(utc_now(), f"{CANCEL_FILE} was put into the run folder")
