"""The card beside the weights: what they were made from, how, and what came out."""

from __future__ import annotations

import hashlib
from pathlib import Path

from training.settings import SftSettings
from training.sft import TrainResult


def write_card(result: TrainResult, settings: SftSettings, command: str) -> Path | None:
    """Write README.md beside the weights and return its path; None where a run stopped before it had any."""
    folder = result.adapter or result.model
    if folder is None:
        return None
    mix = "\n".join(f"| {part.suite} | {part.rows} | {part.tokens} | {part.trained_tokens} |" for part in result.mix)
    losses = "\n".join(
        f"| {suite} | {_loss(result.loss_before, suite)} | {_loss(result.loss_after, suite)} |"
        for suite in settings.held_out
    )
    hashes = "\n".join(
        f"- {path.name} sha256: `{hashlib.sha256(path.read_bytes()).hexdigest()}`"
        for path in sorted(folder.glob("*.safetensors"))
    )
    stopped = "It was stopped before its end.\n\n" if result.stopped else ""
    text = f"""# {_title(settings)}

{_what(settings)}
It follows the terms of its base model and the licences of the data it was trained on.

Made by `{command}`

{stopped}## Data (rows as seen in one epoch, repeats counted)
| suite | rows | tokens | tokens with loss |
|---|---|---|---|
{mix}

## Settings
epochs {settings.epochs:g}, learning rate {settings.learning_rate:g} (cosine to {settings.min_learning_rate:g}, warm-up {settings.warmup_ratio:g}), {settings.batch_size} rows a step,
{result.steps} steps, dropout {settings.lora_dropout:g}, seed {settings.seed}; loss on the response only. All of them: `settings.json` of the run.

## Held-out loss, nats per response token, at most {settings.held_out_rows} rows each
| suite | before | after |
|---|---|---|
{losses}

## Hashes
- base weights sha256: `{result.base_sha256}`
{hashes}

Trained in {result.seconds:.0f} s at {result.tokens_per_s:.0f} tokens/s.
"""
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def _title(settings: SftSettings) -> str:
    return f"{'Model' if settings.method == 'full' else 'Adapter'} `{settings.name}`"


def _what(settings: SftSettings) -> str:
    if settings.method == "full":
        return f"Every weight of base `{settings.base}` was trained; saved in bfloat16."
    four_bit = ", trained on the base in 4 bits" if settings.method == "qlora" else ""
    return (
        f"LoRA adapter (rank {settings.lora_rank}, alpha {settings.lora_alpha}, every linear layer but the head) "
        f"for base `{settings.base}`{four_bit}."
    )


def _loss(losses: dict[str, float], suite: str) -> str:
    return f"{losses[suite]:.4f}" if suite in losses else "not measured"
