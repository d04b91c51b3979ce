"""work: what the supervisor, torchrun or a cluster starts for a run. People use `train` and `runs resume`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from evaluation.journal import RunFolder, last_event, read_run
from playground.cli.output import progress
from playground.jobs.job import find_run
from playground.jobs.leases import ELSEWHERE, Holder, Lease, default_device, wait_for
from playground.jobs.work import work
from playground.jobs.workers import follower_for, worker_for
from playground.settings import load_settings

# The app stays usable beside a run on the same cores, and memory that runs out takes the run before the app.
NICE = 10
OOM_SCORE = 500


def add(commands: Any) -> None:
    """Declare the command, which the help does not list."""
    parser = commands.add_parser("work")
    parser.add_argument("run_id")
    parser.add_argument("--lock", type=int, metavar="FD")
    parser.add_argument("--lease", type=int, metavar="FD")
    parser.set_defaults(run=work_on)


def work_on(options: argparse.Namespace) -> None:
    """Do the run, from its frozen settings, in this process. The two descriptors are those of `jobs.start`.

    Under torchrun the first process does so, and the others do their part of its work.
    """
    settings = load_settings()
    run = find_run(settings.runs, options.run_id)
    queued = last_event(run / "events.jsonl", ("queued",))
    device = (queued.data.get("device") if queued else None) or default_device()
    if int(os.environ.get("RANK", "0")) > 0:
        with _lease(settings.home, device, None) as lease:
            if lease is not None:
                lease.describe(run.name, "training", os.getpid())
            follower_for(read_run(run))(run, settings.home)
        return
    with RunFolder.open(run, options.lock) as folder, _lease(settings.home, device, options.lease) as lease:
        if lease is not None:
            lease.describe(run.name, folder.info.kind, os.getpid())
        _give_way(device)
        command = queued.data.get("command", "") if queued else f"python -m playground work {run.name}"
        work(folder, worker_for(folder.info), settings.home, command, say)


def _lease(home: Path, device: str, inherited: int | None) -> AbstractContextManager[Lease | None]:
    if device != ELSEWHERE:
        return Lease(home, device, inherited)
    if "SUBMITIT_EXECUTOR" in os.environ:
        return nullcontext()  # devices of other machines, which the cluster hands out
    local = os.environ.get("LOCAL_RANK", "0")
    if default_device() != "cpu":
        return wait_for(home, f"cuda:{local}", waiting)
    return wait_for(home, "cpu", waiting) if local == "0" else nullcontext()


def waiting(holder: Holder) -> None:
    """Say that somebody else has the device."""
    progress(f"Waiting for {holder.device}, in use by {holder}.")


def _give_way(device: str) -> None:
    if device == "cpu":
        os.nice(NICE)
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text(str(OOM_SCORE))


def say(event: str, data: Mapping[str, Any]) -> None:
    """One line on standard error for an event, which is the run's log when the supervisor started it."""
    words = data.get("message") or data.get("reason") or ", ".join(_shown(key, value) for key, value in data.items())
    progress(f"{event}: {words}")


def _shown(key: str, value: object) -> str:
    if isinstance(value, float):
        return f"{key} {value:.4g}"
    # Samples and held-out losses are for the page and for `--json`; a log is read line by line.
    return f"{key} ({len(value)})" if isinstance(value, list | dict) and len(str(value)) > 80 else f"{key} {value}"
