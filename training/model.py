"""The model being trained: its adapter, and a forward pass that returns the loss over response tokens alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation.errors import UserFacingError
from training.base import load_base, precision_of
from training.settings import SftSettings
from training.trained_head import head_loss

NO_LOSS = -100  # a label that carries none, as in torch and transformers


def load_trainable(settings: SftSettings, folder: Path) -> Any:
    """The base model in `folder`, ready to be trained by the method of `settings`. Raises SettingsRejected.

    Anything but float32 runs under `autocast`, as the Trainer has it in every forward pass.
    """
    model = with_response_loss(load_base(settings, folder))
    model.config.use_cache = False  # generation asks for it itself
    if settings.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",  # PEFT leaves the head out
        task_type="CAUSAL_LM",
    )
    model.requires_grad_(False)
    tuned = get_peft_model(model, lora)
    if precision_of(settings.precision) is not torch.float32:
        for module in tuned.modules():
            if hasattr(module, "cast_input_dtype_enabled"):
                # PEFT would copy each layer's input to float32, which autocast then copies back: the same numbers.
                module.cast_input_dtype_enabled = False
    return tuned


def with_response_loss(model: Any) -> Any:
    """Change `model` in place: called with `labels`, it returns their summed loss; without, what it always did.

    The loss must come out of the model's own forward pass, because that is where DDP and FSDP gather weights and arm
    the exchange of gradients. No logits are made for tokens that carry no loss.
    """
    plain = model.forward

    @functools.wraps(plain)
    def forward(*arguments: Any, labels: Tensor | None = None, **options: Any) -> Any:
        if labels is None:
            return plain(*arguments, **options)
        hidden = model.get_decoder()(input_ids=options["input_ids"], use_cache=False).last_hidden_state
        targets = labels[:, 1:]
        carries = targets != NO_LOSS
        return head_loss(hidden[:, :-1][carries], model.get_output_embeddings().weight, targets[carries])

    model.forward = forward
    return model


def summed_loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Summed loss in nats over the trained tokens of a batch, a float32 scalar.

    model: from `load_trainable`, wrapped for several processes or not. batch: input_ids and labels, each
    (rows, length), padded on the right. No attention mask is needed: no token looks to its right, so padding there is
    never seen, and without a mask attention takes its faster path.
    """
    loss: Tensor = model(input_ids=batch["input_ids"], labels=batch["labels"])
    return loss


def trained_tokens(batch: dict[str, Tensor]) -> int:
    """How many tokens of a batch carry loss. The first of a row cannot: nothing predicts it."""
    return int((batch["labels"][:, 1:] != NO_LOSS).sum())


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """The arithmetic of a run for what is computed beside the training loop."""
    return torch.autocast(device.type, dtype=precision, enabled=precision is not torch.float32)


@contextmanager
def memory_told() -> Iterator[None]:
    """Turn torch's error for a full GPU into one line with a next step. Raises UserFacingError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserFacingError(
            f"The GPU's memory ran out ({str(error).splitlines()[0]}). Lower micro_batch_size or max_length, or set "
            "gradient_checkpointing, and start a new run."
        ) from error
