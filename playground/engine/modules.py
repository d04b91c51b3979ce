"""Drop-in modules that make decoding cheap: one linear layer for every adapter in the batch, and fused norms.

Decoding is bound by reading weights. Two sides that share a base share that reading when they sit in
one batch; each row then adds only its own low-rank term. The weights are also kept as int8 on CPU, which
halves the bytes of a step again; long inputs (prompts) use the full-precision copy, where int8 is slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

INT8_ROWS = 8  # above this many rows the bfloat16 product is the faster one (measured with AVX512_BF16)


@dataclass
class RowMix:
    """Which slots of the stacked adapters each row of the batch uses; shared by all layers.

    `mask`: (batch, 1, total rank), `scaling` of the adapter in its own slots and 0 elsewhere.
    None means that no row uses an adapter.
    """

    mask: Tensor | None = None


@dataclass(frozen=True)
class LowRank:
    """One adapter's factors for one layer. a: (in, rank), b: (rank, out)."""

    a: Tensor
    b: Tensor


class MixedLinear(nn.Module):
    """A linear layer plus the low-rank terms of several adapters, chosen per row.

    A row that names no adapter gets the base product plus an exact zero.
    """

    def __init__(self, linear: nn.Linear, mix: RowMix, *, int8: bool) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._mix = mix
        self._int8: tuple[Tensor, Tensor] | None = quantize_rows(self.weight) if int8 else None
        self.a: Tensor | None = None
        self.b: Tensor | None = None

    def stack(self, adapters: list[LowRank | None], ranks: list[int]) -> None:
        """Hold these adapters side by side; `None` stands for one that leaves this layer alone.

        On CPU the factors stay float32: small bfloat16 products are about three times slower there.
        """
        if all(adapter is None for adapter in adapters):
            self.a = self.b = None
            return
        device = self.weight.device
        dtype = torch.float32 if device.type == "cpu" else self.weight.dtype
        self.a = torch.zeros(self.in_features, sum(ranks), dtype=dtype, device=device)
        self.b = torch.zeros(sum(ranks), self.out_features, dtype=dtype, device=device)
        start = 0
        for adapter, rank in zip(adapters, ranks, strict=True):
            if adapter is not None:
                self.a[:, start : start + rank] = adapter.a
                self.b[start : start + rank] = adapter.b
            start += rank

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, length, in) -> (batch, length, out)."""
        # Two dimensions and contiguous: torch 2.13 on CPU takes a path some 50 times slower for a
        # (1, 1, in) slice times a large bfloat16 matrix (660 ms against 13 ms for a 262k-row head).
        flat = x.reshape(-1, self.in_features).contiguous()
        if self._int8 is not None and flat.shape[0] <= INT8_ROWS:
            weight, scale = self._int8
            y = torch._weight_int8pack_mm(flat, weight, scale)
            if self.bias is not None:
                y = y + self.bias
        else:
            y = functional.linear(flat, self.weight, self.bias)
        y = y.reshape(*x.shape[:-1], self.out_features)
        mask = self._mix.mask
        if mask is None or self.a is None or self.b is None:
            return y
        # The language-model head sees one position per row, every other layer the whole length.
        return y + (((x.to(self.a.dtype) @ self.a) * mask) @ self.b).to(y.dtype)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 per output row: (int8 of the same shape, scales (out,) in the weight's dtype)."""
    scale = torch.empty(weight.shape[0], dtype=torch.float32)
    quantized = torch.empty(weight.shape, dtype=torch.int8)
    for start in range(0, weight.shape[0], 16384):  # in pieces: a float copy of a 262k-row head is 0.7 GB
        rows = weight.detach()[start : start + 16384].float()
        largest = rows.abs().amax(dim=1).clamp(min=1e-12) / 127
        scale[start : start + 16384] = largest
        quantized[start : start + 16384] = (rows / largest[:, None]).round().to(torch.int8)
    return quantized, scale.to(weight.dtype)


class FusedNorm(nn.Module):
    """RMS norm in one kernel with the final gain worked out once."""

    def __init__(self, gain: Tensor, eps: float) -> None:
        super().__init__()
        self.register_buffer("gain", gain, persistent=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., features) -> the same shape."""
        return functional.rms_norm(x, (x.shape[-1],), self.gain, self.eps)


def fuse_norms(model: nn.Module) -> int:
    """Replace RMS norms by `FusedNorm` wherever that gives the same numbers. Returns how many.

    Families differ in the gain (Llama: weight, Gemma: 1 + weight) and in names, so each
    candidate is checked on random input instead of being trusted by name.
    """
    replaced = 0
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if not type(norm).__name__.endswith("RMSNorm"):
                continue
            fused = _same_norm(norm)
            if fused is not None:
                setattr(parent, name, fused)
                replaced += 1
    return replaced


def _same_norm(norm: nn.Module) -> FusedNorm | None:
    weight = getattr(norm, "weight", None)
    eps = getattr(norm, "eps", getattr(norm, "variance_epsilon", None))
    if not isinstance(weight, Tensor) or weight.dim() != 1 or eps is None:
        return None
    x = torch.randn(4, weight.shape[0], generator=torch.Generator().manual_seed(0))
    x = (x * torch.tensor([[1.0], [30.0], [1e-2], [1e-3]])).to(weight)  # small rows tell one eps from another
    with torch.no_grad():
        expected = norm(x).float()
        for gain in (weight.detach(), (1.0 + weight.detach().float()).to(weight.dtype)):
            fused = FusedNorm(gain, float(eps))
            # bfloat16 keeps 8 bits: two roundings may fall on neighbouring values. The errors are relative to
            # each value, so a gain near zero must not hide behind an absolute tolerance.
            if torch.allclose(fused(x).float(), expected, rtol=0.02, atol=1e-7):
                return fused
    return None


def install_mixed_linears(model: nn.Module, mix: RowMix, *, int8: bool) -> Mapping[str, MixedLinear]:
    """Replace every nn.Linear of `model` in place. Returns the new layers by their dotted name."""
    layers: dict[str, MixedLinear] = {}
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear:
            continue
        parent_name, _, child = name.rpartition(".")
        layers[name] = MixedLinear(module, mix, int8=int8)
        setattr(model.get_submodule(parent_name), child, layers[name])
    return layers
