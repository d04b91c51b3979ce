"""bench: models answer suites, a judge reads the responses, the numbers are printed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from evaluation.benchmark.recorded import read_recorded
from evaluation.benchmark.settings import BenchmarkSettings, JudgingSettings, from_json, judging_from_json
from evaluation.disk import lock_held
from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.journal import RunFolder, create_run, read_run
from evaluation.types import Sampling
from playground import benchmarks, catalog
from playground.cli.output import json_option, print_json, print_table, progress
from playground.cli.work import engine_option, router_for_names, waiting, with_engine
from playground.jobs import control
from playground.jobs.benchmark_work import benchmark, open_for
from playground.jobs.leases import Lease, default_device, wait_for
from playground.jobs.supervisor import WATCHED_FILE
from playground.jobs.work import Ending, Worker, work
from playground.jobs.workers import worker_for
from playground.settings import Settings, load_settings


class NothingMeasured(UserFacingError):
    """The run ended without a single verdict that could be counted."""


def add(commands: Any) -> None:
    """Declare the command."""
    usual = Sampling()
    parser = commands.add_parser("bench", help="let models answer suites, and judge what they answer")
    parser.add_argument("--suite", required=True, metavar="SUITE,...", help="`suites` lists them")
    parser.add_argument("--models", default=",".join(catalog.DEFAULT_PAIR), metavar="MODEL,...", help="(%(default)s)")
    judging_options(parser, required=False)
    parser.add_argument("--limit", type=int, metavar="N", help="prompts of each suite at most, spread evenly")
    parser.add_argument("--attempts", type=int, default=1, metavar="K", help="responses to each prompt (%(default)s)")
    parser.add_argument("--temperature", type=float, default=usual.temperature, help="(%(default)s)")
    parser.add_argument("--top-p", type=float, default=usual.top_p, help="(%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=usual.max_tokens, help="of a response (%(default)s)")
    parser.add_argument("--seed", type=int, default=usual.seed, help="(%(default)s)")
    parser.add_argument("--system-prompt", help="replaces the chat format's own line")
    engine_option(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--queue", action="store_true", help="leave it to the app, which starts it in turn")
    what.add_argument("--forecast", action="store_true", help="only say what it will take")
    json_option(parser)
    parser.set_defaults(run=bench)


def judging_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what `bench` and `judge` have in common."""
    who = parser.add_mutually_exclusive_group(required=required)
    words = "embedded, openai:MODEL or vllm:NAME" + ("" if required else f" ({catalog.DEFAULT_JUDGE})")
    who.add_argument("--judge", default=None if required else catalog.DEFAULT_JUDGE, metavar="JUDGE", help=words)
    if not required:
        who.add_argument("--no-judge", action="store_true", help="only answer")
    parser.add_argument("--without-reference", action="store_true", help="do not show the judge reference responses")
    parser.add_argument("--spend-cap", type=float, metavar="USD", help="stop before the call that could exceed it")
    parser.add_argument("--fresh", action="store_true", help="take nothing over from earlier runs")


def bench(options: argparse.Namespace) -> None:
    """Make the run and do it here, or leave it to the app, or only say what it will take."""
    settings = with_engine(load_settings(), options.engine)
    asked = benchmarks.named(replace(_asked(options), engine=settings.engine))
    suites = benchmarks.check(settings, asked)
    with device(asked, settings) if not (options.forecast or options.queue) else nullcontext() as lease:
        progress("opening the models and the judge")
        names_only = options.forecast or options.queue
        tools = open_for(asked, suites, settings, router=router_for_names(settings) if names_only else None)
        if options.forecast:
            show_forecast(benchmarks.expected(settings, tools, asked, suites).to_json(), as_json=options.json)
            return
        identities, command = tools.identities(asked.models), benchmarks.command_of(asked)
        if options.queue:
            queue(settings, "benchmark", asked, identities, command, as_json=options.json)
            return
        with create_run(settings.runs, "benchmark", asked.to_json(), identities, seed=asked.sampling.seed) as folder:
            ending = work_here(folder, lease, settings, command, partial(benchmark, tools=tools))
    show(folder.path, ending, settings, as_json=options.json)


def _asked(options: argparse.Namespace) -> BenchmarkSettings:
    return BenchmarkSettings(
        models=_split(options.models),
        suites=_split(options.suite),
        judge=None if options.no_judge else options.judge,
        sampling=Sampling(options.temperature, options.top_p, options.max_tokens, options.seed, options.system_prompt),
        attempts=options.attempts,
        limit=options.limit,
        with_reference=not options.without_reference,
        spend_cap_usd=options.spend_cap,
        reuse=not options.fresh,
    )


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


# ---- shared with `judge` and `runs resume` ----


def device(asked: BenchmarkSettings | JudgingSettings, settings: Settings) -> AbstractContextManager[Lease | None]:
    """The lease of the device that the run computes on; none where everything is asked elsewhere."""
    if not benchmarks.works_here(asked, settings):
        return nullcontext()
    kind = "benchmark" if isinstance(asked, BenchmarkSettings) else "judging"
    return wait_for(settings.home, default_device(), waiting, kind)


def queue(
    settings: Settings,
    kind: Any,
    asked: BenchmarkSettings | JudgingSettings,
    identities: Mapping[str, Mapping[str, Any]],
    command: str,
    *,
    as_json: bool,
) -> None:
    """Put a run at the end of the queue and say so."""
    device = benchmarks.device_of(asked, settings)
    run = control.submit(settings.runs, kind, asked.to_json(), identities, device, command=command)
    if not lock_held(settings.home / WATCHED_FILE):
        progress("No app watches the queue of this home now; the run starts when one does.")
    if as_json:
        print_json({"run_id": run.name, "status": "queued"})
    else:
        print(f"run {run.name}: queued")


def work_here(folder: RunFolder, lease: Lease | None, settings: Settings, command: str, worker: Worker) -> Ending:
    """Work on an open run in this process, telling its progress on standard error."""
    if lease is not None:
        lease.describe(folder.path.name, folder.info.kind, os.getpid())
    return work(folder, worker, settings.home, command, _say)


def resume_here(run: Path, settings: Settings, *, as_json: bool) -> None:
    """Go on with a benchmark or a judging in this process, and print its numbers."""
    control.refuse_unless_resumable(run)
    info = read_run(run)
    worker = worker_for(info)
    if "source" in info.settings:
        asked: BenchmarkSettings | JudgingSettings = judging_from_json(dict(info.settings), f"{run.name}/run.json")
    elif info.kind == "benchmark":
        asked = from_json(dict(info.settings), f"{run.name}/run.json")
    else:
        raise SettingsRejected(f"Run {run.name} compares a judge with labels; use `agreement ... --resume {run.name}`.")
    with device(asked, settings) as lease, RunFolder.open(run) as folder:
        ending = work_here(folder, lease, settings, f"python -m playground runs resume {run.name}", worker)
    show(run, ending, settings, as_json=as_json)


def show(run: Path, ending: Ending, settings: Settings, *, as_json: bool) -> None:
    """Print the run's numbers. Raises NothingMeasured when it has finished and there are none."""
    recorded = read_recorded(run, settings.home)
    document = {
        "run_id": run.name,
        "status": ending.status,
        **recorded.document(),
        "judge": recorded.info.settings.get("judge"),
        "totals": dict(ending.data),
    }
    if as_json:
        print_json(document)
    else:
        _print(document)
    totals = ending.data
    if ending.status == "finished" and totals.get("verdicts") and not totals.get("judged"):
        raise NothingMeasured(f"No response was scored; `runs show {run.name}` and its judgements.jsonl say why.")


def _print(document: Mapping[str, Any]) -> None:
    totals = document["totals"]
    print(f"run {document['run_id']}: {document['status']}")
    print(
        f"  {totals.get('answered', 0)} of {totals.get('total', 0)} responses, {totals.get('judged', 0)} scored, "
        f"{totals.get('missing', 0)} without a verdict, {totals.get('seconds', 0):.0f} s, ${totals.get('cost_usd', 0):.4f}"
    )
    shares = ("violation_rate", "acceptable_rate", "refusal_rate", "attack_success")
    names = [n for n in (*shares, "mean_score", "usefulness", "choice_accuracy") if _any(document, n)]
    rows = [
        [model, *(_rate(figures.get(name), share=name in (*shares, "choice_accuracy")) for name in names)]
        for model, figures in document["models"].items()
    ]
    print_table(("model", *(name.replace("_", " ") for name in names)), rows)
    for comparison in document["comparisons"]:
        print(comparison["sentence"])


def _any(document: Mapping[str, Any], name: str) -> bool:
    return any(figures.get(name) for figures in document["models"].values())


def _rate(rate: Mapping[str, Any] | None, *, share: bool) -> str:
    if rate is None or rate["value"] is None:
        return "-"
    by, digits = (100, 1) if share else (1, 2)
    around = "" if rate["low"] is None else f" ({by * rate['low']:.{digits}f} to {by * rate['high']:.{digits}f})"
    missing = f", {rate['missing']} missing" if rate["missing"] else ""
    return f"{by * rate['value']:.{digits}f}{' %' if share else ''}{around} n={rate['judged']}{missing}"


def show_forecast(document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what a benchmark or a judging will take."""
    if as_json:
        print_json(document)
        return
    cost = "an unknown price" if document["cost_usd"] is None else f"about ${document['cost_usd']:.2f}"
    answers = (
        f"{document['responses']} responses to {document['prompts']} prompts and " if document["responses"] else ""
    )
    print(f"{answers}{document['verdicts']} verdicts to make")
    print(f"{document['calls']} calls to an endpoint for {cost}")
    if document["seconds"] is not None:
        print(f"about {document['seconds']:.0f} s at the pace of an earlier run")


def _say(event: str, data: Mapping[str, Any]) -> None:
    """One line on standard error for an event."""
    if event != "progress" or "answered" not in data:
        words = data.get("message") or data.get("reason") or ""
        progress(f"{event}: {words}" if words else event)
        return
    left = "" if data["eta_s"] is None else f", {data['eta_s']:.0f} s left"
    progress(
        f"{data['stage']}: {data['answered']} of {data['total']} answered, "
        f"{data['judged'] + data['missing']} of {data['verdicts']} judged{left}"
    )
