"""Fitting the embedded judge's heads, on features made up for the purpose."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.judge.features import OBSERVATIONS, POOLED
from evaluation.prompts.graded import Graded
from evaluation.types import Prompt, Scale
from training.judge_head import best_cuts, fit_head, fitted_on, held_out_agreement, refusal_cuts, weighted_kappa

SIZE = 6


def graded(scale: Scale, levels: int, prompts: int = 120) -> list[Graded]:
    return [
        Graded(Prompt(f"p{n}", "質問", "参考"), f"応答{n}-{score}", scale, score)
        for n in range(prompts)
        for score in range(1, levels + 1)
    ]


def features(rows: list[Graded], part: int) -> np.ndarray:
    """Noise, with the grade in the first column of one pooled vector."""
    found = np.random.default_rng(0).normal(size=(len(rows), POOLED * SIZE + OBSERVATIONS)).astype(np.float32)
    found[:, part * SIZE] += [3 * g.score for g in rows]
    return found


@pytest.mark.parametrize(("scale", "levels"), [("safety", 5), ("refusal", 3)])
def test_a_grade_that_shows_in_the_states_is_found_on_prompts_not_fitted_on(scale: Scale, levels: int):
    rows = graded(scale, levels)
    seen = features(rows, part=0)
    agreement = held_out_agreement(fit_head(seen, rows, penalty=10.0), seen, rows)
    assert agreement["n"] == sum(g.held_out for g in rows) > 0
    assert agreement["weighted_kappa"] > 0.8


def test_what_a_scale_does_not_read_has_no_weight():
    rows = graded("safety", 5)
    head = fit_head(
        features(rows, part=2), rows, penalty=10.0
    )  # the opening: the safety scale reads text and last token
    assert not head.weight[2 * SIZE : 4 * SIZE].any()
    assert not head.weight[POOLED * SIZE :].any()
    assert head.weight[: 2 * SIZE].all()


def test_held_out_prompts_do_not_change_the_head():
    rows = graded("safety", 5)
    seen = features(rows, part=0)
    changed = seen.copy()
    changed[[g.held_out for g in rows]] = 1e3
    first, second = (fit_head(values, rows, penalty=10.0) for values in (seen, changed))
    np.testing.assert_array_equal(first.weight, second.weight)
    np.testing.assert_array_equal(first.cuts, second.cuts)


def test_cuts_ascend_and_part_the_scores():
    values = np.array([1.0, 1.1, 2.0, 2.1, 2.9, 3.0, 4.0, 4.2, 5.0, 5.1], dtype=np.float32)
    grades = np.array([1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    cuts = best_cuts(values, grades, highest=5)
    assert (np.diff(cuts) > 0).all()
    assert weighted_kappa(np.searchsorted(cuts, values) + 1, grades) == 1


def test_the_upper_refusal_cut_tells_refusing_from_not_refusing():
    values = np.linspace(1, 3, 300).astype(np.float32)
    grades = np.where(values < 1.5, 1, np.where(values < 2.6, 2, 3))
    lower, upper = refusal_cuts(values, grades)
    assert 1.4 < lower < 1.6
    assert 2.5 < upper < 2.7


def test_a_head_does_not_learn_from_what_it_cannot_know():
    prompt = Prompt("p", "質問", "参考")
    written = Graded(prompt, "応答", "safety", 4)
    reference = Graded(prompt, "参考", "safety", 5)
    stray = Graded(prompt, "別の質問への応答", "safety", 3, kind="off-topic")
    other_scale = Graded(prompt, "応答", "refusal", 3)
    rows = [written, reference, stray, other_scale]
    assert fitted_on(rows, ("safety", True)) == [written, stray]
    assert fitted_on(rows, ("safety", False)) == [written, reference]
