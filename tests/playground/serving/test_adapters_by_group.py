"""What our plugin computes in a vLLM server: each token with its own adapter, and none for the base."""

from __future__ import annotations

from importlib import metadata
from types import ModuleType

import pytest
import torch

from playground.serving.command import INSIDE
from playground.serving.inside import adapters_by_group as ours

TOKENS, IN, OUT, RANK, PLACES = 7, 24, 40, 4, 3
WHO = [0, 2, -1, 2, 1, -1, 0]  # -1: the base


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def one_by_one(inputs: torch.Tensor, weights: torch.Tensor, who: list[int]) -> torch.Tensor:
    rows = [
        weights[at] @ row if at >= 0 else torch.zeros(weights.shape[1]) for row, at in zip(inputs, who, strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize(
    "who", [WHO, [1] * TOKENS, [-1] * TOKENS, [2, 2, 2, 2, 2, 2, -1]], ids=["mixed", "one", "base", "two"]
)
def test_every_token_is_multiplied_by_its_own_adapter_and_the_base_by_none(who: list[int]):
    inputs, weights = drawn(TOKENS, IN), drawn(PLACES, RANK, IN)
    found = ours.products(inputs, weights, torch.tensor(who), torch.float32)
    assert torch.allclose(found, one_by_one(inputs, weights, who), atol=1e-5)
    stacked = ours.products(inputs, weights[:, None], torch.tensor(who), torch.float32)
    assert torch.equal(found, stacked)


def test_shrinking_scales_and_replaces_what_was_there():
    inputs, weights, output = drawn(TOKENS, IN), drawn(PLACES, RANK, IN), torch.full((TOKENS, RANK), 9.0)
    ours.bgmv_shrink(inputs, weights, output, torch.tensor(WHO), 0.5)
    assert torch.allclose(output, 0.5 * one_by_one(inputs, weights, WHO), atol=1e-5)


def test_expanding_adds_and_leaves_the_rows_of_the_base_as_they_are():
    inputs, weights, output = drawn(TOKENS, RANK), drawn(PLACES, OUT, RANK), drawn(TOKENS, OUT)
    before = output.clone()
    ours.bgmv_expand(inputs, weights, output, torch.tensor(WHO))
    assert torch.allclose(output, before + one_by_one(inputs, weights, WHO), atol=1e-5)
    assert torch.equal(output[2], before[2]) and torch.equal(output[5], before[5])


def test_a_slice_is_expanded_into_its_own_columns_only():
    inputs, weights, output = drawn(TOKENS, RANK), drawn(PLACES, 10, RANK), drawn(TOKENS, OUT)
    before = output.clone()
    ours.bgmv_expand_slice(inputs, weights, output, torch.tensor(WHO), 5, 10)
    assert torch.allclose(output[:, 5:15], before[:, 5:15] + one_by_one(inputs, weights, WHO), atol=1e-5)
    assert torch.equal(output[:, :5], before[:, :5]) and torch.equal(output[:, 15:], before[:, 15:])


@pytest.mark.parametrize(
    "who", [WHO, [1] * TOKENS, [-1] * TOKENS, [2, 2, 2, 2, 2, 2, -1]], ids=["mixed", "one", "base", "two"]
)
def test_a_layer_adds_to_each_projection_what_each_token_is_owed(who: list[int], monkeypatch: pytest.MonkeyPatch):
    class Wrapper:
        token_lora_indices = torch.tensor(who)
        add_lora_linear = None

    ours.replace_layer_of(Wrapper)
    widths = (10, 6, 24)
    inputs, output = drawn(TOKENS, IN), drawn(TOKENS, OUT)
    down = tuple(drawn(PLACES, 1, RANK, IN) + n for n, _ in enumerate(widths))
    up = tuple(drawn(PLACES, 1, width, RANK) for width in widths)
    owed = [one_by_one(one_by_one(inputs, a[:, 0], who), b[:, 0], who) for a, b in zip(down, up, strict=True)]
    expected = output + 0.5 * torch.cat(owed, 1)
    Wrapper().add_lora_linear(output, inputs, down, up, 0.5, widths, buffer=None)  # type: ignore[misc]
    assert torch.allclose(output, expected, atol=1e-4)
    padded = torch.cat((expected, torch.ones(2, OUT)))
    longer = torch.cat((inputs, torch.ones(2, IN)))
    Wrapper().add_lora_linear(padded, longer, down, up, 0.0, widths)  # type: ignore[misc]
    assert torch.equal(padded[TOKENS:], torch.ones(2, OUT)), "padding has no adapter"
    monkeypatch.setattr(ours, "MOST_COLUMNS", 0)
    down, up = tuple(a.clone() for a in down), tuple(b.clone() for b in up)
    wide = expected - 0.5 * torch.cat(owed, 1)
    Wrapper().add_lora_linear(wide, inputs, down, up, 0.5, widths)  # type: ignore[misc]
    assert torch.allclose(wide, expected, atol=1e-4), "more columns than all tokens are taken through"


def test_an_adapter_that_is_loaded_into_a_place_counts_at_once_and_one_that_is_taken_out_no_more():
    class Wrapper:
        token_lora_indices = torch.tensor(WHO)
        add_lora_linear = None

    ours.replace_layer_of(Wrapper)
    down, up = (torch.zeros(PLACES, 1, RANK, IN),), (torch.zeros(PLACES, 1, OUT, RANK),)
    inputs = drawn(TOKENS, IN)
    for place in (None, 0, 2, 0, None):  # a place is written as vLLM does it: its matrices, in place, or 0
        if place is None:
            up[0].zero_()
        else:
            down[0][place].copy_(drawn(1, RANK, IN))
            up[0][place].copy_(drawn(1, OUT, RANK))
        output = torch.zeros(TOKENS, OUT)
        Wrapper().add_lora_linear(output, inputs, down, up, 1.0, (OUT,))  # type: ignore[misc]
        owed = one_by_one(one_by_one(inputs, down[0][:, 0], WHO), up[0][:, 0], WHO)
        assert torch.allclose(output, owed, atol=1e-4), place


def test_matrices_that_do_not_say_when_they_were_written_are_read_each_time():
    with torch.inference_mode():
        down, up = (drawn(PLACES, 1, RANK, IN),), (drawn(PLACES, 1, OUT, RANK),)
        assert ours.side_by_side(down, up) is None


def test_a_class_that_is_built_otherwise_is_left_alone():
    class Other:
        add_lora_linear = None

    ours.replace_layer_of(Other)
    assert Other.add_lora_linear is None


def test_vllm_finds_the_plugins_by_their_entry_points():
    found = [one for dist in metadata.distributions(path=[str(INSIDE)]) for one in dist.entry_points]
    assert {one.group for one in found} == {"vllm.general_plugins"}
    names = ("adapters_by_group", "seeds_on_cpu", "nucleus_on_cpu")
    assert {one.value for one in found} == {f"{name}:register" for name in names}
    assert callable(ours.register)


def test_a_version_that_is_built_otherwise_is_left_alone():
    module = ModuleType("other")
    module.bgmv_shrink = None  # type: ignore[attr-defined]
    ours.replace_in(module)
    assert module.bgmv_shrink is None  # type: ignore[attr-defined]
    for name in ours.NAMES:
        setattr(module, name, None)
    ours.replace_in(module)
    assert all(getattr(module, name) is getattr(ours, name) for name in ours.NAMES)


def test_who_is_asked_anew_when_the_same_tensor_says_something_else():
    inputs, weights, who = drawn(TOKENS, IN), drawn(PLACES, RANK, IN), torch.tensor(WHO)
    for said in (WHO, [1] * TOKENS, WHO[::-1], WHO[:3] + WHO[:3] + [2]):
        who.copy_(torch.tensor(said))  # as vLLM does for each step
        for given in (who, who.to(torch.int32)):
            found = ours.products(inputs, weights, given, torch.float32)
            assert torch.allclose(found, one_by_one(inputs, weights, said), atol=1e-5)
