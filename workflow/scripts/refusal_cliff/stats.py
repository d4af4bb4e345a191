"""Estimates with 95 % intervals, paired comparisons and corrections for multiple tests.

Every number that a reader sees is an `Estimate`: a value never travels without its interval and its n.
"""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A value, its 95 % interval, and the number of observations. Without observations all but `n` are NaN."""

    value: float
    low: float
    high: float
    n: int


NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson score interval of a share; NaN for n = 0. `successes` may be fractional: a sum of shares."""
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return np.nan, np.nan
    low, high = proportion_confint(successes, n, alpha=1 - CONFIDENCE, method="wilson")
    # At 0 and 1 a bound equals the share itself, up to rounding.
    return min(float(low), successes / n), max(float(high), successes / n)


def share(successes: float, n: int) -> Estimate:
    """`successes` in `n` with the Wilson interval."""
    return Estimate(successes / n, *wilson(successes, n), n) if n else NOTHING


def bootstrap_mean(values: ArrayLike, seed: int) -> Estimate:
    """Mean of `values` [n] with its percentile bootstrap interval: one column of `bootstrap_means`."""
    return bootstrap_means(np.asarray(values)[:, None], seed)[0]


def bootstrap_means(values: ArrayLike, seed: int) -> list[Estimate]:
    """Mean of each column of `values` [n, column] with its percentile bootstrap interval; NaN marks a missing cell.

    Rows are resampled whole, so that columns stay paired. `n` of a column counts its cells; one cell has no interval
    (NaN). Equal values have an interval of width zero: a mean may be of anything, so nothing says how far it could lie
    elsewhere. Differences of shares and statistics within known bounds are widened (`share_interval`).
    """
    values = np.asarray(values, dtype=float)
    mean, *resampled = resampled_means(values, seed)
    counts = np.sum(~np.isnan(values), axis=0)
    nothing = np.nan, np.nan
    return [
        Estimate(float(value), *(percentile_interval(draws) if n > 1 else nothing), int(n))
        for value, draws, n in zip(mean, np.transpose(resampled), counts, strict=True)
    ]


def resampled_means(values: ArrayLike, seed: int) -> NDArray:
    """Means of the columns of `values` [n, column], NaN left out, and those of its resamples: [1 + resample, column].

    A column without a cell, in a resample or at all, has the mean NaN.
    """
    values = np.asarray(values, dtype=float)
    present = ~np.isnan(values)
    weights = np.vstack([np.ones(len(values)), resample_counts(len(values), seed)])
    with np.errstate(invalid="ignore"):
        return (weights @ np.where(present, values, 0.0)) / (weights @ present)


@lru_cache(maxsize=4)
def resample_counts(n: int, seed: int) -> NDArray:
    """How often each of `n` observations is in each bootstrap resample: [resample, n].

    The same `n` and `seed` give the same resamples: statistics of the same observations stay paired.
    """
    if n == 0:
        return np.zeros((RESAMPLES, 0))
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    counts.setflags(write=False)  # it is shared
    return counts


def percentile_interval(resampled: ArrayLike) -> tuple[float, float]:
    """The central 95 % of `resampled` values; NaN where none is a number."""
    finite = np.asarray(resampled, dtype=float)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return np.nan, np.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def share_interval(
    value: float, resampled: ArrayLike, n: int, lowest: float = 0.0, highest: float = 1.0
) -> tuple[float, float]:
    """Percentile interval of a statistic within bounds that is no share of `n`: an area, an overlap, a difference.

    Resampling cannot leave perfect separation, perfect agreement, or no change at all. Where every resample gives the
    same number, the interval extends by the Wilson bound of "no exception" among `n` observations (of an area, the
    smaller class), but not beyond the bounds.
    """
    low, high = percentile_interval(resampled)
    if high - low > 1e-12:
        return low, high
    slack = wilson(0, n)[1]
    return max(lowest, value - slack), min(highest, value + slack)


def crossed_bootstrap(values: ArrayLike, seed: int) -> Estimate:
    """Mean of `values` [draw, n] with its interval over draws and observations, both resampled (Owen 2007, pigeonhole).

    For observations that were made under each of several random draws: neither the rows nor the columns of such a
    table are independent. NaN marks a missing cell. `n` counts columns with a cell.
    """
    values = np.asarray(values, dtype=float)
    present = ~np.isnan(values)
    filled = np.where(present, values, 0.0)
    draws, columns = resample_counts(len(values), seed), resample_counts(values.shape[1], seed + 1)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a resample holds missing cells alone
        resampled = ((draws @ filled) * columns).sum(axis=1) / ((draws @ present) * columns).sum(axis=1)
    n = int(present.any(axis=0).sum())
    return Estimate(float(filled.sum() / present.sum()), *percentile_interval(resampled), n)


def signed_rank(differences: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test on paired differences [n]; 1 where none differs from zero."""
    from scipy.stats import wilcoxon

    differences = np.asarray(differences, dtype=float)
    return float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0


def paired_difference(before: ArrayLike, after: ArrayLike, seed: int) -> Estimate:
    """Mean of `after - before` [n] over pairs of shares (each in 0..1), with its paired bootstrap interval.

    Where every pair differs by the same amount, the interval is widened (`share_interval`).
    """
    differences = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    if len(differences) == 0:
        return NOTHING
    value, *resampled = resampled_means(differences[:, None], seed)[:, 0]
    return Estimate(float(value), *share_interval(value, resampled, len(differences), -1.0, 1.0), len(differences))


def mcnemar(before: ArrayLike, after: ArrayLike) -> float:
    """Exact McNemar p-value for paired yes/no outcomes, each [n]; 1 where no pair is discordant."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    table = [[np.sum(before & after), np.sum(before & ~after)], [np.sum(~before & after), np.sum(~before & ~after)]]
    if table[0][1] + table[1][0] == 0:
        return 1.0
    return float(test(table, exact=True).pvalue)


def holm(p_values: Sequence[float]) -> NDArray:
    """Holm-adjusted p-values of one family of tests, in the given order."""
    from statsmodels.stats.multitest import multipletests

    if len(p_values) == 0:
        return np.array([])
    return multipletests(p_values, method="holm")[1]


def grouped_auroc(scores: ArrayLike, truth: ArrayLike, groups: ArrayLike, seed: int) -> Estimate:
    """Area under the ROC curve of scores [n] with its percentile bootstrap interval over groups of observations.

    Args:
        truth: bool [n].
        groups: which observations belong together (samples of one prompt); whole groups are resampled, and `n` of the
            estimate counts them.

    Returns:
        Without one of the classes all but `n` are NaN, and a class of one group has no interval (NaN); see
        `share_interval` where the classes are separated.
    """
    scores, truth = np.asarray(scores, dtype=float), np.asarray(truth, dtype=bool)
    known, group = np.unique(np.asarray(groups), return_inverse=True)
    n = len(known)
    if truth.all() or not truth.any():
        return NOTHING._replace(n=n)
    # Share of pairs in which the positive scores higher, ties counting half (Mann-Whitney U / nm), pairs weighted by
    # how often both are drawn.
    above = scores[truth][:, None] - scores[~truth]
    wins = (above > 0) + 0.5 * (above == 0)
    weights = np.vstack([np.ones(n), resample_counts(n, seed)])
    positive, negative = weights[:, group[truth]], weights[:, group[~truth]]
    with np.errstate(invalid="ignore"):  # a resample without one of the classes
        value, *resampled = (positive @ wins * negative).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
    smaller = min(len(np.unique(group[truth])), len(np.unique(group[~truth])))
    interval = share_interval(value, resampled, smaller) if smaller > 1 else (np.nan, np.nan)
    return Estimate(float(value), *interval, n)


def rank_correlation(one: ArrayLike, other: ArrayLike) -> NDArray:
    """Spearman's correlation along the last axis; NaN where a side is constant."""
    from scipy.stats import ConstantInputWarning, spearmanrho

    with warnings.catch_warnings(action="ignore", category=ConstantInputWarning):
        return spearmanrho(one, other, axis=-1).statistic


def correlation(one: ArrayLike, other: ArrayLike) -> NDArray:
    """Pearson's correlation along the last axis; NaN where a side is constant."""
    from scipy.stats import ConstantInputWarning, pearsonr

    with warnings.catch_warnings(action="ignore", category=ConstantInputWarning):
        return pearsonr(one, other, axis=-1).statistic


def jackknife_interval(value: float, without: ArrayLike) -> tuple[float, float]:
    """Interval of a statistic by the delete-a-group jackknife (Kott 2001), with Student's t on groups - 1.

    For statistics that resampling with replacement would bias, such as the cosine of two noisy directions.

    Args:
        value: the statistic on everything.
        without: [group], the statistic without each of the groups; missing values, or none, give no interval.
    """
    from scipy.stats import t

    without = np.asarray(without, dtype=float)
    if len(without) < 2:
        return np.nan, np.nan
    error = np.sqrt((len(without) - 1) / len(without) * np.sum((without - without.mean()) ** 2))
    reach = float(error * t.ppf((1 + CONFIDENCE) / 2, len(without) - 1))
    return value - reach, value + reach


def nested_bootstrap(estimates: Sequence[Estimate], seed: int) -> tuple[Estimate, NDArray]:
    """Mean over training seeds with its interval over seeds and, within each, over what its own interval is over.

    Every resample draws as many seeds as there are, with replacement, and for each of them a number from that seed's
    sampling distribution. This is taken as a normal split at the estimate, half of its mass on each side, so that its
    central 95 % are the seed's own interval. A seed without an interval (NaN) counts as a point.

    Args:
        estimates: one of each seed, at least one.

    Returns:
        The mean, the central 95 % of the resampled means (extended to the mean where it lies outside: a share at 0 has
        draws on one side alone) and the n of all seeds together; and the resampled means [resample]. Of one seed, its
        own estimate; the draws are then evenly spaced quantiles of its distribution, so that as many as belong there
        lie beyond each bound.
    """
    from scipy.stats import norm, qmc

    value, low, high, n = np.array(estimates, dtype=float).T
    reach = norm.ppf((1 + CONFIDENCE) / 2)
    below, above = (np.maximum(np.nan_to_num(side), 0) / reach for side in (value - low, high - value))
    rng, count = np.random.default_rng(seed), len(value)
    drawn = rng.integers(count, size=(RESAMPLES, count))
    normal = norm.ppf(qmc.LatinHypercube(count, scramble=False, rng=rng).random(RESAMPLES))
    draws = (value[drawn] + normal * np.where(normal < 0, below[drawn], above[drawn])).mean(axis=1)
    if count == 1:
        return Estimate(*estimates[0]), draws
    mean, (low, high) = float(value.mean()), percentile_interval(draws)
    return Estimate(mean, min(low, mean), max(high, mean), int(n.sum())), draws
