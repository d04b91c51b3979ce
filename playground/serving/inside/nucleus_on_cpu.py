"""A plugin that a vLLM server loads on a CPU, beside `adapters_by_group`.

Without Triton, vLLM 0.32 sorts the whole vocabulary for every token that is drawn with top_p: with 262,144 entries that
takes several times as long as the model does. Here only the logits near the highest one are sorted, and all of them
where those do not hold `top_p` of the mass. What stays is the same, but for entries that are equal to the last one that
stays: here all of them do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType

import torch

NAME = "apply_top_k_top_p"
NEAR = 10.0  # below the highest logit: at most e^-10 as likely
Cut = Callable[[torch.Tensor, "torch.Tensor | None", "torch.Tensor | None"], torch.Tensor]


def register() -> None:
    """Put ours in the place of theirs, in each process before the model is loaded. Does nothing on a GPU."""
    from vllm.platforms import current_platform

    if current_platform.device_type != "cpu":
        return
    from vllm.v1.sample.ops import topk_topp_sampler

    replace_in(topk_topp_sampler)


def replace_in(module: ModuleType) -> None:
    """Replace the function where the module has it; another version may be built otherwise."""
    theirs: Cut | None = getattr(module, NAME, None)
    if theirs is None:
        logging.getLogger("vllm").warning("%s has no %s; top_p runs as vLLM does it", module.__name__, NAME)
        return

    def ours(logits: torch.Tensor, k: torch.Tensor | None, p: torch.Tensor | None) -> torch.Tensor:
        return theirs(logits, k, p) if k is not None or p is None else keep_nucleus(logits, p)

    setattr(module, NAME, ours)


def keep_nucleus(logits: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Set to -inf, in place, what is outside of each row's smallest set of likeliest entries that holds `top_p`.

    logits: (rows, vocabulary), float32; top_p: (rows,), fractions. The likeliest entry always stays.
    """
    for row, share in zip(logits, top_p.tolist(), strict=True):
        if share >= 1.0:  # all of it, and rows that are not drawn at all
            continue
        total = row.logsumexp(0)
        near = (row > row.max() - NEAR).nonzero().squeeze(1)
        values, order = row[near].sort(descending=True)
        kept = _kept(values, total, share)
        if kept > len(values):  # the tail is in the nucleus
            near = torch.arange(len(row), device=row.device)
            values, order = row.sort(descending=True)
            kept = min(_kept(values, total, share), len(values))
        # Those that equal the last one come along: which of them a sort puts first says nothing.
        kept = int((values >= values[kept - 1]).sum())
        row.fill_(float("-inf"))
        row[near[order[:kept]]] = values[:kept]
    return logits


def _kept(values: torch.Tensor, total: torch.Tensor, share: float) -> int:
    """How many of the sorted logits it takes to hold `share`; one more than there are, if they do not."""
    mass = (values - total).double().exp().cumsum(0)
    return int((mass < share).sum()) + 1
