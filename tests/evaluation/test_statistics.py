"""Numbers with intervals, held against the libraries and against simulated data whose truth is known."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from evaluation import statistics
from evaluation.statistics import MINIMUM_CLUSTERS, Interval


def random_scores(seed: int, n: int = 60, levels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Two raters who agree more often than not."""
    random = np.random.default_rng(seed)
    first = random.integers(1, levels + 1, n)
    return first, np.clip(first + random.integers(-1, 2, n), 1, levels)


def repeated(weights: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    """The rows as often as their weight says: what a library can be given in place of weights."""
    return [np.repeat(column, weights.astype(int), axis=0) for column in columns]


# ---- rates ----


@pytest.mark.parametrize(("hits", "of"), [(0, 5), (5, 5), (42, 61), (1, 1000)])
def test_a_rate_has_wilsons_interval(hits: int, of: int):
    low, high = proportion_confint(hits, of, method="wilson")
    assert statistics.wilson(hits, of) == Interval(hits / of, pytest.approx(low), pytest.approx(high))


def test_a_rate_of_nothing_is_undefined_and_not_zero():
    assert statistics.wilson(0, 0) == Interval(None, None, None)


# ---- several responses to one prompt ----


@pytest.mark.parametrize(("hits", "of"), [(0, 5), (5, 5), (42, 61)])
def test_with_one_response_a_prompt_a_share_has_wilsons_interval_and_a_mean_students(hits: int, of: int):
    each = [1] * hits + [0] * (of - hits)
    assert statistics.clustered_share(each, [1] * of) == statistics.wilson(hits, of)
    scores = [1, 2, 5, 3, 4, 4, 1]
    low, high = stats.t.interval(0.95, 6, loc=np.mean(scores), scale=stats.sem(scores))
    found = statistics.clustered_mean(scores, [1] * 7)
    assert found == Interval(pytest.approx(np.mean(scores)), pytest.approx(low), pytest.approx(high))


def test_the_interval_of_a_mean_over_several_responses_is_that_of_statsmodels_clustered_least_squares():
    random = np.random.default_rng(30)
    prompts = np.repeat(np.arange(40), random.integers(1, 6, 40))
    scores = random.normal(0, 1, 40)[prompts] + random.normal(0, 1, len(prompts))
    fit = OLS(scores, np.ones(len(scores))).fit(cov_type="cluster", cov_kwds={"groups": prompts}, use_t=True)
    ((low, high),) = fit.conf_int()
    found = statistics.clustered_mean(np.bincount(prompts, scores), np.bincount(prompts))
    assert found == Interval(pytest.approx(scores.mean()), pytest.approx(low), pytest.approx(high))


def test_repeating_each_answer_narrows_neither_share_nor_mean():
    hits = [1, 0, 0, 1, 0, 1, 0, 0, 0, 1] * 6
    once, fourfold = (statistics.clustered_share([h * k for h in hits], [k] * 60) for k in (1, 4))
    assert (fourfold.low, fourfold.high) == (pytest.approx(once.low, abs=0.01), pytest.approx(once.high, abs=0.01))
    naive = statistics.wilson(4 * sum(hits), 240)
    assert naive.high - naive.low < 0.6 * (fourfold.high - fourfold.low)
    means = [statistics.clustered_mean([h * k for h in hits], [k] * 60) for k in (1, 4)]
    assert (means[0].low, means[0].high) == (pytest.approx(means[1].low), pytest.approx(means[1].high))


@pytest.mark.parametrize("hits", [0, 4], ids=["none", "all"])
def test_a_share_of_none_or_all_is_no_surer_than_one_response_a_prompt_would_make_it(hits: int):
    found, alone = statistics.clustered_share([hits] * 30, [4] * 30), statistics.wilson(30 if hits else 0, 30)
    assert found.high - found.low >= alone.high - alone.low


def test_prompts_that_all_have_the_same_share_have_an_interval_no_narrower_than_that_of_independent_responses():
    for hits, of in (([1, 1], [2, 2]), ([1] * 30, [2] * 30), ([1, 2, 3], [2, 4, 6])):
        found, naive = statistics.clustered_share(hits, of), statistics.wilson(sum(hits), sum(of))
        assert found.value == 0.5
        assert found.low <= naive.low < naive.high <= found.high


def test_a_prompt_without_a_judged_response_is_not_part_of_a_share_or_mean():
    assert statistics.clustered_share([2, 0, 1], [2, 0, 2]) == statistics.clustered_share([2, 1], [2, 2])
    assert statistics.clustered_mean([9, 0, 4], [2, 0, 1]) == statistics.clustered_mean([9, 4], [2, 1])
    assert statistics.clustered_share([0], [0]) == statistics.clustered_mean([0.0], [0]) == Interval(None)


def test_one_prompt_or_no_spread_claims_no_interval_of_a_mean():
    assert statistics.clustered_mean([8], [2]) == Interval(4.0)
    assert statistics.clustered_mean([4, 4, 4], [1, 1, 1]) == Interval(4.0)
    assert statistics.clustered_share([1], [3]) == Interval(pytest.approx(1 / 3))


def test_every_cluster_needs_a_sum_and_a_size():
    with pytest.raises(ValueError, match="cluster"):
        statistics.clustered_mean([1.0], [1, 1])


# ---- agreement: values come from the libraries, draws from our own formulas over weights ----


@pytest.mark.parametrize("seed", range(8))
def test_what_is_drawn_is_what_the_libraries_say_of_the_drawn_rows(seed: int):
    first, second = random_scores(seed)
    length = np.random.default_rng(seed).integers(5, 40, len(first)).astype(float)
    weights = np.random.default_rng(seed + 100).integers(0, 4, (5, len(first))).astype(float)
    counts = statistics._one_hot(first - 1, 5) + statistics._one_hot(second - 1, 5)
    kappas = statistics.kappas(statistics._tables(weights, first, second, 5))
    spearmans = statistics.spearmans(weights, length, second - first)
    pearsons = statistics.pearsons(weights, first, second)
    alphas = statistics.alphas(weights, counts)
    for draw, row in enumerate(weights):
        a, b, long, seen = repeated(row, first, second, length, counts)
        assert kappas[draw] == pytest.approx(cohen_kappa_score(a, b, weights="quadratic", labels=[1, 2, 3, 4, 5]))
        assert spearmans[draw] == pytest.approx(stats.spearmanr(long, b - a).statistic)
        assert pearsons[draw] == pytest.approx(stats.pearsonr(a, b).statistic)
        expected = krippendorff.alpha(value_counts=seen, value_domain=[1, 2, 3, 4, 5], level_of_measurement="ordinal")
        assert alphas[draw] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_alpha_with_absent_ratings_and_more_than_two_raters_is_the_librarys(seed: int):
    counts = np.random.default_rng(seed).integers(0, 3, (40, 3))
    expected = krippendorff.alpha(value_counts=counts, value_domain=[1, 2, 3], level_of_measurement="ordinal")
    assert statistics.alpha(counts) == pytest.approx(expected)
    assert statistics.alphas(np.ones((1, 40)), counts)[0] == pytest.approx(expected)


def test_the_values_of_two_raters_are_the_libraries():
    first, second = random_scores(3)
    found = statistics.rater_agreement(first, second, range(60), 5, draws=50)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))
    assert found.spearman.value == pytest.approx(stats.spearmanr(first, second).statistic)
    assert found.pearson.value == pytest.approx(stats.pearsonr(first, second).statistic)
    expected = krippendorff.alpha(
        np.stack([first, second]), level_of_measurement="ordinal", value_domain=[1, 2, 3, 4, 5]
    )
    assert found.alpha.value == pytest.approx(expected)


def test_correlations_read_the_finer_scores_where_there_are_some():
    first, second = random_scores(4, levels=2)
    raw = second * 2 - 1 + (np.arange(60) % 2)
    found = statistics.rater_agreement(first, second, range(60), 2, raw, draws=50)
    assert found.pearson.value == pytest.approx(stats.pearsonr(first, raw).statistic)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param([3] * 40, [1, 2, 3, 4] * 10, id="people gave one score"),
        pytest.param([1, 2, 3, 4] * 10, [3] * 40, id="the judge gave one score"),
        pytest.param([2] * 40, [2] * 40, id="both gave the same one"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_one_score_only_says_nothing_about_agreement(first: list[int], second: list[int]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = statistics.rater_agreement(first, second, range(len(first)), 5, draws=20)
    assert {found.kappa, found.spearman, found.pearson, found.alpha} == {Interval(None)}


def test_two_points_always_lie_on_a_line_so_they_have_no_correlation():
    assert statistics.spearman([1, 2], [1, 2]) is None
    assert statistics.pearson([1, 2], [1, 2]) is None


def test_alpha_needs_a_response_that_two_people_rated():
    assert statistics.alpha(np.array([[1, 0], [0, 1]])) is None
    assert statistics.alpha(np.array([[2, 0], [2, 0]])) is None


@pytest.mark.parametrize(
    ("first", "second", "clusters"),
    [([1, 6], [1, 1], [1, 2]), ([0, 1], [1, 1], [1, 2]), ([1, 2], [1], [1, 2]), ([1, 2], [1, 2], [1])],
    ids=["above the scale", "below the scale", "a rater short", "a cluster short"],
)
def test_scores_off_the_scale_or_out_of_step_are_refused(
    first: Sequence[int], second: Sequence[int], clusters: list[int]
):
    with pytest.raises(ValueError, match=r"Scores|raters"):
        statistics.rater_agreement(first, second, clusters, 5)


# ---- the bootstrap ----


def test_the_same_seed_gives_the_same_interval_and_another_nearly_the_same():
    first, second = random_scores(5)
    found = [statistics.rater_agreement(first, second, range(60), 5, draws=400, seed=s).kappa for s in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert found[0].low == pytest.approx(found[2].low, abs=0.03)


def test_the_interval_does_not_depend_on_how_many_draws_fit_in_memory(monkeypatch: pytest.MonkeyPatch):
    first, second = random_scores(6)
    whole = statistics.spearman_interval(first, second, range(60), draws=200)
    monkeypatch.setattr(statistics, "BLOCK", 60 * 7)
    parts = statistics.spearman_interval(first, second, range(60), draws=200)
    assert parts.value == whole.value
    assert parts.low == pytest.approx(whole.low, abs=1e-9)


def test_responses_to_one_prompt_are_drawn_together_so_repeating_them_narrows_nothing():
    first, second = random_scores(7)
    once = statistics.rater_agreement(first, second, range(60), 5, draws=400).kappa
    fourfold = [np.tile(scores, 4) for scores in (first, second)]
    clustered = statistics.rater_agreement(*fourfold, np.tile(np.arange(60), 4), 5, draws=400).kappa
    naive = statistics.rater_agreement(*fourfold, range(240), 5, draws=400).kappa
    assert (clustered.low, clustered.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert naive.high - naive.low < 0.7 * (once.high - once.low)


def test_few_prompts_claim_no_interval():
    first, second = random_scores(8)
    clusters = np.arange(60) % (MINIMUM_CLUSTERS - 1)
    found = statistics.rater_agreement(first, second, clusters, 5).kappa
    assert found.value is not None and (found.low, found.high) == (None, None)


def test_perfect_agreement_claims_no_interval_since_it_has_no_spread():
    scores = [1, 2, 3, 4, 5] * 8
    assert statistics.rater_agreement(scores, scores, range(40), 5, draws=100).kappa == Interval(1.0, None, None)


def test_no_interval_is_made_of_the_few_draws_in_which_a_statistic_is_defined():
    first = [1] * 39 + [2]  # a third of the draws miss the only 2
    second = [1, 2] * 20
    found = statistics.rater_agreement(first, second, range(40), 5, draws=300).kappa
    assert found.value is not None and found.low is None


def test_the_libraries_are_asked_once_however_many_draws_there_are(monkeypatch: pytest.MonkeyPatch):
    first, second = random_scores(9)
    asked: list[str] = []
    for name in ("kappa", "spearman", "pearson", "alpha"):
        ask = getattr(statistics, name)
        monkeypatch.setattr(statistics, name, lambda *values, name=name, ask=ask: asked.append(name) or ask(*values))
    statistics.rater_agreement(first, second, range(60), 5)
    assert sorted(asked) == ["alpha", "kappa", "pearson", "spearman"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 60)), max_size=80))
def test_intervals_are_in_order_and_on_the_scale_and_raters_can_change_places(rows: list[tuple[int, int, int]]):
    first, second, clusters = ([row[n] for row in rows] for n in range(3))
    one = statistics.rater_agreement(first, second, clusters, 5, draws=60)
    other = statistics.rater_agreement(second, first, clusters, 5, draws=60)
    for name in ("kappa", "spearman", "pearson", "alpha"):
        found, turned = getattr(one, name), getattr(other, name)
        assert found.value == (None if turned.value is None else pytest.approx(turned.value))
        if found.value is not None:
            assert -1 - 1e-9 <= found.value <= 1 + 1e-9
        assert (found.low is None) == (found.high is None)
        if found.low is not None:
            assert found.value is not None
            assert -1 - 1e-9 <= found.low <= found.high <= 1 + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_a_rate_lies_inside_its_interval_and_its_complement_mirrors_it(hits: int, misses: int):
    rate, rest = statistics.wilson(hits, hits + misses), statistics.wilson(misses, hits + misses)
    if rate.value is not None:
        assert 0 <= rate.low <= rate.value + 1e-12 and rate.value - 1e-12 <= rate.high <= 1
        assert rate.low == pytest.approx(1 - rest.high, abs=1e-9)


# ---- paired comparisons ----


def test_the_mean_difference_is_signed_from_the_first_to_the_second():
    found = statistics.mean_difference([1, 2, 3] * 20, [2, 4, 3] * 20, range(60), draws=300)
    assert found.value == pytest.approx(1.0)
    assert 0.7 < found.low < 1.0 < found.high < 1.3
    assert statistics.mean_difference([], [], []) == Interval(None)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 9), (9, 3), (0, 8), (20, 20)])
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(only_first: int, only_second: int):
    discordant = only_first + only_second
    expected = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    assert statistics.mcnemar(only_first, only_second) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_the_sign_flip_test_with_one_response_a_prompt_is_the_exact_mcnemar_test(seed: int):
    changes = np.random.default_rng(seed).integers(-1, 2, 80)
    up, down = int((changes > 0).sum()), int((changes < 0).sum())
    for mid in (False, True):
        assert statistics.sign_flip(changes, mid=mid) == pytest.approx(statistics.mcnemar(down, up, mid=mid))


def test_the_mid_p_form_counts_what_was_seen_by_half():
    # Fagerland et al. 2013, table 1: 1 and 7 discordant pairs, exact p 0.070, mid-p 0.039.
    assert statistics.mcnemar(1, 7) == pytest.approx(0.0703, abs=1e-4)
    assert statistics.mcnemar(1, 7, mid=True) == pytest.approx(0.0391, abs=1e-4)
    assert statistics.mcnemar(3, 3, mid=True) == pytest.approx(1 - 20 / 64 / 2)
    assert statistics.mcnemar(0, 0, mid=True) == statistics.sign_flip([0], mid=True) == 1.0


@pytest.mark.parametrize("changes", [[3, -1, 2, 2, 0, 1, -2, 4], [1, 1, 1], [4, -4], [5, 3, 3, 2, 1, -1]])
def test_the_sign_flip_test_is_scipys_exact_permutation_test_of_paired_samples(changes: list[int]):
    expected = stats.permutation_test(
        (np.array(changes), np.zeros(len(changes))), lambda a, b: float(np.sum(a - b)), permutation_type="samples"
    )
    assert statistics.sign_flip(changes) == pytest.approx(expected.pvalue)


def test_prompts_without_a_change_say_nothing_so_the_p_value_is_1():
    assert statistics.sign_flip([]) == statistics.sign_flip([0, 0]) == 1.0


def test_holm_leaves_tests_that_were_not_made_out_of_the_count():
    assert statistics.holm([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06),
    ]  # fmt: skip
    assert statistics.holm([None]) == [None]
    assert statistics.holm([]) == []
