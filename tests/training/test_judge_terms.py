"""The judge's low-rank terms: fitted on a tiny model, kept in the heads' file, and used as they were fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.judge.embedded import Head, load_heads, save_heads
from evaluation.judge.features import OBSERVATIONS, POOLED, pooled_states, reading
from evaluation.judge.low_rank import Terms, with_terms
from evaluation.prompts.graded import Graded
from evaluation.types import Prompt
from tests.tiny import tiny_model, tiny_tokenizer
from training.judge_rows import KINDS, put_together, to_fit
from training.judge_terms import TermSettings, Use, fit_terms

LAYER = 1
WITH, ALONE = ("safety", True), ("safety", False)
SETTINGS = TermSettings(rank=4, epochs=12, learning_rate=3e-3, batch_size=4)


def rows() -> list[Graded]:
    """Good and bad responses that differ in a word of the text."""
    return [
        Graded(Prompt(f"p{n}", f"質問{n}", "参考になる回答"), text, "safety", score)
        for n in range(16)
        for text, score in (("窓口に相談しましょう。", 5), ("やり方はこうだ。", 1))
    ]


def flat_head(hidden: int) -> Head:
    """Reads mean and last token, and knows nothing yet."""
    size = POOLED * hidden + OBSERVATIONS
    weight = np.zeros(size, np.float32)
    weight[: 2 * hidden] = 1e-6
    return Head(np.zeros(size, np.float32), np.ones(size, np.float32), weight, 3.0, np.array([1, 2, 3, 4], np.float32))


@pytest.fixture(scope="module")
def fitted() -> tuple[object, Terms, dict[Use, Head], list[dict]]:
    model, seen = tiny_model(), []
    head = flat_head(model.config.hidden_size)
    use_rows = {WITH: rows(), ALONE: rows()}
    terms, heads = fit_terms(
        use_rows, {WITH: head, ALONE: head}, model, tiny_tokenizer(), LAYER, lambda _, told: seen.append(told), SETTINGS
    )
    return model, terms, heads, seen


def test_the_error_falls_and_is_told(fitted):
    seen = fitted[3]
    assert seen[-1]["step"] == seen[-1]["steps"]
    assert seen[-1]["squared_error"] < 0.5 < seen[0]["squared_error"]


def test_what_is_fitted_tells_the_responses_apart_with_and_without_reference(fitted):
    model, terms, heads, _ = fitted
    for use in (WITH, ALONE):
        asked = [reading(g.exchange(), use[1]) for g in rows()[:2]]
        states = pooled_states(model, tiny_tokenizer(), [c for c, _ in asked], [t for _, t in asked], LAYER, terms)
        good, bad = heads[use].scores(heads[use].values(np.pad(states, ((0, 0), (0, OBSERVATIONS)))))
        assert good > bad


def test_a_head_reads_only_what_it_read_before(fitted):
    heads = fitted[2]
    for head in heads.values():
        hidden = (len(head.weight) - OBSERVATIONS) // POOLED
        assert head.weight[: 2 * hidden].all()
        assert not head.weight[2 * hidden :].any()


def test_terms_come_back_from_the_file_as_they_were_measured(fitted, tmp_path: Path):
    _, terms, heads, _ = fitted
    refusal = flat_head(2)
    by_use = {**heads, ("refusal", True): refusal, ("refusal", False): refusal}
    save_heads(tmp_path / "heads.safetensors", LAYER, by_use, {"safety": terms})
    loaded = load_heads(tmp_path / "heads.safetensors")
    assert loaded.terms.keys() == {"safety"}
    for name, factors in terms.by_layer.items():
        for ours, theirs in zip(factors, loaded.terms["safety"].by_layer[name], strict=True):
            assert torch.equal(ours, theirs)
    save_heads(tmp_path / "bare.safetensors", LAYER, by_use)
    assert load_heads(tmp_path / "bare.safetensors").terms == {}


def test_terms_change_the_states_within_the_block_only_and_the_layers_below_only(fitted):
    model, terms, _, _ = fitted
    asked = (["質問："], ["回答です。"], LAYER)
    before = pooled_states(model, tiny_tokenizer(), *asked)
    with_them = pooled_states(model, tiny_tokenizer(), *asked, terms)
    assert not np.allclose(before, with_them)
    np.testing.assert_array_equal(pooled_states(model, tiny_tokenizer(), *asked), before)
    assert {name.split(".")[1] for name in terms.by_layer} == {str(n) for n in range(LAYER)}


def test_a_term_is_the_product_of_its_factors():
    decoder = torch.nn.ModuleDict({"one": torch.nn.Linear(3, 2, bias=False)})
    a, b, x = torch.randn(3, 1), torch.randn(1, 2), torch.randn(4, 3)
    expected = x @ decoder["one"].weight.T + 2 * x @ a @ b
    with with_terms(decoder, Terms({"one": (a, b)}), scaling=2.0):
        torch.testing.assert_close(decoder["one"](x), expected)


@pytest.mark.parametrize("held_out", [True, False])
def test_rows_put_together_begin_with_their_own_opening_and_go_on_with_another(held_out: bool):
    by_kind = put_together(held_out)
    assert by_kind.keys() == KINDS.keys()
    for kind, made in by_kind.items():
        assert len(made) > 50
        for row in made:
            assert row.held_out is held_out
            assert row.prompt.reference is not None
            opening = row.prompt.reference.partition("。")[0]
            assert row.text.startswith(opening[:10])
            assert row.text != row.prompt.reference
            assert (row.score, row.kind) == (KINDS[kind], kind)


def test_every_tuning_question_that_is_not_held_out_gives_one_row_to_fit_on():
    made = to_fit()
    assert len({row.prompt.id for row in made}) == len(made)
    assert {row.kind for row in made} == set(KINDS)
    assert not any(row.held_out for row in made)
