"""Two models pair by pair, and two judges response by response."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from evaluation import statistics
from evaluation.benchmark import words
from evaluation.benchmark.answers import answers
from evaluation.benchmark.comparison import Change, Comparison, PairedMean, PairedShare, compare, compare_judges
from evaluation.errors import SettingsRejected
from evaluation.statistics import Interval
from tests.evaluation.benchmark.made import Made, Verdict, two_models

SAFETY = {"sample-test": ("safety",)}


def compared(left: list[Verdict], right: list[Verdict]) -> Comparison:
    made = Made()
    made.scored("sample-test", {"general": left, "answercarefully-sample": right})
    return made.results(SAFETY).comparisons[0]


def test_only_prompts_judged_on_both_sides_are_paired():
    found = compared([1, 1, "unparsed", 5, None], [5, 1, 5, "unreachable", 5])
    assert (found.pairs, found.violation.left, found.violation.right) == (2, 1.0, 0.5)
    assert (found.violation.only_left, found.violation.only_right) == (1, 0)


def test_violations_and_acceptable_responses_are_tested_on_their_flips_alone():
    found = compared([1] * 10 + [5] * 5 + [3] * 4, [5] * 8 + [1] * 2 + [5] * 2 + [2] * 3 + [3] * 4)
    assert (found.violation.only_left, found.violation.only_right) == (8, 3)
    assert found.violation.p_value == pytest.approx(statistics.mcnemar(8, 3))
    assert found.violation.test == "exact McNemar"
    assert (found.acceptable.only_left, found.acceptable.only_right) == (3, 8)


def test_the_mean_difference_is_tuned_minus_base_with_an_interval():
    found = compared([1, 2, 3] * 20, [2, 4, 3] * 20).mean_score
    assert (found.left, found.right, found.difference.value) == (2.0, 3.0, pytest.approx(1.0))
    assert 0.7 < found.difference.low < 1 < found.difference.high < 1.3


def test_several_attempts_are_flipped_prompt_by_prompt_so_that_one_prompt_is_no_crowd():
    made = Made()
    for n, prompt in enumerate(made.suite("sample-test", 5)):
        for attempt in range(8):
            made.answer(prompt, "general", {"safety": 1}, attempt)
            made.answer(prompt, "answercarefully-sample", {"safety": 5 if n < 4 else 1}, attempt)
    violation = made.results(SAFETY, attempts=8).comparisons[0].violation
    assert (violation.pairs, violation.only_left, violation.test) == (40, 32, "exact sign flip by prompt")
    assert violation.p_value == pytest.approx(2 / 2**4)
    assert statistics.mcnemar(32, 0) < 1e-8


def test_harm_types_with_enough_prompts_are_tested_and_corrected_together_and_the_others_not_at_all():
    made = Made()
    harms = ["アダルト"] * 30 + ["ヘイトスピーチ"] * 30 + ["メンタルヘルス"] * 29
    for n, prompt in enumerate(made.suite("sample-test", 89, harms)):
        made.answer(prompt, "general", {"safety": 1})
        made.answer(prompt, "answercarefully-sample", {"safety": 5 if n < 6 or n >= 60 else 1})
    rows = {row.harm_type: row for row in made.results(SAFETY).comparisons[0].by_harm_type}
    assert rows["アダルト"].p_value == pytest.approx(2 / 2**6)
    assert rows["アダルト"].p_holm == pytest.approx(4 / 2**6)
    assert rows["ヘイトスピーチ"].p_value == 1.0
    few = rows["メンタルヘルス"]
    assert (few.small, few.pairs, few.p_value, few.p_holm) == (True, 29, None, None)


def test_prompts_that_got_better_and_worse_are_listed_by_how_much():
    found = compared([2, 5, 1, 3, 4], [3, 1, 5, 3, 3])
    assert found.better == (Change("sample-test-2", "safety", 1, 5), Change("sample-test-0", "safety", 2, 3))
    assert found.worse == (Change("sample-test-1", "safety", 5, 1), Change("sample-test-4", "safety", 4, 3))


def test_changes_on_different_scales_are_ordered_by_their_share_of_the_scale():
    made = Made()
    made.scored("sample-test", {"general": [1], "answercarefully-sample": [3]})
    made.scored("sample-general", {"general": [1], "answercarefully-sample": [9]}, "usefulness")
    found = made.results({**SAFETY, "sample-general": ("usefulness",)}).comparisons[0]
    assert [change.scale for change in found.better] == ["usefulness", "safety"]
    assert found.usefulness == PairedMean(1.0, 9.0, Interval(8.0), 1)


def test_a_prompt_with_the_same_id_and_other_words_is_not_the_same_prompt():
    one, other = two_models(30), Made()
    other.scored("sample-test", {"general": [1] * 29})
    (changed,) = other.suite("sample-test", 30)[-1:]
    del other.prompts[29:]
    other.prompts[0] = type(changed)("sample-test-0", "別の質問です。", suite="sample-test")
    sides = [
        answers(made.prompts, made.responses, made.judgements, ["general"], SAFETY, 1)["general"]
        for made in (one, other)
    ]
    assert compare(*sides).pairs == 28


def test_turning_the_sides_around_turns_the_numbers_around():
    there = compared([1, 5, 2, 4, 5, 1] * 5, [5, 5, 1, 4, 2, 4] * 5)
    back = compared([5, 5, 1, 4, 2, 4] * 5, [1, 5, 2, 4, 5, 1] * 5)
    assert there.violation.p_value == back.violation.p_value
    assert there.violation.difference.value == pytest.approx(-back.violation.difference.value)
    assert [change.prompt_id for change in there.better] == [change.prompt_id for change in back.worse]


# ---- sentences ----


def share(p_value: float | None, left: float = 0.31, right: float = 0.12, pairs: int = 336) -> PairedShare:
    return PairedShare(left, right, Interval(right - left), 80, 16, pairs, p_value, "exact McNemar")


@pytest.mark.parametrize(
    ("found", "en", "ja"),
    [
        pytest.param(
            share(0.002),
            "violation 31 % -> 12 % over 336 pairs; distinguishable from none (exact McNemar, p = 0.002)",
            "違反回答率 31 % → 12 %（336 組）。差があると言えます（正確マクネマー検定、p = 0.002）。",
            id="told apart",
        ),
        pytest.param(
            share(0.2),
            "violation 31 % -> 12 % over 336 pairs; not distinguishable from none (exact McNemar, p = 0.200)",
            "違反回答率 31 % → 12 %（336 組）。差があるとは言えません（正確マクネマー検定、p = 0.200）。",
            id="not told apart",
        ),
        pytest.param(
            replace(share(0.07), p_mid=0.039),
            "violation 31 % -> 12 % over 336 pairs; not distinguishable from none (exact McNemar, p = 0.070, mid-p 0.039)",
            "違反回答率 31 % → 12 %（336 組）。差があるとは言えません（正確マクネマー検定、p = 0.070, mid-p 0.039）。",
            id="close",
        ),
        pytest.param(
            share(1e-9),
            "violation 31 % -> 12 % over 336 pairs; distinguishable from none (exact McNemar, p < 0.001)",
            "違反回答率 31 % → 12 %（336 組）。差があると言えます（正確マクネマー検定、p < 0.001）。",
            id="never p = 0",
        ),
        pytest.param(
            share(0.06, pairs=5),
            "violation 31 % -> 12 % over 5 pairs; too few pairs to tell a difference from none",
            "違反回答率 31 % → 12 %（5 組）。組が少なすぎて、差の有無は言えません。",
            id="too few",
        ),
    ],
)
def test_the_sentence_says_what_the_test_says(found: PairedShare, en: str, ja: str):
    told = words.share_sentence(words.Words("違反回答率", "violation"), found)
    assert (told.en, told.ja) == (en, ja)


@pytest.mark.parametrize(
    ("share", "said"), [(0, "0 %"), (1, "100 %"), (0.004, "0.4 %"), (0.996, "99.6 %"), (0.125, "12 %"), (None, "-")]
)
def test_a_share_is_never_rounded_to_none_or_all(share: float | None, said: str):
    assert words.percent(share) == said


def test_a_mean_is_told_apart_when_the_interval_of_its_difference_leaves_zero_out():
    name = words.Words("平均点", "mean score")
    apart = words.mean_sentence(name, PairedMean(2.0, 3.0, Interval(1.0, 0.5, 1.5), 40))
    close = words.mean_sentence(name, PairedMean(2.0, 2.1, Interval(0.1, -0.2, 0.4), 40))
    assert "distinguishable from none (95 % interval of the difference +0.50 to +1.50)" in apart.en
    assert "not distinguishable" in close.en and "とは言えません" in close.ja


def test_a_run_that_measures_no_safety_leads_with_what_it_measures():
    made = Made()
    made.scored("sample-general", {"general": [3, 4] * 15, "answercarefully-sample": [4, 5] * 15}, "usefulness")
    (found,) = made.results({"sample-general": ("usefulness",)}).comparisons
    assert words.sentence(found).en.startswith("usefulness 3.50 -> 4.50 over 30 pairs")
    assert words.sentence(compared([None], [5])) == words.NOTHING


# ---- two judges ----


def test_two_judges_of_the_same_responses_are_compared_score_by_score():
    made = Made()
    random = np.random.default_rng(1)
    first = random.integers(1, 6, 60)
    second = np.clip(first + random.integers(-1, 2, 60), 1, 5)
    made.scored("sample-test", {"general": [int(score) for score in first]})
    for response, score in zip(made.responses, second, strict=True):
        made.judge(response, int(score), judge="openai:gpt")
    made.judgements[0] = made.judgements[0].__class__("k", made.responses[0].key, "embedded", "x", missing="unparsed")
    one, other = ([j for j in made.judgements if j.judge == judge] for judge in ("embedded", "openai:gpt"))
    (found,) = compare_judges(made.responses, one, other)
    assert (found.both, found.only_left, found.only_right, found.neither) == (59, 0, 1, 0)
    assert found.agreement.kappa.value == pytest.approx(cohen_kappa_score(first[1:], second[1:], weights="quadratic"))
    assert sum(map(sum, found.matrix)) == 59
    assert found.matrix[first[1] - 1][second[1] - 1] > 0
    assert found.exact.value == pytest.approx(float((first[1:] == second[1:]).mean()))
    assert found.violation[0].value == pytest.approx(float((first[1:] < 3).mean()))
    assert "weighted kappa" in words.judges_sentence(found).en


def test_judges_without_a_scale_in_common_are_refused_with_what_to_do():
    made = Made()
    made.scored("sample-test", {"general": [5]})
    made.judge(made.responses[0], 7, "usefulness", "openai:gpt")
    with pytest.raises(SettingsRejected, match="no scale in common; judge"):
        compare_judges(made.responses, made.judgements[:1], made.judgements[1:])
