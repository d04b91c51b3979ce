"""Fits low-rank terms of the embedded judge together with its safety heads, from where the ridge regression left them.

The loss is the squared distance of the expected score to the grade; the language head is never computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.judge.embedded import Head
from evaluation.judge.features import OBSERVATIONS, pooled_batch, reading, token_ids
from evaluation.judge.low_rank import Terms, with_terms
from evaluation.prompts.graded import Graded
from evaluation.types import Scale

Use = tuple[Scale, bool]  # and whether the reference response is shown
Report = Callable[[str, dict[str, Any]], None]
HALF_WAY = np.array([1.5, 2.5, 3.5, 4.5], dtype=np.float32)


class FittingStopped(Exception):
    """Told to stop on the way: half-fitted terms are of no use, so nothing is kept."""


@dataclass(frozen=True)
class TermSettings:
    """How the terms are fitted; docs/judges.md has what was tried."""

    rank: int = 16
    scaling: float = 2.0  # of a b; alpha / rank in LoRA's words
    epochs: int = 3
    learning_rate: float = 3e-4  # falls to 0 with a cosine
    warmup_share: float = 0.05  # of all steps
    batch_size: int = 8  # responses
    seed: int = 0


DEFAULTS = TermSettings()


@dataclass(frozen=True)
class _Row:
    ids: tuple[list[int], list[int]]
    grade: float
    head: int

    @property
    def length(self) -> int:
        return len(self.ids[0]) + len(self.ids[1])


def fit_terms(
    rows: Mapping[Use, Sequence[Graded]],
    heads: Mapping[Use, Head],
    model: Any,
    tokenizer: Any,
    layer: int,
    report: Report,
    settings: TermSettings = DEFAULTS,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Terms, dict[Use, Head]]:
    """Terms for the first `layer` layers, and the heads that read the states with them, all of the safety scale.

    rows: by use, those to fit on (none held out). heads: where to begin. The base's own weights stay as they are.
    `should_stop` is asked before every step. Raises FittingStopped.
    """
    torch.manual_seed(settings.seed)
    uses = list(rows)
    laid_out = [
        _Row(token_ids(tokenizer, *reading(g.exchange(), use[1])), float(g.score), uses.index(use))
        for use in uses
        for g in rows[use]
    ]
    for weight in model.parameters():
        weight.requires_grad_(False)
    factors = _fresh(model.get_decoder(), layer, settings.rank)
    read = [_Reading(heads[use], model.config.hidden_size) for use in uses]
    trained = [*(f for pair in factors.values() for f in pair), *(p for one in read for p in one.parameters())]
    optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.01)
    batches = list(_batches(laid_out, settings))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _cosine(len(batches), settings.warmup_share))
    recent = 0.0
    with with_terms(model.get_decoder(), Terms(factors), settings.scaling):
        for step, batch in enumerate(batches, start=1):
            if should_stop():
                raise FittingStopped
            states = pooled_batch(model, [row.ids for row in batch], layer)
            loss = torch.stack([(read[row.head](states[i]) - row.grade) ** 2 for i, row in enumerate(batch)]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            recent = loss.item() if step == 1 else 0.95 * recent + 0.05 * loss.item()
            if step % 20 == 0 or step == len(batches):
                report("progress", {"stage": "terms", "step": step, "steps": len(batches), "squared_error": recent})
    terms = Terms({name: (_stored(a), _stored(b * settings.scaling)) for name, (a, b) in factors.items()})
    return terms, {use: one.head() for use, one in zip(uses, read, strict=True)}


def _stored(factor: Tensor) -> Tensor:
    """As it comes back from the file, so that what is measured is what will be used."""
    return factor.detach().half().float()


def _fresh(decoder: Any, layer: int, rank: int) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
    """As LoRA begins: a random, b zero, for every linear layer below `layer`."""
    found: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
    for number in range(layer):
        for name, module in decoder.layers[number].named_modules():
            if isinstance(module, nn.Linear):
                a = torch.empty(module.in_features, rank)
                nn.init.kaiming_uniform_(a.T, a=math.sqrt(5))
                found[f"layers.{number}.{name}"] = (
                    nn.Parameter(a),
                    nn.Parameter(torch.zeros(rank, module.out_features)),
                )
    return found


class _Reading(nn.Module):
    """A head whose weights are trained; its standardising and what it does not read stay."""

    def __init__(self, head: Head, size: int) -> None:
        super().__init__()
        self._begin = head
        self.weight = nn.Parameter(torch.from_numpy(head.weight[:-OBSERVATIONS].copy()))
        self.bias = nn.Parameter(torch.tensor(head.bias))
        self.reads = self.weight.detach() != 0
        self.mean, self.scale = (torch.from_numpy(part[:-OBSERVATIONS]) for part in (head.mean, head.scale))

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled: (4, hidden size) -> the expected score."""
        standard = (pooled.flatten() - self.mean) / self.scale
        return (standard * self.reads) @ self.weight + self.bias

    def head(self) -> Head:
        """As it is now, cut half-way between the scores."""
        weight = np.zeros_like(self._begin.weight)
        weight[: len(self.weight)] = (self.weight * self.reads).detach().numpy()
        return replace(self._begin, weight=weight, bias=self.bias.item(), cuts=HALF_WAY)


def _batches(rows: Sequence[_Row], settings: TermSettings) -> Iterator[list[_Row]]:
    """Every row once an epoch; responses of like length together, the batches in random order."""
    rng = np.random.default_rng(settings.seed)
    for _ in range(settings.epochs):
        shuffled = [rows[i] for i in rng.permutation(len(rows))]
        pieces = []
        for start in range(0, len(rows), 16 * settings.batch_size):
            near = sorted(shuffled[start : start + 16 * settings.batch_size], key=lambda row: row.length)
            pieces += [near[i : i + settings.batch_size] for i in range(0, len(near), settings.batch_size)]
        yield from (pieces[i] for i in rng.permutation(len(pieces)))


def _cosine(steps: int, warmup_share: float) -> Callable[[int], float]:
    warmup = max(1, round(steps * warmup_share))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor
