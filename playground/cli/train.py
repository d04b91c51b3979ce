"""train: fine-tune an adapter, here and now or in the app's queue; several at once for a sweep."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from evaluation.disk import lock_held
from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.journal import RunFolder, create_run
from evaluation.prompts.suites import load_suite, scales_of
from playground.catalog import DEFAULT_PAIR
from playground.cli.output import json_option, print_json, print_table, progress
from playground.cli.work import say, waiting
from playground.jobs import control
from playground.jobs.leases import ELSEWHERE, Lease, default_device, wait_for
from playground.jobs.start import WORK
from playground.jobs.supervisor import WATCHED_FILE
from playground.jobs.work import work
from playground.jobs.workers import JUDGE_PRESET, refuse_taken_name, worker_for
from playground.settings import ROOT, Settings, load_settings
from training.cluster import Cluster, Resources
from training.cluster import submit as submit_to_cluster
from training.presets import PRESETS, preset
from training.settings import SftSettings, Source, read_settings
from training.sweep import member_name

SAFETY_MULTIPLIER = "safety_multiplier"
LONGEST_SWEEP = 32  # runs
# What --json prints of a run; null where it has not come to that.
_FIGURES = ("adapter", "steps", "loss_before", "loss_after", "tokens_per_s")


@dataclass(frozen=True)
class Planned:
    """A run that is to be made. `value` is the sweep's, if there is one."""

    settings: Mapping[str, Any]
    seed: int | None
    command: str
    value: int | None = None


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("train", help="fine-tune an adapter")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("settings", nargs="?", type=Path, metavar="SETTINGS.json")
    what.add_argument("--preset", choices=[*PRESETS, JUDGE_PRESET])
    parser.add_argument(
        "--sweep",
        metavar="NAME=N,N,...",
        help=f"one run for each value of {SAFETY_MULTIPLIER}, or of the multiplier of a source named here",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--queue", action="store_true", help="leave it to the app, which starts it in turn")
    where.add_argument(
        "--create", action="store_true", help="only make the run; `torchrun ... -m playground work RUN_ID` does it"
    )
    where.add_argument(
        "--cluster", choices=get_args(Cluster), help="hand it to Slurm, or to this machine as if it were Slurm"
    )
    for name, default, words in (
        ("nodes", 1, "machines"),
        ("processes", 1, "processes on each, one for each GPU"),
        ("minutes", 1440, "longest time before the cluster queues it again"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"with --cluster: {words} (%(default)s)"
        )
    parser.add_argument("--partition", help="with --cluster: Slurm's partition")
    json_option(parser)
    parser.set_defaults(run=train)


def train(options: argparse.Namespace) -> None:
    """Do every run in turn in this process, or put them all into the queue."""
    settings = load_settings()
    plans = _plan(options, settings)
    if options.create or options.cluster:
        documents = [_queue(plan, settings, ELSEWHERE) for plan in plans]
        if options.cluster:
            _hand_over([document["run_id"] for document in documents], options, settings)
    elif options.queue:
        documents = [_queue(plan, settings, default_device()) for plan in plans]
        if not lock_held(settings.home / WATCHED_FILE):
            progress("No app watches the queue of this home now; the run starts when one does.")
    else:
        documents = []
        for plan in plans:
            documents.append(_train(plan, settings))
            if documents[-1]["status"] == "cancelled":
                break
    if options.sweep is None:
        show(documents[0], as_json=options.json)
    elif options.json:
        print_json({"runs": documents})
    else:
        rows = [[str(d["value"]), d["run_id"], d["status"], *_figures(d)] for d in documents]
        print_table((options.sweep.partition("=")[0], "run", "status", "steps", "held-out loss", "tokens/s"), rows)


def _plan(options: argparse.Namespace, settings: Settings) -> list[Planned]:
    call = f"--preset {options.preset}" if options.preset else shlex.quote(str(options.settings))
    command = f"python -m playground train {call}"
    if options.preset == JUDGE_PRESET:
        from training.judge_head import LAYER, PENALTIES

        if options.sweep is not None:
            raise SettingsRejected(f"--sweep changes a source's multiplier, and {JUDGE_PRESET} has none; leave it out.")
        return [Planned({"preset": JUDGE_PRESET, "layer": LAYER, "penalties": list(PENALTIES.values())}, None, command)]
    sft = preset(options.preset) if options.preset else read_settings(options.settings)
    if options.sweep is None:
        refuse_taken_name(settings.home, sft)
        return [Planned(sft.to_json(), sft.seed, command)]
    name, values = _sweep(options.sweep)
    swept = [(value, multiplied(sft, name, value, settings.home)) for value in values]
    for _, one in swept:  # all of them before the first begins
        refuse_taken_name(settings.home, one)
    return [Planned(one.to_json(), one.seed, f"{command} --sweep {name}={value}", value) for value, one in swept]


def _sweep(text: str) -> tuple[str, list[int]]:
    name, _, listed = text.partition("=")
    values = [part.strip() for part in listed.split(",")]
    if not name or not all(value.isdecimal() and value.isascii() for value in values):
        raise SettingsRejected(f"--sweep is {text!r}; it must be like {SAFETY_MULTIPLIER}=0,1,4,16.")
    numbers = [int(value) for value in values]
    if len(set(numbers)) != len(numbers) or len(numbers) > LONGEST_SWEEP:
        raise SettingsRejected(f"--sweep {text!r} must name each value once, {LONGEST_SWEEP} at most.")
    return name, numbers


def multiplied(sft: SftSettings, name: str, value: int, home: Path) -> SftSettings:
    """The settings with the multiplier of source `name` at `value`, and the value in the adapter's name.

    `safety_multiplier` means every source of a suite that measures safety. Raises SettingsRejected when there is none.
    """

    def meant(source: Source) -> bool:
        if name != SAFETY_MULTIPLIER:
            return source.suite == name
        return "safety" in scales_of(load_suite(source.suite, home).metrics)

    sources = tuple(replace(source, multiplier=value) if meant(source) else source for source in sft.sources)
    if not any(meant(source) for source in sft.sources):
        listed = ", ".join(source.suite for source in sft.sources)
        raise SettingsRejected(f"--sweep {name}: no source of these settings is meant by it; sources are {listed}.")
    return replace(sft, name=member_name(sft.name, value), sources=sources)


def _queue(plan: Planned, settings: Settings, device: str) -> dict[str, Any]:
    run = control.submit(settings.runs, "training", plan.settings, {}, device, seed=plan.seed, command=plan.command)
    return _document(run.name, "queued", {}, plan)


def _hand_over(run_ids: Sequence[str], options: argparse.Namespace, settings: Settings) -> None:
    """Submit one job for each run; a run that the cluster refuses is cancelled."""
    resources = Resources(
        nodes=options.nodes,
        processes=options.processes,
        gpus=options.cluster == "slurm",
        minutes=options.minutes,
        partition=options.partition,
    )
    for n, run_id in enumerate(run_ids):
        try:
            with _exported(PYTHONPATH=str(ROOT), PLAYGROUND_HOME=str(settings.home.resolve())):
                job = submit_to_cluster([*WORK, run_id], settings.runs / run_id / "cluster", resources, options.cluster)
        except UserFacingError as error:
            for refused in run_ids[n:]:
                control.request_stop(settings.runs / refused, str(error))
            raise
        progress(f"{run_id}: job {job.job_id} of {options.cluster}")


@contextmanager
def _exported(**variables: str) -> Iterator[None]:
    """Environment variables for what is submitted meanwhile: a job finds this program from any folder."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _train(plan: Planned, settings: Settings) -> dict[str, Any]:
    with (
        wait_for(settings.home, default_device(), waiting, "training") as lease,
        create_run(settings.runs, "training", plan.settings, {}, seed=plan.seed) as folder,
    ):
        return work_here(folder, lease, settings, plan.command, plan)


def resume_here(run: Path, settings: Settings) -> dict[str, Any]:
    """Go on with a run in this process. Returns the document of `train`. Raises SettingsRejected, RunBusy."""
    control.refuse_unless_resumable(run)
    with (
        wait_for(settings.home, default_device(), waiting, "training", run.name) as lease,
        RunFolder.open(run) as folder,
    ):
        return work_here(folder, lease, settings, f"python -m playground runs resume {run.name}")


def work_here(
    folder: RunFolder, lease: Lease, settings: Settings, command: str, plan: Planned | None = None
) -> dict[str, Any]:
    """Work on an open run in this process. Returns the document of `train`."""
    lease.describe(folder.path.name, folder.info.kind, os.getpid())
    ending = work(folder, worker_for(folder.info), settings.home, command, say)
    return _document(folder.path.name, ending.status, ending.data, plan)


def _document(run_id: str, status: str, data: Mapping[str, Any], plan: Planned | None) -> dict[str, Any]:
    swept = {} if plan is None or plan.value is None else {"value": plan.value}
    return {"run_id": run_id, "status": status, **swept, **dict.fromkeys(_FIGURES), **data}


def show(document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print how one run went."""
    if as_json:
        print_json(document)
        return
    print(f"run {document['run_id']}: {document['status']}")
    if document["status"] == "queued":
        return
    if document["steps"] is not None:
        print(f"  {document['steps']} steps, {document['seconds']:.0f} s, {document['tokens_per_s']:.0f} tokens/s")
    for suite, before in (document["loss_before"] or {}).items():
        if suite in (document["loss_after"] or {}):
            print(f"  held-out loss on {suite}: {before:.3f} -> {document['loss_after'][suite]:.3f}")
    for name, figures in document.get("agreement", {}).items():
        print(f"  {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))
    for what in ("adapter", "model", "head", "reason"):
        if document.get(what):
            print(f"  {what}: {document[what]}")
    if document.get("model_id"):
        shadowed = " (the shipped one of that name is shown)" if document["model_id"] in DEFAULT_PAIR else ""
        print(f"  model id: {document['model_id']}{shadowed}")


def _figures(document: Mapping[str, Any]) -> list[str]:
    after, speed = document["loss_after"] or {}, document["tokens_per_s"]
    losses = ", ".join(f"{suite} {loss:.3f}" for suite, loss in after.items())
    return [str(document["steps"] or "-"), losses or "-", "-" if speed is None else f"{speed:.0f}"]
