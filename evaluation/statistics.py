"""Numbers with intervals: rates, agreement of two raters, correlations, paired comparisons. Pure functions.

Values come from scipy, statsmodels, scikit-learn and krippendorff. An interval needs the statistic of 2,000 resampled
data sets, for which one library call each would take seconds: those draws are computed together, from the same formulas
over weights (how often each row was drawn), and tests hold them against the libraries.

What is undefined is None and never 0: a kappa where one side gave one score only, a rate of nothing. Scores are whole
numbers from 1; a cluster is what was drawn at random, the Prompt, so that several responses to one do not count as news.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95  # of every interval
DRAWS = 2000
SEED = 20240601
MINIMUM_N = 30  # below it a group is shown and never ranked
MINIMUM_CLUSTERS = 20  # below it a percentile interval covers too little (88 % with 15 clusters of 5, in simulation)
DEFINED_SHARE = 0.95  # of the draws that must have a value; with fewer there is no interval
BLOCK = 2_000_000  # weights held at once

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Statistic = Callable[[Floats], Floats]  # weights (draws, rows) -> values (draws,), NaN where undefined


@dataclass(frozen=True)
class Interval:
    """A statistic with its 95 % interval. No value: undefined. A value alone: its uncertainty cannot be told."""

    value: float | None
    low: float | None = None
    high: float | None = None


UNDEFINED = Interval(None)


# ---- rates ---------------------------------------------------------------------------------------------------------


def wilson(hits: int, of: int) -> Interval:
    """Share `hits` / `of` with Wilson's interval, which also holds at 0 and 1 and for small counts.

    It takes the rows as independent: with several responses to one Prompt it is somewhat too narrow.
    """
    from statsmodels.stats.proportion import proportion_confint

    if of == 0:
        return UNDEFINED
    low, high = proportion_confint(hits, of, alpha=1 - LEVEL, method="wilson")
    return Interval(hits / of, float(low), float(high))


def clustered_share(hits: Sequence[int], of: Sequence[int]) -> Interval:
    """Share over the Prompts of `hits[i]` out of `of[i]` Responses; Wilson's interval where each has one.

    Several Responses to one Prompt resemble each other, so they count as fewer: Wilson's interval at the sample size
    that one Response a Prompt would need for the same spread (Kish's design effect with Korn and Graubard's t for few
    clusters; Franco et al. 2019, doi:10.1093/jssam/smy019, compare it with others).
    """
    from scipy import stats
    from statsmodels.stats.proportion import proportion_confint

    inside, size = _clusters(hits, of)
    total, clusters = float(size.sum()), len(size)
    if total == clusters:
        return wilson(int(inside.sum()), clusters)
    share = float(inside.sum()) / total
    if clusters < 2:
        return Interval(share)
    # Without spread there is nothing to learn from: then every further Response to a Prompt counts as no news.
    if 0 < share < 1:
        variance = _ratio_variance(inside, size)  # 0 where every Prompt has the same share, as one of two each
        effective = min(total, share * (1 - share) / variance) if variance > 0 else total
    else:
        effective = float(clusters)
    effective *= float(stats.norm.ppf((1 + LEVEL) / 2) / stats.t.ppf((1 + LEVEL) / 2, clusters - 1)) ** 2
    low, high = proportion_confint(share * effective, effective, alpha=1 - LEVEL, method="wilson")
    return Interval(share, float(low), float(high))


def clustered_mean(sums: Sequence[float], of: Sequence[int]) -> Interval:
    """Mean over the Prompts of `of[i]` scores that sum to `sums[i]`, with Student's t interval over the Prompts.

    With one score a Prompt it is the usual t interval; otherwise that of a least-squares mean with cluster-robust
    errors. No interval below two Prompts or without spread, which says nothing about the spread.
    """
    from scipy import stats

    inside, size = _clusters(sums, of)
    if not len(size):
        return UNDEFINED
    mean = float(inside.sum() / size.sum())
    variance = _ratio_variance(inside, size) if len(size) > 1 else 0.0
    if variance < 1e-18:
        return Interval(mean)
    low, high = stats.t.interval(LEVEL, len(size) - 1, loc=mean, scale=math.sqrt(variance))
    return Interval(mean, float(low), float(high))


def _clusters(sums: Sequence[float], of: Sequence[int]) -> tuple[Floats, Floats]:
    """Sums and sizes of the clusters that have anything. Raises ValueError for sequences of different length."""
    if len(sums) != len(of):
        raise ValueError("Every cluster needs its sum and its size.")
    size = np.asarray(of, dtype=np.float64)
    return np.asarray(sums, dtype=np.float64)[size > 0], size[size > 0]


def _ratio_variance(sums: Floats, of: Floats) -> float:
    """Variance of sum(sums) / sum(of) when the clusters were drawn at random."""
    rest = sums - of * (sums.sum() / of.sum())
    return float(len(of) / (len(of) - 1) * (rest @ rest) / of.sum() ** 2)


# ---- agreement and correlation -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RaterAgreement:
    """How far two raters of the same responses agree."""

    kappa: Interval  # quadratic weighted
    spearman: Interval
    pearson: Interval
    alpha: Interval  # Krippendorff's, ordinal


def rater_agreement(
    first: Sequence[int],
    second: Sequence[int],
    clusters: Sequence[Hashable],
    levels: int,
    raw: Sequence[int] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> RaterAgreement:
    """Agreement of two raters with intervals by percentile bootstrap over `clusters`.

    `first` and `second` are scores from 1 to `levels`. `raw` takes the place of `second` in the correlations, where it
    may be finer than `levels`. Undefined when one of the two gave one score only. Raises ValueError for sequences of different length or a score off the scale.
    """
    a, b = _scores(first, levels), _scores(second, levels)
    finer = b if raw is None else np.asarray(raw, dtype=np.int64)
    if not len(a) == len(b) == len(finer) == len(clusters):
        raise ValueError("Both raters and the clusters need one entry for each response.")
    # Every statistic depends only on how often each combination of scores occurs, of which there are few.
    cells, cell_of, size = np.unique(np.stack([a, b, finer]), axis=1, return_inverse=True, return_counts=True)
    one, two, fine = cells
    counts = _one_hot(one - 1, levels) + _one_hot(two - 1, levels)
    return RaterAgreement(
        *bootstrap(
            [
                (kappa(a, b, levels), lambda w: kappas(_tables(w, one, two, levels))),
                (spearman(a, finer), lambda w: spearmans(w, one, fine)),
                (pearson(a, finer), lambda w: pearsons(w, one, fine)),
                (
                    None if _constant(a) or _constant(b) else alpha(np.repeat(counts, size, axis=0)),
                    lambda w: alphas(w, counts),
                ),
            ],
            clusters,
            draws,
            seed,
            cell_of,
        )
    )


def kappa(first: Sequence[int] | Integers, second: Sequence[int] | Integers, levels: int) -> float | None:
    """Quadratic weighted kappa; None when one of the two gave one score only, since nothing can be told from that."""
    from sklearn.metrics import cohen_kappa_score

    if _constant(first) or _constant(second):
        return None
    return float(cohen_kappa_score(first, second, weights="quadratic", labels=list(range(1, levels + 1))))


def spearman(
    first: Sequence[float] | NDArray[np.generic], second: Sequence[float] | NDArray[np.generic]
) -> float | None:
    """Spearman's rank correlation; None for a constant side or fewer than three rows."""
    from scipy import stats

    if len(first) < 3 or _constant(first) or _constant(second):
        return None
    return float(stats.spearmanr(first, second).statistic)


def pearson(
    first: Sequence[float] | NDArray[np.generic], second: Sequence[float] | NDArray[np.generic]
) -> float | None:
    """Pearson's correlation; None for a constant side or fewer than three rows."""
    from scipy import stats

    if len(first) < 3 or _constant(first) or _constant(second):
        return None
    return float(stats.pearsonr(first, second).statistic)


def alpha(counts: Integers | Floats) -> float | None:
    """Krippendorff's ordinal alpha. counts: (responses, levels), how many raters gave each score.

    None when no response has two raters or all of those that have got one and the same score.
    """
    import krippendorff

    pairable = counts[counts.sum(axis=1) > 1]
    if np.count_nonzero(pairable.sum(axis=0)) < 2:
        return None
    domain = np.arange(1, counts.shape[1] + 1)
    return float(krippendorff.alpha(value_counts=pairable, value_domain=domain, level_of_measurement="ordinal"))


def alpha_interval(
    counts: Integers | Floats, clusters: Sequence[Hashable], draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """`alpha` with its interval by percentile bootstrap over `clusters`."""
    (found,) = bootstrap([(alpha(counts), lambda w: alphas(w, counts))], clusters, draws, seed)
    return found


def spearman_interval(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable], draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """`spearman` with its interval by percentile bootstrap over `clusters`."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    (found,) = bootstrap([(spearman(a, b), lambda w: spearmans(w, a, b))], clusters, draws, seed)
    return found


# ---- paired comparisons --------------------------------------------------------------------------------------------


def mean_difference(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable], draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """Mean of `second` - `first` over pairs, with its interval by percentile bootstrap over `clusters`."""
    change = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    value = float(change.mean()) if len(change) else None
    (found,) = bootstrap([(value, lambda w: w @ change / w.sum(axis=1))], clusters, draws, seed)
    return found


def mcnemar(only_first: int, only_second: int, *, mid: bool = False) -> float:
    """Two-sided p-value of the exact McNemar test from the two counts of discordant pairs; 1 when there are none.

    `mid` counts the outcome that was seen by half (Lancaster 1961; Fagerland et al. 2013, doi:10.1186/1471-2288-13-91):
    that comes close to the 5 % of a 5 % test, where the exact test stays below it; docs/benchmark.md has the figures.
    """
    from scipy import stats
    from statsmodels.stats.contingency_tables import mcnemar as test

    p_value = float(test([[0, only_first], [only_second, 0]], exact=True).pvalue)
    if not mid or only_first + only_second == 0:
        return p_value
    seen = float(stats.binom.pmf(only_first, only_first + only_second, 0.5))
    return p_value - seen if only_first != only_second else 1 - seen / 2


def sign_flip(changes: Sequence[int], *, mid: bool = False) -> float:
    """Two-sided p-value of the exact sign-flip test: `changes[i]` is how many more Responses to Prompt i hold the trait.

    When the two models do not differ, each Prompt's change is as likely with the other sign; the distribution of the
    sum over all signs is computed, not drawn. With one Response a Prompt it is the exact McNemar test; `mid` as there.
    """
    sizes = [abs(int(change)) for change in changes if change]
    if not sizes:
        return 1.0
    middle = sum(sizes)
    chances = np.zeros(2 * middle + 1)  # of each sum from -middle to middle
    chances[middle] = 1.0
    for size in sizes:
        flipped = np.zeros_like(chances)
        flipped[size:] += chances[: len(chances) - size] / 2
        flipped[: len(chances) - size] += chances[size:] / 2
        chances = flipped
    apart = np.abs(np.arange(-middle, middle + 1))
    observed = abs(int(sum(changes)))
    as_seen = float(chances[apart == observed].sum()) / 2 if mid else 0.0
    return min(1.0, float(chances[apart >= observed].sum())) - as_seen


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over the tests that were made; None stays None."""
    from statsmodels.stats.multitest import multipletests

    made = [p for p in p_values if p is not None]
    gc.freeze()  # multipletests collects garbage at every call: 0.3 s in a process that holds much
    try:
        corrected = iter(multipletests(made, method="holm")[1] if made else ())
    finally:
        gc.unfreeze()
    return [None if p is None else float(next(corrected)) for p in p_values]


# ---- the bootstrap -------------------------------------------------------------------------------------------------


def bootstrap(
    statistics: Sequence[tuple[float | None, Statistic]],
    clusters: Sequence[Hashable],
    draws: int = DRAWS,
    seed: int = SEED,
    cell_of: Integers | None = None,
) -> list[Interval]:
    """Percentile intervals for several statistics over the same draws of whole clusters.

    Each statistic is its value on the data and a function of weights, one for each row; with `cell_of`, (rows,), one
    for each group of equal rows. No interval is claimed for fewer than
    twenty clusters, when the statistic is undefined in more than 5 % of the draws, or when all draws give one value:
    data without spread say nothing about their spread.
    """
    _, codes = np.unique([str(c) for c in clusters], return_inverse=True)
    size = int(codes.max()) + 1 if len(codes) else 0
    if size < MINIMUM_CLUSTERS:
        return [Interval(value) for value, _ in statistics]
    cells = None
    if cell_of is not None:
        cells = np.zeros((size, int(cell_of.max()) + 1))
        np.add.at(cells, (codes, cell_of), 1)
    random = np.random.default_rng(seed)
    found: list[list[Floats]] = [[] for _ in statistics]
    for start in range(0, draws, block := max(1, BLOCK // len(codes))):
        rows = min(block, draws - start)
        drawn = random.integers(size, size=(rows, size)) + np.arange(rows)[:, None] * size
        times = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        weights = times[:, codes].astype(np.float64) if cells is None else times @ cells
        for (value, statistic), values in zip(statistics, found, strict=True):
            if value is not None:
                values.append(statistic(weights))
    return [_percentiles(value, values) for (value, _), values in zip(statistics, found, strict=True)]


def _percentiles(value: float | None, blocks: list[Floats]) -> Interval:
    if value is None:
        return UNDEFINED
    drawn = np.concatenate(blocks)
    defined = drawn[~np.isnan(drawn)]
    if len(defined) < DEFINED_SHARE * len(drawn) or np.ptp(defined) < 1e-12:
        return Interval(value)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def kappas(tables: Floats) -> Floats:
    """Quadratic weighted kappa of each table. tables: (draws, levels, levels) -> (draws,)."""
    levels = tables.shape[1]
    grid = np.arange(levels)
    apart = (grid[:, None] - grid[None, :]) ** 2.0
    first, second = tables.sum(axis=2), tables.sum(axis=1)
    observed = (tables * apart).sum(axis=(1, 2)) * tables.sum(axis=(1, 2))
    expected = np.einsum("di,ij,dj->d", first, apart, second)
    constant = (np.count_nonzero(first, axis=1) < 2) | (np.count_nonzero(second, axis=1) < 2)
    return 1 - _divided(observed, np.where(constant, 0, expected))


def pearsons(weights: Floats, first: Integers | Floats, second: Integers | Floats) -> Floats:
    """Pearson's correlation under each row of weights. Both sides: (rows,), or (draws, rows) where they depend on it."""
    total = weights.sum(axis=1, keepdims=True)
    a = first - (weights * first).sum(axis=1, keepdims=True) / total
    b = second - (weights * second).sum(axis=1, keepdims=True) / total
    spread = np.sqrt((weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1))
    # Below rounding error a side is constant.
    return _divided((weights * a * b).sum(axis=1), np.where(spread < 1e-9, 0, spread))


def spearmans(weights: Floats, first: Integers | Floats, second: Integers | Floats) -> Floats:
    """Spearman's correlation under each row of weights: Pearson's over the ranks within that draw."""
    return pearsons(weights, _ranks(weights, first), _ranks(weights, second))


def alphas(weights: Floats, counts: Integers | Floats) -> Floats:
    """Krippendorff's ordinal alpha under each row of weights. counts: (responses, levels)."""
    levels = counts.shape[1]
    raters = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(levels)
    pairs = pairs / np.maximum(raters - 1, 1)[:, None, None]
    observed = (weights @ pairs.reshape(len(counts), -1)).reshape(-1, levels, levels)
    marginal = observed.sum(axis=2)
    total = marginal.sum(axis=1)[:, None, None]
    expected = (marginal[:, :, None] * marginal[:, None, :] - marginal[:, :, None] * np.eye(levels)) / np.maximum(
        total - 1, 1
    )
    # Ordinal distance: the ratings between two levels, half of those on each (Krippendorff 2011).
    reached = np.cumsum(marginal, axis=1)
    apart = (reached[:, :, None] - marginal[:, :, None] / 2 - (reached - marginal / 2)[:, None, :]) ** 2
    return 1 - _divided((observed * apart).sum(axis=(1, 2)), (expected * apart).sum(axis=(1, 2)))


def _tables(weights: Floats, first: Integers, second: Integers, levels: int) -> Floats:
    """(draws, levels, levels): how often the first gave the row's score and the second the column's."""
    cells = _one_hot((first - 1) * levels + second - 1, levels * levels)
    return (weights @ cells).reshape(-1, levels, levels)


def _ranks(weights: Floats, values: Integers | Floats) -> Floats:
    """(draws, rows): the middle rank of each row among the rows drawn, ties sharing theirs."""
    order = np.argsort(values, kind="stable")
    _, starts, group = np.unique(values[order], return_index=True, return_inverse=True)
    together = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(together, axis=1) - together / 2
    found = np.empty_like(weights)
    found[:, order] = middle[:, group]
    return found


def _one_hot(places: Integers, size: int) -> Floats:
    found = np.zeros((len(places), size))
    found[np.arange(len(places)), places] = 1
    return found


def _scores(scores: Sequence[int], levels: int) -> Integers:
    found = np.asarray(scores, dtype=np.int64)
    if len(found) and not (found.min() >= 1 and found.max() <= levels):
        raise ValueError(f"Scores are whole numbers from 1 to {levels}.")
    return found


def _constant(values: Sequence[float] | NDArray[np.generic]) -> bool:
    return len(np.unique(values)) < 2


def _divided(above: Floats, below: Floats) -> Floats:
    """Quotients, NaN where the divisor is 0."""
    return np.divide(above, below, out=np.full_like(above, math.nan), where=below != 0)
