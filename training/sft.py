"""Supervised fine-tuning from settings to weights: the order of the work, each part of which has a file of its own."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.disk import write_json
from evaluation.types import Prompt
from training import distributed
from training.adapter import save_weights
from training.base import base_folder, check_method, load_tokenizer, precision_of
from training.chat import ChatFormat
from training.checkpoints import checkpoint_of, clear_staging, complete_checkpoints, step_of
from training.embedded import weights_sha256
from training.held_out import held_out_losses
from training.leaks import installed_tests
from training.loop import (
    Progress,
    Report,
    Stopped,
    Watch,
    fresh_progress,
    make_trainer,
    read_progress,
    training_arguments,
)
from training.mix import LoadSuite, Mix, MixSummary, build_mix
from training.model import autocast, load_trainable, memory_told
from training.plan import Plan, plan_run
from training.samples import asked_prompts, sample_responses
from training.settings import SftSettings

SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class TrainResult:
    """What a training says of itself. Losses are nats per trained token, by held-out suite.

    `stopped`: it was asked to stop, and has saved a checkpoint from which it can go on. Then `loss_after` is empty.
    `adapter` is None after full fine-tuning, which makes a `model`; both are None when it stopped before a step.
    """

    adapter: Path | None
    steps: int  # made so far
    loss_before: dict[str, float]
    loss_after: dict[str, float]
    tokens_per_s: float  # non-padding tokens over the time of the steps, checks and checkpoints left out
    seconds: float  # in steps
    mix: list[MixSummary]
    base_sha256: str
    stopped: bool = False
    model: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """All that is known before the model is loaded."""

    folder: Path  # of the base
    tokenizer: Any
    chat: ChatFormat
    mix: Mix
    asked: list[Prompt]  # answered on the way


def prepare(settings: SftSettings, home: Path, load: LoadSuite, report: Report) -> Prepared:
    """Find the base and the rows, and refuse what cannot be trained: seconds, once the base is there.

    Raises SettingsRejected, ImportRejected for a damaged suite, ModelUnavailable for a base that cannot be had.
    """
    check_method(settings)
    folder = base_folder(settings.base, home, lambda words: report("progress", {"stage": "base", "message": words}))
    tokenizer = load_tokenizer(folder)
    chat = ChatFormat(tokenizer)
    tests = installed_tests(home, [source.suite for source in settings.trained_sources])
    mix = build_mix(settings, load, chat, tests)
    for warning in mix.warnings:
        report("warning", {"message": warning})
    report("progress", {"stage": "mix", "mix": [vars(part) for part in mix.summary()]})
    return Prepared(folder, tokenizer, chat, mix, asked_prompts(home))


@memory_told()
def train(
    settings: SftSettings,
    home: Path,
    load: LoadSuite,
    out: Path,
    report: Report,
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train in the run folder `out`. Calls `report` with progress, metric and warning events as it goes.

    `resume` goes on from the newest checkpoint in `out`, exactly as if nothing had happened; steps made after it are
    made, and reported, again. Where there is none it begins anew. `should_stop` is asked after every step and every
    batch of a measurement. Under torchrun the first process calls this, the others `follow`.

    Raises SettingsRejected before any model is loaded when the rows cannot be used, LossNotFinite when the loss or
    its gradient stops being a number, DiskRefused when a checkpoint finds no room, UserFacingError when the GPU's memory
    runs out.
    """
    from transformers import set_seed

    if not distributed.is_first():
        report = _silent
    set_seed(settings.seed)
    ready = prepare(settings, home, load, report)
    checkpoints = out / "checkpoints"
    if distributed.is_first():
        checkpoints.mkdir(parents=True, exist_ok=True)
        clear_staging(checkpoints)
        write_json(out / SETTINGS_FILE, settings.to_json())
    plan = plan_run(ready.mix, settings, distributed.processes())
    arguments = training_arguments(settings, plan, checkpoints)
    progress = fresh_progress(ready.mix, settings)
    newest = _newest(checkpoints, arguments.device, resume)
    if newest:
        progress = read_progress(newest, progress)
    report("progress", {"stage": "model", "message": f"loading {settings.base}"})
    model = load_trainable(settings, ready.folder)
    run = _Run(settings, ready, plan, progress, report, should_stop)
    run.watch = Watch(settings, plan, progress, report, should_stop, run.check, arguments.device)
    run.trainer = make_trainer(model, ready.mix, run.watch, checkpoints, arguments)
    try:
        run.trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    except Stopped:
        return run.result(None, {})
    weights = save_weights(run.trainer, ready.tokenizer, out, settings.method)
    if distributed.is_first():
        clear_staging(checkpoints)
    return run.result(weights, {} if run.watch.stopped else run.finish())


def follow(settings: SftSettings, home: Path, load: LoadSuite, out: Path) -> None:
    """What every process but the first does under torchrun: its part of the work, and nothing that is seen.

    It does not hear signals: the first process does, and stops all of them at one step.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    train(settings, home, load, out, _silent, resume=True)


def _newest(checkpoints: Path, device: Any, resume: bool) -> Path | None:
    """The checkpoint to go on from, which the first process chooses: another may see the disk at another moment."""
    found = complete_checkpoints(checkpoints)[-1:]
    step = step_of(found[0]) if resume and found and distributed.is_first() else 0
    (agreed,) = distributed.summed([float(step)], device)
    return checkpoint_of(checkpoints, int(agreed)) if agreed else None


def _silent(event: str, data: dict[str, Any]) -> None:
    """Where the report of every process but the first goes."""


@dataclass
class _Run:
    """One training under way: what the checks between steps need to know."""

    settings: SftSettings
    ready: Prepared
    plan: Plan
    progress: Progress
    report: Report
    should_stop: Callable[[], bool]
    watch: Any = None
    trainer: Any = None

    def check(self, step: int) -> bool:
        """Measure the held-out loss and answer the test prompts; False when told to stop before the end.

        Step 0 is the base: an adapter is switched off for it.
        """
        losses = self._losses(self.should_stop, base=step == 0)
        if losses is None:
            return False
        if step == 0:
            self.progress.loss_before = losses
        self.report("metric", {"stage": "during" if step else "before", "step": step, "held_out_loss": losses})
        self._sample(step, base=step == 0)
        return True

    def finish(self) -> dict[str, float]:
        """The last check, which nothing interrupts: the work is done and only its result is to be told."""
        losses = self._losses(lambda: False, base=False)
        assert losses is not None
        self.report("metric", {"stage": "after", "step": self.plan.steps, "held_out_loss": losses})
        self._sample(self.plan.steps, base=False)
        return losses

    def result(self, weights: Path | None, losses: dict[str, float]) -> TrainResult:
        full = self.settings.method == "full"
        return TrainResult(
            adapter=None if full else weights,
            steps=int(self.trainer.state.global_step),
            loss_before=self.progress.loss_before or {},
            loss_after=losses,
            tokens_per_s=self.progress.tokens / self.progress.seconds if self.progress.seconds else 0.0,
            seconds=self.progress.seconds,
            mix=self.ready.mix.summary(),
            base_sha256=weights_sha256(self.ready.folder),
            stopped=weights is None or self.watch.stopped,
            model=weights if full else None,
        )

    def _losses(self, should_stop: Callable[[], bool], *, base: bool) -> dict[str, float] | None:
        with self._off(base):
            return held_out_losses(
                self.trainer.model_wrapped,
                self.ready.mix.held_out,
                self.settings.micro_batch_size,
                self.trainer.args.device,
                should_stop,
            )

    def _sample(self, step: int, *, base: bool) -> None:
        model = self.trainer.model
        with self._off(base), autocast(self.trainer.args.device, precision_of(self.settings.precision)):
            samples = sample_responses(model, self.ready.tokenizer, self.ready.chat, self.ready.asked)
        self.report("metric", {"stage": "samples", "step": step, "samples": samples})

    def _off(self, base: bool) -> contextlib.AbstractContextManager[None]:
        if not base or self.settings.method == "full":
            return contextlib.nullcontext()
        off: contextlib.AbstractContextManager[None] = self.trainer.accelerator.unwrap_model(
            self.trainer.model
        ).disable_adapter()
        return off
