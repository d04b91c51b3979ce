"""Cross-entropy over a large vocabulary without ever holding all logits.

Gemma's vocabulary has 262,144 entries: the logits of one 4,096-token batch would take 4 GB in float32. Only tokens
that carry loss are projected, in tiles of tokens x vocabulary that stay in the processor's cache, and each tile's share
of the gradient is taken at once. The softmax is normalised afterwards, with a running maximum: the way flash attention
(arXiv 2205.14135) does it, applied to a frozen output layer, as it is under LoRA.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# One tile of float32 logits is 2 MB: it fits in two cores' second-level cache. Whole rows of logits took 2.6 times
# as long on CPU, most of it waiting for memory. A GPU wants larger tiles.
TOKENS, ENTRIES = 256, 2048
TOKENS_GPU, ENTRIES_GPU = 2048, 16384


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        tokens, entries = (TOKENS_GPU, ENTRIES_GPU) if hidden.is_cuda else (TOKENS, ENTRIES)
        gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, hidden.shape[0], tokens):
            piece = slice(start, start + tokens)
            inputs, target_rows = hidden[piece].to(weight.dtype), weight[targets[piece]]
            highest, sums, pull = _softmax_pull(inputs, weight, entries, needs_pull=gradient is not None)
            target_logits = (inputs.float() * target_rows.float()).sum(dim=1, keepdim=True)
            total += (highest + sums.log() - target_logits).sum()
            if gradient is not None:
                gradient[piece] = (pull / sums - target_rows).to(gradient.dtype)
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None, None]:
        return (None if ctx.gradient is None else ctx.gradient * upstream), None, None


def _softmax_pull(inputs: Tensor, weight: Tensor, entries: int, needs_pull: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Highest logit and sum of exp(logit - highest), each (tokens, 1), and that exp times `weight`: (tokens, features)."""
    highest = inputs.new_full((inputs.shape[0], 1), -torch.inf, dtype=torch.float32)
    sums = torch.zeros_like(highest)
    pull = torch.zeros(inputs.shape, dtype=torch.float32, device=inputs.device)
    logits = torch.empty(inputs.shape[0], entries, dtype=torch.float32, device=inputs.device)
    for rows in torch.split(weight, entries):
        narrow = functional.linear(inputs, rows)
        higher = torch.maximum(highest, narrow.amax(dim=1, keepdim=True).float())
        tile = logits[:, : rows.shape[0]]
        tile.copy_(narrow).sub_(higher).exp_()
        shrink = (highest - higher).exp_()
        sums.mul_(shrink).add_(tile.sum(dim=1, keepdim=True))
        if needs_pull:
            pull.mul_(shrink).add_(tile.to(weight.dtype) @ rows)
        highest = higher
    return highest, sums, pull


def frozen_head_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats, a float32 scalar.

    hidden: (tokens, features), weight: (vocabulary, features), targets: (tokens,) token ids.
    """
    if weight.requires_grad:
        raise ValueError("frozen_head_loss gives the head no gradient; freeze it first")
    loss: Tensor = _FrozenHeadLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss
