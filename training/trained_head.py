"""The same cross-entropy as `training.loss`, for a head that is trained too: full fine-tuning, tied embeddings or not.

The head's gradient needs the normalised softmax, so the tiles are gone through twice: once for the normaliser, once for
both gradients. Still no more than one tile of logits is held.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from training.loss import ENTRIES, ENTRIES_GPU, TOKENS, TOKENS_GPU, frozen_head_loss


class _TrainedHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        kind = hidden.device.type
        compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        tokens, entries = (TOKENS_GPU, ENTRIES_GPU) if hidden.is_cuda else (TOKENS, ENTRIES)
        with torch.autocast(kind, enabled=False):
            head = weight.to(compute)
            for_hidden = torch.empty_like(hidden)
            for_weight = torch.zeros_like(weight, dtype=torch.float32)
            total = hidden.new_zeros((), dtype=torch.float32)
            for start in range(0, hidden.shape[0], tokens):
                piece = slice(start, start + tokens)
                inputs, wanted = hidden[piece].to(compute), targets[piece]
                normaliser = _log_sum_exp(inputs, head, entries)
                pull = torch.zeros(inputs.shape, dtype=torch.float32, device=inputs.device)
                for first in range(0, head.shape[0], entries):
                    rows = head[first : first + entries]
                    shares = functional.linear(inputs, rows).float().sub_(normaliser).exp_().to(compute)
                    pull += shares @ rows
                    for_weight[first : first + entries] += shares.T @ inputs
                target_rows = head[wanted]
                total += (normaliser - (inputs.float() * target_rows.float()).sum(dim=1, keepdim=True)).sum()
                for_hidden[piece] = (pull - target_rows).to(for_hidden.dtype)
                for_weight.index_add_(0, wanted, inputs.float(), alpha=-1)
        ctx.save_for_backward(for_hidden, for_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        for_hidden, for_weight = ctx.saved_tensors
        return for_hidden * upstream, for_weight * upstream, None


def _log_sum_exp(inputs: Tensor, head: Tensor, entries: int) -> Tensor:
    """log sum exp over the vocabulary, (tokens, 1) float32."""
    found = inputs.new_full((inputs.shape[0], 1), -torch.inf, dtype=torch.float32)
    for rows in torch.split(head, entries):
        tile = functional.linear(inputs, rows).float().logsumexp(dim=1, keepdim=True)
        found = torch.logaddexp(found, tile)
    return found


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats, a float32 scalar, with a gradient for the head where it is trained.

    hidden: (tokens, features), weight: (vocabulary, features), targets: (tokens,) token ids.
    """
    if not weight.requires_grad or not torch.is_grad_enabled():
        return frozen_head_loss(hidden, weight.detach(), targets)
    loss: Tensor = _TrainedHeadLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss
