"""work: what the supervisor, torchrun or a cluster starts for a run. People use `train` and `runs resume`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from evaluation.journal import RunFolder, last_event, read_run
from playground import catalog
from playground.cli.output import progress
from playground.engine.router import Router
from playground.jobs.chat import claim_for_chat
from playground.jobs.job import find_run
from playground.jobs.leases import ELSEWHERE, Holder, Lease, default_device, wait_for
from playground.jobs.work import work
from playground.jobs.workers import follower_for, worker_for
from playground.settings import Settings, load_settings

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
        with _lease(settings.home, device, None, run.name) as lease:
            if lease is not None:
                lease.describe(run.name, "training", os.getpid())
            follower_for(read_run(run))(run, settings.home)
        return
    with (
        RunFolder.open(run, options.lock) as folder,
        _lease(settings.home, device, options.lease, run.name) as lease,
    ):
        if lease is not None:
            lease.describe(run.name, folder.info.kind, os.getpid())
        _give_way(device)
        command = queued.data.get("command", "") if queued else f"python -m playground work {run.name}"
        work(folder, worker_for(folder.info), settings.home, command, say)


def _lease(home: Path, device: str, inherited: int | None, run_id: str) -> AbstractContextManager[Lease | None]:
    if device != ELSEWHERE:
        return Lease(home, device, inherited)
    if "SUBMITIT_EXECUTOR" in os.environ:
        return nullcontext()  # devices of other machines, which the cluster hands out
    local = os.environ.get("LOCAL_RANK", "0")
    if default_device() != "cpu":
        return wait_for(home, f"cuda:{local}", waiting, "training", run_id)
    return wait_for(home, "cpu", waiting, "training", run_id) if local == "0" else nullcontext()


def gpu_for(settings: Settings, kind: str) -> AbstractContextManager[Lease | None]:
    """The lease of the GPU for work that has no run folder yet; none on the CPU, which everybody shares.

    Waits for whoever has it. Raises DiskRefused.
    """
    device = default_device()
    if device == "cpu":
        return nullcontext()
    lease = wait_for(settings.home, device, waiting, kind)
    lease.describe(None, kind, os.getpid())
    return lease


def router_for_names(settings: Settings) -> Router:
    """A router for who wants no answer: it tells what models are by their files, beside whoever has the device."""
    return catalog.build_router(
        settings, claim=lambda: claim_for_chat(settings.home, default_device()), names_only=True
    )


def engine_option(parser: argparse.ArgumentParser) -> None:
    """Add the choice of what answers for the embedded model."""
    parser.add_argument(
        "--engine", choices=("transformers", "vllm"), help="answers for the embedded model (PLAYGROUND_ENGINE)"
    )


def with_engine(settings: Settings, engine: str | None) -> Settings:
    """The settings with the engine that the call names, if it names one."""
    return settings if engine is None else settings.model_copy(update={"engine": engine})


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
