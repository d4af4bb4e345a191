"""How far rankings of heads can be trusted: agreement with each other, stability, and effects that are not zero.

All rankings measure the same traces in the same order, so a bootstrap resample draws the same traces for all of them.
Resampling adds noise to both sides of a comparison: intervals of agreement lean towards disagreement, and an interval
need not be symmetric about its value.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.stats import RESAMPLES, holm, percentile_interval, resample_counts, share_interval

TENTH = 0.1
"""The share of heads, beside the one of the claims, at which top heads are compared."""


def check_same_traces(traces: Mapping[str, Sequence[Any]], model: str) -> None:
    """Check that effects of several rankings are of the same traces in the same order, as pairing needs.

    Args:
        traces: [[prompt_id, sample], …] by ranking.

    Raises:
        UserError: they are not.
    """
    (first, wanted), *others = traces.items()
    for ranking, found in others:
        if list(found) != list(wanted):
            raise UserError(
                f"{model}: rankings {first} and {ranking} were measured on different traces; delete {model}/heads and "
                "let the workflow rank again"
            )


def agreement(effects: Mapping[str, np.ndarray], ks: Sequence[int], seed: int) -> pd.DataFrame:
    """Agreement of every pair of rankings on mean effects and on the first k heads.

    Args:
        effects: [trace, layer, head] by ranking, of the same traces in the same order.
        ks: numbers of heads.

    Returns:
        ranking, other, k, quantity, value, low, high, n (traces): `spearman` of the mean effects (without k), and
        `overlap`, the share of the first k heads that both have; percentile bootstrap over traces.
    """
    flat = {ranking: values.reshape(len(values), -1) for ranking, values in effects.items()}
    n = len(next(iter(flat.values())))
    counts = resample_counts(n, seed)
    resampled = {ranking: counts @ values / n for ranking, values in flat.items()}
    rows = []
    for ranking, other in combinations(flat, 2):
        value = comparisons(flat[ranking].mean(axis=0), flat[other].mean(axis=0), ks)
        spread = comparisons(resampled[ranking], resampled[other], ks)
        for (quantity, k), found in value.items():
            interval = _interval(k, float(found), spread[quantity, k], n)
            rows.append((ranking, other, k, quantity, float(found), *interval, n))
    return _whole_k(pd.DataFrame(rows, columns=["ranking", "other", "k", "quantity", "value", "low", "high", "n"]))


def stability(effects: np.ndarray, ks: Sequence[int], seed: int) -> pd.DataFrame:
    """How much of a ranking survives other traces.

    A bootstrap resample shares most of its traces with the full sample; two halves share none, and each is only half as
    large, so halves are the harder test.

    Args:
        effects: [trace, layer, head].
        ks: numbers of heads.

    Returns:
        k, quantity, value, low, high, n (traces): `spearman` and `overlap` as in `agreement`, between resample and full
        sample, and, as `split_half_spearman` and `split_half_overlap`, between two random halves. The value is the mean
        over resamples or splits, the interval their central 95 %.
    """
    flat = effects.reshape(len(effects), -1)
    n = len(flat)
    against_full = comparisons(resample_counts(n, seed) @ flat / n, flat.mean(axis=0), ks)
    found = dict(against_full)
    if n >= 2:
        rng = np.random.default_rng(seed)
        order = rng.permuted(np.tile(np.arange(n), (RESAMPLES, 1)), axis=1)
        # The place of a trace in a random order says which half it is in; with odd n one trace is left out.
        halves = [((order >= start) & (order < start + n // 2)) @ flat / (n // 2) for start in (0, n // 2)]
        found |= {(f"split_half_{name}", k): values for (name, k), values in comparisons(*halves, ks).items()}
    means = {key: float(values.mean()) for key, values in found.items()}
    rows = [(k, name, means[name, k], *_interval(k, means[name, k], found[name, k], n), n) for name, k in found]
    return _whole_k(pd.DataFrame(rows, columns=["k", "quantity", "value", "low", "high", "n"]))


def comparisons(one: np.ndarray, other: np.ndarray, ks: Sequence[int]) -> dict[tuple[str, int | None], np.ndarray]:
    """Spearman correlation and top-k overlaps of effects [..., head], by (quantity, k)."""
    found: dict[tuple[str, int | None], np.ndarray] = {("spearman", None): _spearman(one, other)}
    for k in ks:
        found["overlap", k] = (_first(one, k) & _first(other, k)).sum(axis=-1) / k
    return found


def _spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rank correlation along the last axis; NaN where one side is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=-1) for values in (one, other)]
    one, other = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=-1) / np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))


def _first(effects: np.ndarray, k: int) -> np.ndarray:
    """Whether each head is among the k most negative."""
    places = np.argsort(effects, axis=-1, kind="stable")[..., :k]
    found = np.zeros(effects.shape, dtype=bool)
    np.put_along_axis(found, places, True, axis=-1)
    return found


def _interval(k: int | None, value: float, resampled: np.ndarray, n: int) -> tuple[float, float]:
    """Central 95 % of `resampled`; an overlap (it has a k) that is the same in all of them is not thereby certain."""
    return percentile_interval(resampled) if k is None else share_interval(value, resampled, n)


def _whole_k(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({"k": "Int64"})


def head_table(
    ranking: pd.DataFrame, effects: np.ndarray, planted: Sequence[Sequence[int]] | None = None
) -> pd.DataFrame:
    """A ranking with a test of each head, corrected for testing all heads.

    Args:
        ranking: output of `refusal_cliff.heads.rank_heads`.
        effects: [trace, layer, head], what it was made from.
        planted: heads that suppress refusal by construction; `None` where nobody knows.

    Returns:
        layer, head, effect, low, high, n, rank, p, p_holm, planted (missing where nobody knows). `p` is of the
        two-sided t-test over traces that the mean effect is zero, `p_holm` is adjusted by Holm over all heads of the
        model and ranking, so that at `p_holm` < 0.05 the chance of naming any head without an effect is below 5 %.
        `low` and `high` are of each head alone. A small p says that an effect is there, not that it is large.
    """
    from scipy.stats import ttest_1samp

    values = effects[:, ranking["layer"], ranking["head"]]
    with np.errstate(invalid="ignore", divide="ignore"):
        p = ttest_1samp(values, 0.0).pvalue if len(values) > 1 else np.full(len(ranking), np.nan)
    # Without any spread the test statistic is 0 / 0 for a head that does nothing.
    p = np.where((values == 0).all(axis=0), 1.0, p)
    known = None if planted is None else {tuple(head) for head in planted}
    heads = list(zip(ranking["layer"], ranking["head"], strict=True))
    return ranking.assign(
        p=p,
        p_holm=holm(p) if np.isfinite(p).all() else np.nan,
        planted=pd.array([pd.NA if known is None else head in known for head in heads], dtype="boolean"),
    )
