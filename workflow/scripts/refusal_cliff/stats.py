"""Estimates with 95 % intervals, paired comparisons and corrections for multiple tests.

Every number that a reader sees is an `Estimate`: a value never travels without its interval and its n.

Observations that are not independent (prompts that wrap one request) have the same label in `groups`, an array beside
the observations: resampling draws whole groups, and the interval of a share counts them. Without `groups` every
observation is a group of its own.
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


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson score interval of a share; NaN for n = 0. Both may be fractional: a sum of shares, an effective n."""
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return np.nan, np.nan
    low, high = proportion_confint(successes, n, alpha=1 - CONFIDENCE, method="wilson")
    # At 0 and 1 a bound equals the share itself, up to rounding.
    return min(float(low), successes / n), max(float(high), successes / n)


def share(successes: float, n: int) -> Estimate:
    """`successes` in `n` with the Wilson interval."""
    return Estimate(successes / n, *wilson(successes, n), n) if n else NOTHING


def grouped_share(values: ArrayLike, groups: ArrayLike) -> Estimate:
    """Mean of shares `values` [n], each in 0..1, with the Wilson interval at the effective n; `n` counts values.

    The effective n is n / design effect (Korn and Graubard 1998): the variance of the mean as a ratio of group totals
    to group sizes, over that of n independent values. The design effect lies between 1 and that of groups whose members
    are all alike, sum of squared sizes / n (Kish 1965). Few exceptions do not say how alike members are, and none say
    nothing: so the variance is taken with two more groups of mean size, one all 1 and one all 0. That is near the upper
    limit for shares near 0 and 1 (with groups of one size, the effective n of "no exception" is the number of groups),
    and vanishes with many groups. Groups of one give the plain Wilson interval.

    Args:
        groups: [n], see above.
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n == 0:
        return NOTHING
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes, totals = np.bincount(group), np.bincount(group, weights=values)
    size, total = np.append(sizes, 2 * [sizes.mean()]), np.append(totals, [sizes.mean(), 0])
    p = total.sum() / size.sum()
    squares = ((total - p * size) ** 2).sum() * len(size) / (len(size) - 1)
    design_effect = np.clip(squares / (size.sum() * p * (1 - p)), 1, (sizes**2).sum() / n)
    value, effective = float(values.mean()), float(n / design_effect)
    return Estimate(value, *wilson(value * effective, effective), n)


def effective_groups(groups: ArrayLike) -> float:
    """How many groups of one size say as much as `groups` [n] if their members are all alike: n² / sum of size²."""
    sizes = np.unique(np.asarray(groups), return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0


def bootstrap_mean(values: ArrayLike, seed: int, groups: ArrayLike | None = None) -> Estimate:
    """Mean of `values` [n] with its percentile bootstrap interval: one column of `bootstrap_means`."""
    return bootstrap_means(np.asarray(values)[:, None], seed, groups)[0]


def bootstrap_means(values: ArrayLike, seed: int, groups: ArrayLike | None = None) -> list[Estimate]:
    """Mean of each column of `values` [n, column] with its percentile bootstrap interval; NaN marks a missing cell.

    Groups of rows [n] are resampled whole, so that columns stay paired. `n` of a column counts its cells; cells of one
    group have no interval (NaN). Equal values have an interval of width zero: a mean may be of anything, so nothing
    says how far it could lie elsewhere. Differences of shares and statistics within known bounds are widened
    (`share_interval`).
    """
    values = np.asarray(values, dtype=float)
    mean, *resampled = resampled_means(values, seed, groups)
    labels = np.arange(len(values)) if groups is None else np.asarray(groups)
    estimates = []
    for value, draws, present in zip(mean, np.transpose(resampled), ~np.isnan(values.T), strict=True):
        varies = len(np.unique(labels[present])) > 1
        interval = percentile_interval(draws) if varies else (np.nan, np.nan)
        estimates.append(Estimate(float(value), *interval, int(present.sum())))
    return estimates


def resampled_means(values: ArrayLike, seed: int, groups: ArrayLike | None = None) -> NDArray:
    """Means of the columns of `values` [n, column], NaN left out, and those of its resamples: [1 + resample, column].

    A column without a cell, in a resample or at all, has the mean NaN.
    """
    values = np.asarray(values, dtype=float)
    present = ~np.isnan(values)
    weights = resample_counts(np.arange(len(values)) if groups is None else groups, seed)
    with np.errstate(invalid="ignore"):
        return (weights @ np.where(present, values, 0.0)) / (weights @ present.astype(float))


def resample_counts(groups: ArrayLike, seed: int) -> NDArray:
    """How often each observation is in each bootstrap resample of whole groups: [1 + resample, n].

    The first row is the observations as they are, once each. The same number of groups and `seed` give the same draws:
    statistics of the same observations stay paired.

    Args:
        groups: [n], which observations are drawn together.
    """
    known, group = np.unique(np.asarray(groups), return_inverse=True)
    return _drawn_groups(len(known), seed)[:, group]


@lru_cache(maxsize=4)
def _drawn_groups(n: int, seed: int) -> NDArray:
    """`resample_counts` of `n` groups of one."""
    counts = np.ones((1 + RESAMPLES, n))
    if n:
        counts[1:] = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)
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
    value: float, resampled: ArrayLike, n: float, lowest: float = 0.0, highest: float = 1.0
) -> tuple[float, float]:
    """Percentile interval of a statistic within bounds that is no share of `n`: an area, an overlap, a difference.

    Resampling cannot leave perfect separation, perfect agreement, or no change at all, and hardly moves next to them.
    So the interval always reaches from the value at least as far as the Wilson bound of "no exception" among `n`
    groups of observations (of an area, those of the smaller class), but for that not beyond the bounds. The reach is
    the same for every value: a better value never has the worse bound for being perfect.
    """
    low, high = percentile_interval(resampled)
    reach = wilson(0, n)[1]
    return min(low, max(lowest, value - reach)), max(high, min(highest, value + reach))


def crossed_bootstrap(values: ArrayLike, seed: int, groups: ArrayLike) -> Estimate:
    """Mean of `values` [draw, n] with its interval over draws and groups, both resampled (Owen 2007, pigeonhole).

    For observations that were made under each of several random draws: neither the rows nor the columns of such a
    table are independent. `n` counts columns with a cell.

    Args:
        values: NaN marks a missing cell. One draw is not resampled.
        groups: [n], of columns; one group has no interval (NaN).
    """
    value, *resampled = _crossed_means(values, seed, groups)
    interval = percentile_interval(resampled) if len(np.unique(groups)) > 1 else (np.nan, np.nan)
    return Estimate(float(value), *interval, _columns(values))


def _crossed_means(values: ArrayLike, seed: int, groups: ArrayLike) -> NDArray:
    """Means over the cells of `values` [draw, n], and those of the resamples of draws and groups: [1 + resample]."""
    values = np.asarray(values, dtype=float)
    present = ~np.isnan(values)
    draws, columns = resample_counts(np.arange(len(values)), seed + 1), resample_counts(groups, seed)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a resample holds missing cells alone
        total = ((draws @ np.where(present, values, 0.0)) * columns).sum(axis=1)
        return total / ((draws @ present.astype(float)) * columns).sum(axis=1)


def _columns(values: ArrayLike) -> int:
    """How many columns of `values` [draw, n] have a cell."""
    return int((~np.isnan(np.asarray(values, dtype=float))).any(axis=0).sum())


def signed_rank(differences: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test on paired differences [n]; 1 where none differs from zero.

    Exact with up to 13 that do: for yes and no, that is the exact McNemar test.
    """
    from scipy.stats import wilcoxon

    differences = np.asarray(differences, dtype=float)
    changed = differences[differences != 0]  # with zeros the library would approximate
    return float(wilcoxon(changed).pvalue) if len(changed) else 1.0


def paired_difference(before: ArrayLike, after: ArrayLike, seed: int, groups: ArrayLike | None = None) -> Estimate:
    """Mean of `after - before` over pairs of shares (each in 0..1), with its paired bootstrap interval.

    Args:
        before, after: [n], or [draw, n] of random draws that are resampled too (`crossed_bootstrap`); NaN marks a
            missing cell.
        groups: [n], see above. The interval reaches at least as far as "no exception" among them says
            (`share_interval`).
    """
    differences = np.atleast_2d(np.asarray(after, dtype=float) - np.asarray(before, dtype=float))
    n = _columns(differences)
    if n == 0:
        return NOTHING
    groups = np.arange(differences.shape[1]) if groups is None else groups
    value, *resampled = _crossed_means(differences, seed, groups)
    return Estimate(float(value), *share_interval(value, resampled, effective_groups(groups), -1.0, 1.0), n)


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
        groups: [n], see above; `n` of the estimate counts them.

    Returns:
        Without one of the classes all but `n` are NaN, and a class of one group has no interval (NaN). The interval
        reaches at least as far as "no exception" among the groups of the smaller class says (`share_interval`).
    """
    scores, truth = np.asarray(scores, dtype=float), np.asarray(truth, dtype=bool)
    groups = np.asarray(groups)
    n = len(np.unique(groups))
    if truth.all() or not truth.any():
        return NOTHING._replace(n=n)
    # Share of pairs in which the positive scores higher, ties counting half (Mann-Whitney U / nm), pairs weighted by
    # how often both are drawn.
    above = scores[truth][:, None] - scores[~truth]
    wins = (above > 0) + 0.5 * (above == 0)
    weights = resample_counts(groups, seed)
    positive, negative = weights[:, truth], weights[:, ~truth]
    with np.errstate(invalid="ignore"):  # a resample without one of the classes
        value, *resampled = (positive @ wins * negative).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
    smaller = min(effective_groups(groups[truth]), effective_groups(groups[~truth]))
    interval = share_interval(value, resampled, smaller) if smaller > 1 else (np.nan, np.nan)
    return Estimate(float(value), *interval, n)


def rank_correlation(one: ArrayLike, other: ArrayLike) -> NDArray:
    """Spearman's correlation along the last axis; NaN where a side is constant."""
    from scipy.stats import ConstantInputWarning, spearmanrho

    with warnings.catch_warnings(action="ignore", category=ConstantInputWarning):
        return spearmanrho(one, other, axis=-1).statistic


def resampled_ranks(values: ArrayLike, weights: NDArray) -> NDArray:
    """Ranks of `values` [n], ties averaged, in samples that hold each of them `weights` [sample, n] times."""
    known, place = np.unique(np.asarray(values), return_inverse=True)
    held = weights @ np.eye(len(known))[place]
    return (np.cumsum(held, axis=1) - held + (held + 1) / 2)[:, place]


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
