"""What tests of real processes share: patience, and the words in which they ask how a run stands."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.journal import Event, create_run, read_records
from playground.jobs import Supervisor

FAKE_WORK = (sys.executable, "-m", "tests.playground.jobs.fake_work")
PATIENCE_S = 300.0  # for a process to start on a busy machine; nothing is slower for it when all is well


def wait_until(holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait for a true value and return it."""
    give_up = time.monotonic() + patience_s
    while not (found := holds()):
        assert time.monotonic() < give_up, f"not within {patience_s:g} s: {what}"
        time.sleep(0.02)
    return found


def events(run: Path) -> list[Event]:
    return [record for record, _ in read_records(run / "events.jsonl") if isinstance(record, Event)]


def steps(run: Path) -> list[int]:
    return [event.data["step"] for event in events(run) if event.event == "metric"]


def lifecycle(run: Path) -> list[str]:
    return [e.event for e in events(run) if e.event not in ("metric", "heartbeat", "progress")]


def new_run(home: Path, **settings: Any) -> Path:
    """A run folder that nobody works on and that is in no queue."""
    with create_run(home / "runs", "benchmark", {"steps": 1, **settings}, {}) as folder:
        return folder.path


def submit(supervisor: Supervisor, key: str | None = None, **settings: Any) -> str:
    return supervisor.submit("benchmark", {"steps": 3, **settings}, {}, device="cpu", key=key, command="count")


def status(supervisor: Supervisor, run_id: str) -> str:
    job = supervisor.job(run_id)
    return job.status if job is not None else "unknown"


def wait_for_status(supervisor: Supervisor, run_id: str, *wanted: str) -> str:
    return str(
        wait_until(
            lambda: (found := status(supervisor, run_id)) in wanted and found,
            f"{run_id} {' or '.join(wanted)}, it is {status(supervisor, run_id)}",
        )
    )
