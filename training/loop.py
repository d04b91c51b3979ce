"""The training loop: transformers' Trainer on a planned order of rows, with checkpoints that are whole or absent.

Trainer brings the optimiser, the schedule, clipping, accumulation, several processes and the state a resumed run needs.
Ours are the loss, the order of the rows, what is reported on the way, and how it stops.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from evaluation.errors import SettingsRejected, UserFacingError
from training import distributed
from training.base import precision_of
from training.checkpoints import STAGING, disk_told, publish, step_of
from training.mix import Mix
from training.model import summed_loss
from training.plan import Plan, PlannedRows, planned_batch
from training.settings import SftSettings

Report = Callable[[str, dict[str, Any]], None]  # event name, its data
NOTES = "progress.json"  # in a checkpoint: what is ours beside the Trainer's state
RATE_STEPS = 20  # tokens/s is taken over so many steps


class LossNotFinite(UserFacingError, FloatingPointError):
    """The loss or its gradient is no number any more; no further step can mend that."""


class Stopped(Exception):
    """Told to stop before the first step: there is nothing to save."""


@dataclass
class Progress:
    """What a run remembers over interruptions, beside weights and optimiser."""

    mix_sha256: str
    settings_sha256: str
    loss_before: dict[str, float] | None = None
    seconds: float = 0.0  # spent in steps
    tokens: int = 0  # seen in steps, padding not counted


def fresh_progress(mix: Mix, settings: SftSettings) -> Progress:
    """The progress of a run that has made no step."""
    text = json.dumps(settings.to_json(), sort_keys=True)
    return Progress(mix.sha256(), hashlib.sha256(text.encode()).hexdigest())


def read_progress(checkpoint: Path, fresh: Progress) -> Progress:
    """The progress noted in a checkpoint. Raises SettingsRejected when it is of another run."""
    noted = Progress(**json.loads((checkpoint / NOTES).read_text(encoding="utf-8")))
    for what, then, now in (
        ("rows", noted.mix_sha256, fresh.mix_sha256),
        ("settings", noted.settings_sha256, fresh.settings_sha256),
    ):
        if then != now:
            raise SettingsRejected(
                f"The {what} have changed since step {step_of(checkpoint)} was saved; put them back or start a new run."
            )
    return noted


@dataclass
class Watch:
    """What happens between steps. `check(step)` measures and samples, and says whether it got to its end.

    `check(0)` is about the base: with an adapter it comes after the first step, with the adapter switched off, so
    that the first step is seen at once.
    """

    settings: SftSettings
    plan: Plan
    progress: Progress
    report: Report
    should_stop: Callable[[], bool]
    check: Callable[[int], bool]
    device: torch.device
    stopped: bool = False
    _mark: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)
    _recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RATE_STEPS))

    def began(self) -> None:
        """Training starts or goes on."""
        if self.progress.loss_before is None and self.settings.method == "full" and not self.check(0):
            raise Stopped
        self._mark = self._saved = time.monotonic()

    def stepped(self, step: int, logs: dict[str, float]) -> None:
        """A step was made: report it. Raises LossNotFinite."""
        seconds = time.monotonic() - self._mark
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs[name]):
                what = "loss" if name == "loss" else "gradient"
                raise LossNotFinite(
                    f"The {what} is {logs[name]} at step {step}; lower learning_rate and start a new run."
                )
        tokens = self.plan.tokens[step - 1]
        self.progress.seconds += seconds
        self.progress.tokens += tokens
        self._recent.append((tokens, seconds))
        rate = sum(n for n, _ in self._recent) / sum(s for _, s in self._recent)
        self.report(
            "metric",
            {
                "step": step,
                "steps": self.plan.steps,
                "loss": logs["loss"],
                "lr": logs["learning_rate"],
                "tokens_per_s": rate,
                "tokens": self.progress.tokens,
                "eta_s": sum(self.plan.tokens[step:]) / rate,
            },
        )

    def after(self, step: int) -> tuple[bool, bool]:
        """Checks that are due after the step. Returns whether to save, and whether to stop."""
        if self.progress.loss_before is None and self.settings.method != "full":
            self.check(0)
        if step in self._check_steps():
            self.check(step)
        by_step = bool(self.settings.save_steps) and step % self.settings.save_steps == 0
        by_time = distributed.is_first() and time.monotonic() - self._saved >= self.settings.save_seconds
        # One exchange for both; any process may have been told to stop, but one clock decides.
        stop, save = distributed.summed([float(self.should_stop()), float(by_time)], self.device)
        self._mark = time.monotonic()
        last = step == self.plan.steps
        self.stopped = bool(stop) and not last
        return self.stopped or ((by_step or bool(save)) and not last), self.stopped

    def saved(self) -> None:
        """A checkpoint was written."""
        self._mark = self._saved = time.monotonic()

    def _check_steps(self) -> set[int]:
        """Evenly spread, neither the first nor the last step: those are measured anyway."""
        parts = self.settings.checks + 1
        return {self.plan.steps * n // parts for n in range(1, parts)} - {0, self.plan.steps}


def make_trainer(model: Any, mix: Mix, watch: Watch, out: Path, arguments: TrainingArguments) -> Trainer:
    """A Trainer that goes through the plan once and writes its checkpoints under `out`.

    Raises SettingsRejected for `shard` where weights cannot be sharded.
    """

    class Between(TrainerCallback):  # type: ignore[misc]  # transformers carries no types
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.began()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs is None or "loss" not in logs:
                return
            watch.stepped(state.global_step, logs)
            control.should_save, stop = watch.after(state.global_step)
            control.should_training_stop = control.should_training_stop or stop

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.saved()

    class ResponseTrainer(Trainer):  # type: ignore[misc]
        loss_is_scaled_for_ga = True  # over all tokens of the step at once, below

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            # DDP and FSDP take the mean of the processes' gradients; theirs is a sum over the step's tokens.
            return summed_loss(model, inputs) * (self.accelerator.num_processes / num_items_in_batch)

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            if not self.is_fsdp_enabled:  # which saves its own gathered weights, and goes on from those
                super().save_model(output_dir, _internal_call)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            step, staged = self.state.global_step, out / STAGING
            with disk_told(out, staged):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if distributed.is_first():
                    written = staged / f"checkpoint-{step}"
                    # A pickle; the run folder has the settings.
                    (written / "training_args.bin").unlink(missing_ok=True)
                    (written / NOTES).write_text(json.dumps(vars(watch.progress)), encoding="utf-8")
                    publish(written, out, step)
            self.accelerator.wait_for_everyone()

    trainer = ResponseTrainer(
        model=model,
        args=arguments,
        train_dataset=PlannedRows(mix, watch.plan),
        data_collator=planned_batch,
        callbacks=[Between()],
    )
    if watch.settings.shard and not trainer.is_fsdp_enabled:
        raise SettingsRejected("shard is true, which accelerate does on GPUs only; set it false here.")
    # Whatever the model's own forward takes, ours divides by the tokens of the whole step.
    trainer.model_accepts_loss_kwargs = True
    trainer._loss_shifts_labels = True
    trainer.remove_callback(PrinterCallback)
    return trainer


def training_arguments(settings: SftSettings, plan: Plan, out: Path) -> TrainingArguments:
    """The Trainer's arguments; making them starts torch.distributed where there are several processes.

    Raises SettingsRejected for `shard` without several processes.
    """
    count = distributed.processes()
    if settings.shard and count == 1:
        raise SettingsRejected(
            "shard is true, which needs several processes; start with torchrun or accelerate launch, or set it false."
        )
    gpu = torch.cuda.is_available()
    options: dict[str, Any] = {}
    if settings.min_learning_rate:
        options |= {"lr_scheduler_kwargs": {"min_lr": settings.min_learning_rate}}
    if settings.shard:
        recompute = settings.gradient_checkpointing
        options |= {"fsdp": True, "fsdp_config": {"activation_checkpointing": recompute}}
    elif settings.gradient_checkpointing:
        options |= {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False}}
    if count > 1 and not gpu:
        options |= {"ddp_backend": "gloo"}
    arguments = TrainingArguments(
        output_dir=str(out / STAGING),
        num_train_epochs=1,  # of the plan, which holds the run's own
        per_device_train_batch_size=1,  # micro-batch
        gradient_accumulation_steps=plan.per_step // count,
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine_with_min_lr" if settings.min_learning_rate else "cosine",
        warmup_steps=math.ceil(settings.warmup_ratio * plan.steps),
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=1.0,
        seed=settings.seed,
        bf16=precision_of(settings.precision) is torch.bfloat16,
        use_cpu=not gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would show the mean of earlier losses in place of a broken one
        save_strategy="no",  # the watch says when
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=gpu,
        ddp_find_unused_parameters=False,
        **options,
    )
    if arguments.n_gpu > 1:
        # One process works on one GPU. The Trainer would take micro-batches for all that it sees, and wrap the model in
        # DataParallel; it sets this itself where a model is spread over several.
        arguments._n_gpu = 1
    return arguments
