"""The tiled loss is torch's cross-entropy, gradient included."""

from __future__ import annotations

import pytest
import torch

from training.loss import ENTRIES, TOKENS, frozen_head_loss


@pytest.mark.parametrize(
    "vocabulary", [50, ENTRIES, ENTRIES * 2 + 7], ids=["part of a tile", "a tile", "tiles and a rest"]
)
@pytest.mark.parametrize("tokens", [1, TOKENS, TOKENS * 2 + 3], ids=["one", "a tile", "tiles and a rest"])
@pytest.mark.parametrize("size", [1, 40], ids=["level", "peaked"])
def test_value_and_gradient_equal_torchs_cross_entropy(tokens: int, vocabulary: int, size: int):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 8, generator=generator) * size
    weight = torch.randn(vocabulary, 8, generator=generator)
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    loss = frozen_head_loss(ours, weight, targets)
    expected = torch.nn.functional.cross_entropy(theirs @ weight.T, targets, reduction="sum")
    (loss / tokens).backward()
    (expected / tokens).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_head_that_is_being_trained_is_refused_rather_than_left_without_gradient():
    with pytest.raises(ValueError, match="freeze"):
        frozen_head_loss(torch.zeros(1, 2), torch.zeros(3, 2, requires_grad=True), torch.zeros(1, dtype=torch.long))
