"""The card beside an adapter: what it was made from, how, and what came out."""

from __future__ import annotations

import hashlib
from pathlib import Path

from training.settings import SftSettings
from training.sft import TrainResult


def write_card(result: TrainResult, settings: SftSettings, command: str) -> Path:
    """Write README.md into the adapter folder and return its path. Losses are nats per response token."""
    weights = result.adapter / "adapter_model.safetensors"
    mix = "\n".join(f"| {part.suite} | {part.rows} | {part.tokens} | {part.trained_tokens} |" for part in result.mix)
    losses = "\n".join(
        f"| {suite} | {before:.4f} | {result.loss_after[suite]:.4f} |" for suite, before in result.loss_before.items()
    )
    text = f"""# Adapter `{settings.name}`

LoRA adapter (rank {settings.lora_rank}, alpha {settings.lora_alpha}, every linear layer but the head) for base `{settings.base}`.
It follows the terms of its base model and the licences of the data it was trained on.

Made by `{command}`

## Data (rows as seen in one epoch, repeats counted)
| suite | rows | tokens | tokens with loss |
|---|---|---|---|
{mix}

## Settings
epochs {settings.epochs:g}, learning rate {settings.learning_rate:g} (cosine, warm-up {settings.warmup_ratio:g}), {settings.batch_size} rows a step,
{result.steps} steps, dropout {settings.lora_dropout:g}, seed {settings.seed}; loss on the response only.

## Held-out loss, nats per response token
| suite | before | after |
|---|---|---|
{losses}

## Hashes
- base weights sha256: `{result.base_sha256}`
- adapter_model.safetensors sha256: `{hashlib.sha256(weights.read_bytes()).hexdigest()}`

Trained in {result.seconds:.0f} s at {result.tokens_per_s:.0f} tokens/s.
"""
    path = result.adapter / "README.md"
    path.write_text(text, encoding="utf-8")
    return path
