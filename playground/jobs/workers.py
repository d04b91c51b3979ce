"""The kinds of work that a run can be. `python -m playground work` looks a run's kind up here."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from evaluation.collector import without_collector
from evaluation.disk import sync_folder, told_to_people, write_json
from evaluation.errors import SettingsRejected
from evaluation.journal import RunInfo, RunKind, utc_now
from evaluation.prompts.graded import GRADED_FILE, everyday_answers, read_graded
from evaluation.prompts.suites import load_suite, sample_suites
from playground.jobs.work import Assignment, Outcome, Worker
from playground.settings import load_settings
from training.embedded import ensure_embedded, file_sha256
from training.lean import without_unused
from training.settings import SftSettings, settings_from_json

JUDGE_PRESET = "embedded-judge"
ORIGIN_FILE = "origin.json"  # beside an adapter of one's own: when and where it came from


def worker_for(info: RunInfo) -> Worker:
    """The worker of the run's kind. Raises SettingsRejected when this program has none."""
    if info.kind == "training" and info.settings.get("preset") == JUDGE_PRESET:
        return fit_judge
    if info.kind not in WORKERS:
        raise SettingsRejected(f"Run {info.run_id} is a {info.kind}; only {', '.join(WORKERS)} can be worked on here.")
    return WORKERS[info.kind]


def follower_for(info: RunInfo) -> Callable[[Path, Path], None]:
    """What every process but the first does with (run folder, home) under torchrun. Raises SettingsRejected."""
    if info.kind != "training" or info.settings.get("preset") == JUDGE_PRESET:
        raise SettingsRejected(f"Run {info.run_id} is work for one process; start it without torchrun.")

    def follow_training(path: Path, home: Path) -> None:
        from training.sft import follow

        lend_hub_token()
        follow(settings_from_json(dict(info.settings)), home, lambda name: load_suite(name, home).prompts, path)

    return follow_training


def train_adapter(run: Assignment) -> Outcome:
    """Fine-tune an adapter, and offer it under its name when it is for the embedded base."""
    from training.card import write_card

    with without_unused(), without_collector():
        from training.sft import train

    sft = settings_from_json(dict(run.info.settings))
    lend_hub_token()
    result = train(
        sft,
        run.home,
        lambda name: load_suite(name, run.home).prompts,
        run.path,
        run.report,
        resume=run.resume,
        should_stop=run.should_stop,
    )
    write_card(result, sft, run.command)
    data = {
        "adapter": str(result.adapter) if result.adapter else None,
        "model": str(result.model) if result.model else None,
        "steps": result.steps,
        "loss_before": result.loss_before,
        "loss_after": result.loss_after,
        "tokens_per_s": result.tokens_per_s,
        "seconds": result.seconds,
        "model_id": None,
    }
    if result.stopped:
        return Outcome(data, stopped=True, step=result.steps)
    if sft.base == "embedded" and result.adapter is not None:
        if _offer(result.adapter, adapter_folder(run.home, sft)):
            data["model_id"] = sft.name
        else:
            words = f"There is another adapter {sft.name} by now; this one stays in {result.adapter}."
            run.report("warning", {"message": words})
    return Outcome(data)


def lend_hub_token() -> None:
    """Let a training in this process find the token that stands in .env: the hub's client looks into the environment alone."""
    token = load_settings().hf_token
    if token is not None:
        os.environ.setdefault("HF_TOKEN", token.get_secret_value())


def fit_judge(run: Assignment) -> Outcome:
    """Fit the embedded judge on the graded sample responses. Stopped half-way, it leaves nothing and begins anew."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.judge_head import train_judge
    from training.judge_terms import FittingStopped

    graded = read_graded(GRADED_FILE, {p.id: p for suite in sample_suites().values() for p in suite.prompts})
    graded += everyday_answers()
    base = ensure_embedded(run.home, lambda words: run.report("progress", {"stage": "base", "message": words}))
    head = run.path / "embedded-head.safetensors"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    try:
        agreement = train_judge(graded, model, tokenizer, run.report, head, should_stop=run.should_stop)
    except FittingStopped:
        return Outcome(stopped=True)
    return Outcome({"head": str(head), "agreement": agreement})


def run_benchmark(run: Assignment) -> Outcome:
    """Let models answer suites, and judge what they answer."""
    from playground.jobs.benchmark_work import benchmark

    return benchmark(run)


def run_judging(run: Assignment) -> Outcome:
    """Judge Responses that exist."""
    from playground.jobs.benchmark_work import judge_again

    return judge_again(run)


WORKERS: Mapping[RunKind, Worker] = {"training": train_adapter, "benchmark": run_benchmark, "judging": run_judging}


def adapter_folder(home: Path, sft: SftSettings) -> Path:
    """Where an adapter of the embedded base is offered from."""
    return home / "adapters" / sft.name


def refuse_taken_name(home: Path, sft: SftSettings) -> None:
    """Raise SettingsRejected when there is an adapter of that name already."""
    folder = adapter_folder(home, sft)
    if folder.exists():
        raise SettingsRejected(f"There is already an adapter {sft.name} in {folder.parent}; rename one of the two.")


def _offer(adapter: Path, destination: Path) -> bool:
    """Copy the adapter to where the catalogue looks; it appears there whole or not at all.

    Returns whether it is there now, which it also is when an earlier process of this run brought it. Raises
    DiskRefused.
    """
    if destination.exists():
        weights = "adapter_model.safetensors"
        ours, theirs = adapter / weights, destination / weights
        return theirs.is_file() and file_sha256(ours) == file_sha256(theirs)
    staged = destination.parent / f".new-{adapter.parent.name}"
    with told_to_people(destination):
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(adapter, staged)
        write_json(staged / ORIGIN_FILE, {"at": utc_now(), "run_id": adapter.parent.name})
        try:
            staged.rename(destination)
        except OSError as error:
            shutil.rmtree(staged)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return False  # somebody was faster
        sync_folder(destination.parent)
    return True
