"""Cross-entropy over a large vocabulary without ever holding all logits.

Gemma's vocabulary has 262,144 entries: the logits of one 4,096-token batch would take 4 GB in float32.
Only tokens that carry loss are projected, a piece at a time, and each piece's gradient is worked out at
once (the idea of Liger's fused linear cross-entropy). The head itself must be frozen, as it is under LoRA.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PIECE = 128  # tokens; 128 x 262k float32 logits are 134 MB


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, hidden.shape[0], PIECE):
            piece = slice(start, start + PIECE)
            logits = functional.linear(hidden[piece].to(weight.dtype), weight).float()
            normaliser = logits.logsumexp(dim=-1, keepdim=True)
            rows = torch.arange(logits.shape[0], device=logits.device)
            total += (normaliser[:, 0] - logits[rows, targets[piece]]).sum()
            if gradient is not None:
                error = logits.sub_(normaliser).exp_()  # in place: passes over this matrix are the cost
                error[rows, targets[piece]] -= 1.0
                gradient[piece] = (error.to(weight.dtype) @ weight).to(gradient.dtype)
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None, None]:
        return (None if ctx.gradient is None else ctx.gradient * upstream), None, None


def frozen_head_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats, a float32 scalar.

    hidden: (tokens, features), weight: (vocabulary, features), targets: (tokens,) token ids.
    """
    if weight.requires_grad:
        raise ValueError("frozen_head_loss gives the head no gradient; freeze it first")
    loss: Tensor = _FrozenHeadLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss
