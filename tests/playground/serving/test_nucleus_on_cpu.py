"""Which tokens our plugin leaves to be drawn: those that sorting the whole vocabulary leaves."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from playground.serving.inside.nucleus_on_cpu import NAME, keep_nucleus, replace_in


def logits(rows: int = 6, vocabulary: int = 5000, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(rows)) * spread


@pytest.mark.parametrize("spread", [0.01, 1.0, 3.0, 12.0], ids=["flat", "usual", "steep", "certain"])
def test_what_stays_is_the_smallest_set_of_the_likeliest_that_holds_the_share(spread: float):
    given = logits(spread=spread)
    shares = torch.tensor([0.05, 0.5, 0.9, 0.95, 0.99, 0.999])
    found = keep_nucleus(given.clone(), shares)
    for row, before, share in zip(found, given, shares.tolist(), strict=True):
        stays, likelihood = row.isfinite(), before.double().softmax(0)
        assert torch.equal(row[stays], before[stays]), "what stays keeps its logit"
        assert before[stays].min() > before[~stays].max(), "nothing outside is likelier than what stays"
        held, least = float(likelihood[stays].sum()), float(likelihood[stays].min())
        assert held > share - 1e-5 and held - least < share + 1e-5


def test_the_likeliest_always_stays_and_a_share_of_one_leaves_everything():
    given = logits(2)
    found = keep_nucleus(given.clone(), torch.tensor([1e-9, 1.0]))
    assert found[0].isfinite().sum() == 1 and int(found[0].argmax()) == int(given[0].argmax())
    assert torch.equal(found[1], given[1])


def test_what_was_ruled_out_before_stays_out():
    given = logits(1)
    given[0, 10:] = -float("inf")
    found = keep_nucleus(given.clone(), torch.tensor([0.999999]))
    assert not found[0, 10:].isfinite().any() and found[0, :10].isfinite().any()


def test_equals_of_the_last_one_stay_with_it():
    given = torch.tensor([[2.0, 1.0, 1.0, 1.0, -30.0]])
    assert keep_nucleus(given, torch.tensor([0.6])).isfinite().tolist() == [[True, True, True, True, False]]


def test_only_the_function_that_is_there_is_replaced_and_top_k_stays_theirs(caplog: pytest.LogCaptureFixture):
    module, asked = ModuleType("theirs"), []
    setattr(module, NAME, lambda logits, k, p: asked.append(k) or logits)
    replace_in(module)
    cut = getattr(module, NAME)
    given = logits(1)
    assert cut(given, torch.tensor([5]), torch.tensor([0.5])) is given and cut(given, None, None) is given
    assert len(asked) == 2
    assert cut(given.clone(), None, torch.tensor([0.5])).isfinite().sum() < given.shape[1] and len(asked) == 2
    replace_in(ModuleType("another version"))
    assert "top_p runs as vLLM does it" in caplog.text
