"""Supervised fine-tuning of a LoRA adapter.

transformers' Trainer runs the loop; ours are the mix, the loss that projects only trained tokens, and the
adapter folder with its card.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation.errors import SettingsRejected
from training.chat import ChatFormat
from training.embedded import ensure_embedded, weights_sha256
from training.loss import frozen_head_loss
from training.mix import Example, LoadSuite, MixSummary, build_mix, held_out_examples, refuse_overlap, summarise
from training.settings import SftSettings

Report = Callable[[str, dict[str, Any]], None]  # event name, its data


@dataclass(frozen=True)
class TrainResult:
    """What a finished training says of itself. Losses are nats per trained token, by held-out suite."""

    adapter: Path
    steps: int
    loss_before: dict[str, float]
    loss_after: dict[str, float]
    tokens_per_s: float  # non-padding tokens over the wall time of the loop
    seconds: float
    mix: list[MixSummary]
    base_sha256: str


def train(settings: SftSettings, home: Path, load: LoadSuite, out: Path, report: Report) -> TrainResult:
    """Train and save `out/adapter`. Calls `report` with progress and metric events as it goes.

    Raises SettingsRejected before any model is loaded when the rows cannot be used, and
    FloatingPointError when the loss stops being finite.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    set_seed(settings.seed)
    base_folder = _base_folder(settings.base, home, report)
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    chat = ChatFormat(tokenizer)
    examples = build_mix(settings.sources, load, chat, settings.max_length, settings.seed)
    held_out = {suite: held_out_examples(suite, load, chat, settings.max_length) for suite in settings.held_out}
    refuse_overlap(examples, held_out)
    mix = summarise(examples)
    report("progress", {"stage": "mix", "mix": [vars(part) for part in mix]})

    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16)
    if getattr(model.config, "final_logit_softcapping", None):
        raise SettingsRejected(
            f"Base {settings.base} caps its logits, which this trainer's loss does not do; choose another."
        )
    lora = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, lora)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)

    loss_before = {suite: mean_loss(model, rows, settings.batch_size) for suite, rows in held_out.items()}
    report("metric", {"stage": "before", "held_out_loss": loss_before})
    started = time.monotonic()
    steps = _run_trainer(model, examples, settings, out, report)
    seconds = time.monotonic() - started
    loss_after = {suite: mean_loss(model, rows, settings.batch_size) for suite, rows in held_out.items()}
    report("metric", {"stage": "after", "held_out_loss": loss_after})

    adapter = out / "adapter"
    save_adapter(model, adapter)
    return TrainResult(
        adapter=adapter,
        steps=steps,
        loss_before=loss_before,
        loss_after=loss_after,
        tokens_per_s=sum(part.tokens for part in mix) * settings.epochs / seconds,
        seconds=seconds,
        mix=mix,
        base_sha256=weights_sha256(base_folder),
    )


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter in PEFT's format, its factors in bfloat16, without a trace of this machine's paths."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    factors = {
        name: t.detach().to("cpu", torch.bfloat16).contiguous() for name, t in get_peft_model_state_dict(model).items()
    }
    save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"]
    config.base_model_name_or_path = None  # the operator chooses the base; a path of this machine helps nobody
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(folder)


def token_loss(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    """Summed loss over the trained tokens of a batch, and how many there are.

    batch: input_ids, attention_mask, labels, each (rows, length); labels are -100 where no loss is carried.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = base.get_decoder()(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state
    targets = batch["labels"][:, 1:]
    carries = targets != -100
    weight = base.get_output_embeddings().weight
    return frozen_head_loss(hidden[:, :-1][carries], weight, targets[carries]), int(carries.sum())


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Pad on the right to the longest row."""
    longest = max(len(e.ids) for e in examples)
    pad = [longest - len(e.ids) for e in examples]
    labels = [
        [i if t else -100 for i, t in zip(e.ids, e.trained_on, strict=True)] + [-100] * p
        for e, p in zip(examples, pad, strict=True)
    ]
    return {
        "input_ids": torch.tensor([[*e.ids, *[pad_id] * p] for e, p in zip(examples, pad, strict=True)]),
        "attention_mask": torch.tensor([[1] * len(e.ids) + [0] * p for e, p in zip(examples, pad, strict=True)]),
        "labels": torch.tensor(labels),
    }


@torch.no_grad()
def mean_loss(model: Any, examples: Sequence[Example], batch_size: int) -> float:
    """Mean loss in nats per trained token. Rows are sorted by length so that little padding is computed."""
    was_training = model.training
    model.eval()
    ordered = sorted(examples, key=lambda e: len(e.ids))
    total, tokens = 0.0, 0
    for start in range(0, len(ordered), batch_size):
        batch = collate(ordered[start : start + batch_size], pad_id=0)
        summed, counted = token_loss(model, {name: t.to(model.device) for name, t in batch.items()})
        total, tokens = total + float(summed), tokens + counted
    model.train(was_training)
    return total / tokens


def _base_folder(base: str, home: Path, report: Report) -> Path:
    if base == "embedded":
        return ensure_embedded(home, lambda words: report("progress", {"stage": "base", "message": words}))
    folder = Path(base)
    if not (folder / "config.json").is_file():
        raise SettingsRejected(f"base is {base}; it must be embedded or a folder with a transformers model.")
    return folder


def _run_trainer(model: Any, examples: list[Example], settings: SftSettings, out: Path, report: Report) -> int:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class ResponseLossTrainer(Trainer):  # type: ignore[misc]  # transformers carries no types
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            summed, tokens = token_loss(model, inputs)
            return summed / (num_items_in_batch if num_items_in_batch is not None else tokens)

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs is None or "loss" not in logs:
                return
            if not math.isfinite(logs["loss"]):
                raise FloatingPointError(
                    f"The loss is {logs['loss']} at step {state.global_step}; lower learning_rate."
                )
            report(
                "metric",
                {
                    "step": state.global_step,
                    "steps": state.max_steps,
                    "loss": logs["loss"],
                    "lr": logs["learning_rate"],
                },
            )

    steps_an_epoch = math.ceil(len(examples) / settings.batch_size)
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warmup_ratio * steps_an_epoch * settings.epochs),
        max_grad_norm=1.0,
        seed=settings.seed,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="group_by_length",
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would show the mean of earlier losses in place of a broken one
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows = [{"input_ids": e.ids, "example": e} for e in examples]  # the sampler reads input_ids for lengths
    trainer = ResponseLossTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=lambda batch: collate([row["example"] for row in batch], pad_id=0),
        callbacks=[Reporter()],
    )
    trainer.remove_callback(_printer())
    trainer.train()
    return int(trainer.state.global_step)


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
