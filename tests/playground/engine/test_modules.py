"""Replacing norms and linear layers by faster ones that give the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from playground.engine.modules import FusedNorm, fuse_norms, quantize_rows
from tests.tiny import FAMILIES, tiny_model


class GainRMSNorm(nn.Module):
    """x / rms(x) times what `gain` makes of the weight. `said_eps` is the epsilon it claims to use."""

    def __init__(
        self, gain: Callable[[Tensor], Tensor], *, scale: float = 1.0, eps: float = 1e-6, said_eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(scale * torch.randn(16, generator=torch.Generator().manual_seed(1)))
        self._gain, self._eps, self.eps = gain, eps, said_eps

    def forward(self, x: Tensor) -> Tensor:
        normed = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self._eps)
        return (normed * self._gain(self.weight.float())).to(x.dtype)


def held(norm: nn.Module) -> nn.Module:
    parent = nn.Module()
    parent.norm = norm
    return parent


def llama(weight: Tensor) -> Tensor:
    return weight


def gemma(weight: Tensor) -> Tensor:
    return 1 + weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gain", [llama, gemma])
@pytest.mark.parametrize("scale", [1.0, 0.004], ids=["usual-weights", "weights-near-zero"])
def test_a_known_gain_is_fused_and_gives_the_same_numbers(gain, dtype, scale):
    norm = GainRMSNorm(gain, scale=scale).to(dtype)
    parent = held(norm)
    assert fuse_norms(parent) == 1
    assert isinstance(parent.norm, FusedNorm)
    x = (5 * torch.randn(3, 7, 16)).to(dtype)
    torch.testing.assert_close(parent.norm(x), norm(x), rtol=1e-4 if dtype == torch.float32 else 0.02, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.004], ids=["usual-weights", "weights-near-zero"])
@pytest.mark.parametrize(
    "gain",
    [
        pytest.param(lambda w: 2 * w, id="twice-the-weight"),
        pytest.param(lambda w: 2 + w, id="two-plus"),
        pytest.param(lambda w: w.abs(), id="without-sign"),
        pytest.param(lambda w: w.flip(0), id="another-order"),
    ],
)
def test_an_unknown_gain_is_left_alone(gain, scale):
    norm = GainRMSNorm(gain, scale=scale)
    parent = held(norm)
    assert fuse_norms(parent) == 0
    assert parent.norm is norm


def test_an_epsilon_that_is_not_the_one_it_names_is_noticed():
    assert fuse_norms(held(GainRMSNorm(llama, eps=1e-3))) == 0


def test_a_norm_that_names_no_epsilon_is_left_alone():
    norm = GainRMSNorm(llama)
    del norm.eps
    assert fuse_norms(held(norm)) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_norm_of_the_known_families_is_fused(family):
    model = tiny_model(family)
    norms = sum(type(module).__name__.endswith("RMSNorm") for module in model.modules())
    assert fuse_norms(model) == norms > 0


def test_int8_rows_are_within_half_a_step_of_the_weight():
    weight = torch.randn(40, 24) * torch.logspace(-4, 2, 40)[:, None]
    weight[3] = 0
    quantized, scale = quantize_rows(weight)
    assert quantized.dtype == torch.int8
    assert ((quantized.float() * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all()
    assert (quantized[3] == 0).all()
