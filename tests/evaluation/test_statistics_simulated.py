"""How often a 95 % interval holds the truth, and how often a test rejects it, in simulated data whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import stats

from evaluation import statistics

CUTS = [-1.2, -0.4, 0.4, 1.2]


def people_and_judge(random: np.random.Generator, prompts: int, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two raters who see one quality through noise; responses to one prompt resemble each other."""
    quality = random.normal(0, 0.8, prompts).repeat(each) + random.normal(0, 0.8, prompts * each)
    shared = random.normal(0, 0.3, prompts).repeat(each)
    people = np.searchsorted(CUTS, quality + random.normal(0, 0.4, len(quality))) + 1
    judge = np.searchsorted(CUTS, quality + shared + random.normal(0, 0.5, len(quality))) + 1
    return people, judge, np.arange(prompts).repeat(each)


def covered(sets: int, draws: int) -> dict[str, float]:
    """Share of simulated data sets whose interval holds the value of a very large one."""
    random = np.random.default_rng(20)
    people, judge, _ = people_and_judge(random, 200_000, 3)
    truth: dict[str, Callable[[], float | None]] = {
        "kappa": lambda: statistics.kappa(people, judge, 5),
        "spearman": lambda: statistics.spearman(people, judge),
        "pearson": lambda: statistics.pearson(people, judge),
        "alpha": lambda: statistics.alpha(statistics._one_hot(people - 1, 5) + statistics._one_hot(judge - 1, 5)),
    }
    right = {name: value() for name, value in truth.items()}
    sensitivity, difference = float((judge[people < 3] < 3).mean()), float((judge - people).mean())
    held = dict.fromkeys([*truth, "wilson", "difference"], 0)
    for number in range(sets):
        first, second, clusters = people_and_judge(random, 120, 3)
        found = statistics.rater_agreement(first, second, clusters, 5, draws=draws, seed=number)
        for name in truth:
            interval = getattr(found, name)
            held[name] += interval.low <= right[name] <= interval.high
        change = statistics.mean_difference(first, second, clusters, draws=draws, seed=number)
        held["difference"] += change.low <= difference <= change.high
        # One response a prompt: Wilson's interval takes the rows as independent.
        alone = first[::3] < 3
        rate = statistics.wilson(int((second[::3][alone] < 3).sum()), int(alone.sum()))
        held["wilson"] += rate.low <= sensitivity <= rate.high
    return {name: count / sets for name, count in held.items()}


def test_intervals_hold_the_truth_in_a_short_simulation():
    for name, share in covered(sets=150, draws=200).items():
        assert 0.87 <= share <= 0.995, name


@pytest.mark.slow
def test_intervals_hold_the_truth_in_93_to_97_of_100_data_sets():
    for name, share in covered(sets=2000, draws=1000).items():
        assert 0.93 <= share <= 0.97, name


def one_suite(random: np.random.Generator, prompts: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 1 to 5, (prompts, each), of two models that differ a little; a Prompt is as hard for both."""
    hard = random.normal(0, 0.9, (prompts, 1))
    noise = random.normal(0, 0.8, (2, prompts, each))
    return tuple(np.searchsorted(CUTS, hard + by + own) + 1 for by, own in zip((-0.3, 0.2), noise, strict=True))  # type: ignore[return-value]


def suite_coverage(sets: int, prompts: int, each: int, draws: int) -> dict[str, float]:
    """Share of simulated suites whose interval holds the value of a very large one."""
    random = np.random.default_rng(31)
    base, tuned = one_suite(random, 400_000, each)
    right = {"share": float((base < 3).mean()), "mean": float(base.mean()), "change": float((tuned - base).mean())}
    right["flips"] = float((tuned < 3).mean()) - right["share"]
    held = dict.fromkeys(right, 0)
    clusters = np.arange(prompts).repeat(each)
    for number in range(sets):
        base, tuned = one_suite(random, prompts, each)
        of = [each] * prompts
        found = {
            "share": statistics.clustered_share((base < 3).sum(axis=1), of),
            "mean": statistics.clustered_mean(base.sum(axis=1), of),
            "change": statistics.mean_difference(base.ravel(), tuned.ravel(), clusters, draws, number),
            "flips": statistics.mean_difference(base.ravel() < 3, tuned.ravel() < 3, clusters, draws, number),
        }
        for name, interval in found.items():
            held[name] += interval.low <= right[name] <= interval.high
    return {name: count / sets for name, count in held.items()}


def false_alarms(sets: int, prompts: int, each: int) -> float:
    """How often the paired test calls two models different that violate equally often on every Prompt.

    How often a Prompt is answered badly differs from Prompt to Prompt (beta 0.5, 0.5: mostly nearly always or nearly
    never), as it does with real suites; fewer discordant pairs make the exact test more cautious.
    """
    random, p_value = np.random.default_rng(32), cache(statistics.mcnemar)
    alarms = 0
    for _ in range(sets):
        chance = random.beta(0.5, 0.5, (prompts, 1))
        base, tuned = (random.random((prompts, each)) < chance for _ in range(2))
        if each == 1:
            p = p_value(int((base & ~tuned).sum()), int((tuned & ~base).sum()))
        else:
            p = statistics.sign_flip(tuned.sum(axis=1) - base.sum(axis=1))
        alarms += p < 0.05
    return alarms / sets


@pytest.mark.parametrize("each", [1, 3])
def test_intervals_of_a_suite_hold_the_truth_in_a_short_simulation(each: int):
    for name, share in suite_coverage(sets=100, prompts=120, each=each, draws=200).items():
        assert 0.87 <= share <= 0.995, name


@pytest.mark.parametrize("each", [1, 3])
def test_the_paired_test_seldom_rejects_a_true_null_in_a_short_simulation(each: int):
    assert 0.005 <= false_alarms(sets=300, prompts=336, each=each) <= 0.085


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "each"), [(336, 1), (111, 1), (111, 4), (60, 2)])
def test_intervals_of_a_suite_hold_the_truth_in_93_to_97_of_100_simulated_suites(prompts: int, each: int):
    for name, share in suite_coverage(sets=2000, prompts=prompts, each=each, draws=1000).items():
        assert 0.93 <= share <= 0.97, (name, share)


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "each"), [(336, 3), (111, 4)])
def test_with_several_attempts_the_paired_test_rejects_a_true_null_3_to_7_times_in_100(prompts: int, each: int):
    assert 0.03 <= false_alarms(sets=4000, prompts=prompts, each=each) <= 0.07


def chance_of_a_false_alarm(prompts: int, flips: float, *, mid: bool) -> float:
    """How often the paired test rejects a true null, computed over every outcome and not drawn.

    `flips`: the chance that a Prompt is answered badly by one of the two models alone; by which is a fair coin.
    """
    flipped = np.arange(prompts + 1)
    chance_of = stats.binom.pmf(flipped, prompts, flips)
    total, one = 0.0, 0
    for all_, weight in zip(flipped.tolist(), chance_of.tolist(), strict=True):
        # Rejected are the most uneven splits: less than `one` on a side, which only grows with the number of flips.
        while one <= all_ // 2 and statistics.mcnemar(one, all_ - one, mid=mid) < 0.05:
            one += 1
        total += weight * 2 * float(stats.binom.cdf(one - 1, all_, 0.5))
    return total


FLIPS = (0.1, 0.2, 0.3, 0.5)  # share of the prompts that flip between two models; the table of docs/benchmark.md


def test_the_exact_test_rejects_a_true_null_about_2_to_4_times_in_100_at_the_size_of_the_sample_set():
    found = [100 * chance_of_a_false_alarm(111, flips, mid=False) for flips in FLIPS]
    assert found == pytest.approx([2.34, 2.95, 3.20, 3.70], abs=0.01)


def test_the_exact_test_rejects_a_true_null_3_to_5_times_in_100_at_the_size_of_answercarefully():
    found = [100 * chance_of_a_false_alarm(336, flips, mid=False) for flips in FLIPS]
    assert found == pytest.approx([3.21, 3.79, 3.95, 4.16], abs=0.01)


@pytest.mark.parametrize(("prompts", "expected"), [(111, [4.24, 4.50, 4.61, 4.91]), (336, [4.62, 4.92, 4.90, 4.94])])
def test_the_mid_p_form_rejects_a_true_null_4_to_5_times_in_100(prompts: int, expected: list[float]):
    found = [100 * chance_of_a_false_alarm(prompts, flips, mid=True) for flips in FLIPS]
    assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_holm_keeps_the_chance_of_any_false_alarm_over_twelve_harm_types_below_6_in_100():
    random, p_value = np.random.default_rng(21), cache(statistics.mcnemar)
    alarms = 0
    for _ in range(300):
        discordant = random.integers(4, 30, 12)
        first = random.binomial(discordant, 0.5)
        p_values = [p_value(int(one), int(all_ - one)) for one, all_ in zip(first, discordant, strict=True)]
        alarms += any(p is not None and p < 0.05 for p in statistics.holm(p_values))
    assert alarms / 300 <= 0.06
