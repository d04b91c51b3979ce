"""The loss of full fine-tuning is torch's cross-entropy, with the head's gradient, tied to the embedding or not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from training.loss import ENTRIES, TOKENS
from training.trained_head import head_loss


def drawn(tokens: int, vocabulary: int, size: float = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 8, generator=generator) * size
    weight = torch.randn(vocabulary, 8, generator=generator)
    return hidden, weight, torch.randint(0, vocabulary, (tokens,), generator=generator)


@pytest.mark.parametrize("vocabulary", [50, ENTRIES * 2 + 7], ids=["part of a tile", "tiles and a rest"])
@pytest.mark.parametrize("tokens", [1, TOKENS * 2 + 3], ids=["one", "tiles and a rest"])
@pytest.mark.parametrize("size", [1, 40], ids=["level", "peaked"])
def test_value_and_both_gradients_equal_torchs_cross_entropy(tokens: int, vocabulary: int, size: int):
    hidden, weight, targets = drawn(tokens, vocabulary, size)
    ours = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    theirs = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = head_loss(*ours, targets)
    expected = functional.cross_entropy(theirs[0] @ theirs[1].T, targets, reduction="sum")
    (loss / tokens).backward()
    (expected / tokens).backward()
    torch.testing.assert_close(loss, expected)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_a_tied_embedding_gets_the_gradient_of_both_its_uses():
    _, weight, targets = drawn(20, 300)
    ids = torch.arange(20)
    ours, theirs = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    head_loss(ours[ids].tanh(), ours, targets).backward()
    functional.cross_entropy(theirs[ids].tanh() @ theirs.T, targets, reduction="sum").backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_frozen_head_and_a_measurement_take_the_loss_without_the_heads_gradient():
    hidden, weight, targets = drawn(5, 60)
    expected = functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    trained = hidden.clone().requires_grad_()
    head_loss(trained, weight, targets).backward()
    assert trained.grad is not None and weight.grad is None
    with torch.no_grad():
        torch.testing.assert_close(head_loss(hidden, weight.requires_grad_(), targets), expected)


def test_under_autocast_the_tiles_are_multiplied_in_bfloat16_and_the_result_stays_close():
    hidden, weight, targets = drawn(40, 500)
    trained = weight.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head_loss(hidden, trained, targets)
    expected = functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    loss.backward()
    assert trained.grad is not None and trained.grad.dtype is torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)
    assert loss.item() != expected.item()


def test_no_tokens_give_no_loss_and_no_gradient():
    hidden, weight = torch.zeros(0, 8, requires_grad=True), torch.ones(60, 8, requires_grad=True)
    loss = head_loss(hidden, weight, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert weight.grad is not None and not weight.grad.any()
