"""One batch of conversations decoded together, each row with its own adapter, sampling and length.

Rows join and leave between steps. Not safe for threads: `local.LocalEngine` owns one and runs it on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from evaluation.types import Sampling
from playground.engine.adapters import Adapter, check_fits
from playground.engine.modules import MixedLinear, RowMix, fuse_norms, install_mixed_linears

T = TypeVar("T")
PREFILL_PIECE = 512  # tokens; bounds the memory that reading a long prompt takes
TOP_CANDIDATES = 1024  # nucleus sampling looks past these only when they hold less than top_p


@dataclass(eq=False)
class Row:
    """One conversation in the batch. `ids` grows by one token a step."""

    adapter: str | None
    prompt_ids: list[int]
    sampling: Sampling
    ids: list[int] = field(default_factory=list)
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        # One generator a row: a seed means the same draw whoever shares the batch.
        self.generator = torch.Generator().manual_seed(self.sampling.seed)


class Decoder:
    """A causal language model prepared for mixed-adapter decoding. Changes `model` in place."""

    def __init__(self, model: nn.Module, *, int8: bool) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.device = next(model.parameters()).device
        self._mix = RowMix()
        fuse_norms(model)
        self._linears: dict[str, MixedLinear] = dict(install_mixed_linears(model, self._mix, int8=int8))
        self._adapters: list[Adapter] = []
        self._rows: list[Row] = []
        self._cache: DynamicCache | None = None
        self._attention: Tensor | None = None  # (rows, length) of 0 and 1; 0 marks left padding
        self._padded = False
        self._next: Tensor | None = None  # (rows, 1) tokens to feed

    @property
    def rows(self) -> Sequence[Row]:
        """The rows in the batch, in batch order."""
        return tuple(self._rows)

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        """Hold exactly these adapters. Raises ModelUnavailable when one does not fit. The batch must be empty."""
        if self._rows:
            raise RuntimeError("adapters cannot change while rows are in the batch")
        for adapter in adapters:
            check_fits(adapter, self._linears)
        self._adapters = list(adapters)
        ranks = [adapter.rank for adapter in adapters]
        for name, linear in self._linears.items():
            linear.stack([adapter.layers.get(name) for adapter in adapters], ranks)

    def logits(self, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None]) -> Tensor:
        """Next-token logits, (prompts, vocabulary) float32, for prompts of one length. Leaves the batch alone."""
        with torch.inference_mode(), self._mixed(adapters):
            ids = torch.tensor([list(p) for p in prompts], device=self.device)
            return self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1].float()

    def without_adapters(self, work: Callable[[Any], T]) -> T:
        """Run `work(model)` on the bare base. Leaves the batch alone."""
        with _MaskFor(self._mix, None):
            return work(self.model)

    def admit(self, rows: Sequence[Row]) -> None:
        """Read the new rows' prompts and draw their first tokens; they join the batch."""
        with torch.inference_mode():
            longest = max(len(row.prompt_ids) for row in rows)
            ids = torch.tensor([[0] * (longest - len(r.prompt_ids)) + r.prompt_ids for r in rows], device=self.device)
            attention = torch.tensor(
                [[0] * (longest - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in rows], device=self.device
            )
            padded = bool((attention == 0).any())
            cache = DynamicCache()
            with self._mixed([row.adapter for row in rows]):
                for start in range(0, longest, PREFILL_PIECE):
                    end = min(start + PREFILL_PIECE, longest)
                    logits = self._forward(ids[:, start:end], attention[:, :end], cache, padded)
            drawn = self._draw(logits, rows)
            self._merge(list(rows), cache, attention, drawn)

    def step(self) -> None:
        """Draw one more token for every row in the batch."""
        if self._next is None or self._attention is None or self._cache is None:
            raise RuntimeError("step on an empty batch")
        with torch.inference_mode():
            self._attention = torch.cat([self._attention, self._attention.new_ones(len(self._rows), 1)], dim=1)
            logits = self._forward(self._next, self._attention, self._cache, self._padded)
            self._next = self._draw(logits, self._rows)

    def drop(self, rows: Sequence[Row]) -> None:
        """Take rows out of the batch; their part of the cache is freed."""
        keep = [i for i, row in enumerate(self._rows) if row not in rows]
        if len(keep) == len(self._rows):
            return
        self._rows = [self._rows[i] for i in keep]
        if not keep:
            self._cache = self._attention = self._next = None
            self._padded = False
            self._mix.mask = None
            return
        index = torch.tensor(keep, device=self.device)
        assert self._attention is not None and self._next is not None and self._cache is not None
        attention = self._attention[index]
        # Columns that are padding for every row that stays are dead weight in each later step.
        dead = int((attention.sum(0) == 0).sum())
        self._attention, self._next = attention[:, dead:], self._next[index]
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[index, :, dead:], layer.values[index, :, dead:]
        self._padded = bool((self._attention == 0).any())
        self._mix.mask = self._mask([row.adapter for row in self._rows])

    def _forward(self, ids: Tensor, attention: Tensor, cache: DynamicCache, padded: bool) -> Tensor:
        """ids: (rows, new), attention: (rows, past + new) -> logits of the last position, (rows, vocabulary)."""
        positions = (attention.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return self.model(
            input_ids=ids,
            # Without padding the kernels need no mask, which is faster.
            attention_mask=attention if padded else None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]

    def _draw(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        tokens = sample(logits.float(), [row.sampling for row in rows], [row.generator for row in rows])
        for row, token in zip(rows, tokens, strict=True):
            row.ids.append(token)
        return torch.tensor(tokens, device=self.device)[:, None]

    def _merge(self, rows: list[Row], cache: DynamicCache, attention: Tensor, drawn: Tensor) -> None:
        if self._cache is None or self._attention is None or self._next is None:
            self._cache, self._attention, self._next = cache, attention, drawn
        else:
            length = max(self._attention.shape[1], attention.shape[1])
            self._attention = torch.cat([_left_pad(self._attention, length, 1), _left_pad(attention, length, 1)])
            for ours, theirs in zip(self._cache.layers, cache.layers, strict=True):
                ours.keys = torch.cat([_left_pad(ours.keys, length, 2), _left_pad(theirs.keys, length, 2)])
                ours.values = torch.cat([_left_pad(ours.values, length, 2), _left_pad(theirs.values, length, 2)])
            self._next = torch.cat([self._next, drawn])
        self._rows += rows
        self._padded = bool((self._attention == 0).any())
        self._mix.mask = self._mask([row.adapter for row in self._rows])

    def _mask(self, adapters: Sequence[str | None]) -> Tensor | None:
        """(batch, 1, total rank): the scaling of a row's own adapter in its slots, 0 elsewhere."""
        if all(name is None for name in adapters):
            return None
        dtype = torch.float32 if self.device.type == "cpu" else next(self.model.parameters()).dtype
        mask = torch.zeros(len(adapters), 1, sum(a.rank for a in self._adapters), dtype=dtype, device=self.device)
        starts: dict[str, tuple[int, Adapter]] = {}
        start = 0
        for adapter in self._adapters:
            starts[adapter.name] = (start, adapter)
            start += adapter.rank
        for i, name in enumerate(adapters):
            if name is not None:
                start, adapter = starts[name]
                mask[i, :, start : start + adapter.rank] = adapter.scaling
        return mask

    def _mixed(self, adapters: Sequence[str | None]) -> _MaskFor:
        return _MaskFor(self._mix, self._mask(adapters))


class _MaskFor:
    """Puts a row mask in place for one forward pass and the running batch's back afterwards."""

    def __init__(self, mix: RowMix, mask: Tensor | None) -> None:
        self._mix, self._mask, self._before = mix, mask, mix.mask

    def __enter__(self) -> None:
        self._mix.mask = self._mask

    def __exit__(self, *_: object) -> None:
        self._mix.mask = self._before


def sample(logits: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]) -> list[int]:
    """Draw one token per row. logits: (rows, vocabulary) float32.

    Temperature 0 takes the most likely token. Otherwise nucleus sampling: the smallest set of tokens
    that holds `top_p` of the mass, drawn by one uniform number from the row's generator.
    """
    if all(s.temperature == 0 for s in samplings):
        return [int(t) for t in logits.argmax(dim=-1)]
    temperatures = torch.tensor([s.temperature or 1.0 for s in samplings], device=logits.device)
    scaled = logits / temperatures[:, None]
    top, tokens = scaled.topk(min(TOP_CANDIDATES, logits.shape[-1]), dim=-1)
    mass = (top - scaled.logsumexp(dim=-1, keepdim=True)).exp().double().cumsum(dim=-1).cpu()
    drawn = []
    for i, (sampling, generator) in enumerate(zip(samplings, generators, strict=True)):
        if sampling.temperature == 0:
            drawn.append(int(tokens[i, 0]))
            continue
        row_mass, row_tokens = mass[i], tokens[i]
        if row_mass[-1] < sampling.top_p:
            probabilities, row_tokens = scaled[i].softmax(dim=-1).double().sort(descending=True)
            row_mass = probabilities.cumsum(dim=-1).cpu()
        kept = int((row_mass < sampling.top_p).sum().clamp(max=len(row_mass) - 1)) + 1
        point = torch.rand(1, generator=generator, dtype=torch.float64) * row_mass[kept - 1]
        drawn.append(int(row_tokens[int(torch.searchsorted(row_mass[:kept], point).clamp(max=kept - 1))]))
    return drawn


def _left_pad(tensor: Tensor, length: int, dim: int) -> Tensor:
    missing = length - tensor.shape[dim]
    if missing == 0:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat([tensor.new_zeros(shape), tensor], dim=dim)
