"""The loss on rows that are not trained on, by suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from training import distributed
from training.mix import Example
from training.model import summed_loss, trained_tokens
from training.plan import collate


@torch.no_grad()
def mean_loss(
    model: Any,
    examples: Sequence[Example],
    rows: int,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """Mean loss in nats per trained token, computed `rows` at a time; None when told to stop before the end.

    Rows are sorted by length, so that little padding is computed. With several processes each computes its part; all
    must call this together.
    """
    was_training = model.training
    model.eval()
    ordered = sorted(examples, key=lambda e: len(e.ids))
    batches = [ordered[n : n + rows] for n in range(0, len(ordered), rows)]
    count = distributed.processes()
    total, tokens = 0.0, 0.0
    try:
        for start in range(0, len(batches), count):
            if distributed.any_of(should_stop(), device):
                return None
            # A process without a batch of its own repeats one uncounted: under FSDP all must take part.
            mine = start + distributed.rank() % count
            counted = mine < len(batches)
            batch = collate(batches[mine if counted else start])
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            loss = float(summed_loss(model, batch))
            if counted:
                total, tokens = total + loss, tokens + trained_tokens(batch)
    finally:
        model.train(was_training)
    total, tokens = distributed.summed([total, tokens], device)
    return total / tokens


def held_out_losses(
    model: Any,
    suites: Mapping[str, Sequence[Example]],
    rows: int,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """`mean_loss` by suite; None when told to stop before the end."""
    losses: dict[str, float] = {}
    for suite, examples in suites.items():
        loss = mean_loss(model, examples, rows, device, should_stop)
        if loss is None:
            return None
        losses[suite] = loss
    return losses
