"""How far rankings of heads can be trusted: agreement with each other, stability, and effects that are not zero.

And how far rankings by two targets are one: whether heads that move the probe move what the model does next.

All rankings measure the same traces, so a bootstrap resample draws the same traces for all of them: those of a request
together, because they are not independent. Resampling adds
noise to both sides of a comparison: intervals of agreement lean towards disagreement, and an interval need not be
symmetric about its value.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.rankings import head_count
from refusal_cliff.stats import (
    NOTHING,
    RESAMPLES,
    bootstrap_means,
    holm,
    percentile_interval,
    rank_correlation,
    resampled_means,
    share_interval,
)
from refusal_cliff.tables import by_model
from refusal_cliff.traces import TRACE_KEY

TENTH = 0.1
"""The share of heads, beside the one of the claims, at which top heads are compared."""
TRACE = [*TRACE_KEY, "request_id"]
COLUMNS = ["k", "point", "quantity", "value", "low", "high", "n"]


def effect_arrays(effects: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Effects of one model as arrays: ranking -> [trace, layer, head], and the request of each trace [trace].

    Args:
        effects: model, ranking, prompt_id, sample, request_id, layer, head, effect.

    Raises:
        UserError: the rankings were not measured on the same traces, as pairing needs.
    """
    # A pivot table would average over cells that occur twice.
    wide = effects.pivot(index=TRACE, columns=["ranking", "layer", "head"], values="effect")  # noqa: PD010
    if wide.isna().any(axis=None):
        model = effects["model"].iloc[0]
        raise UserError(
            f"{model}: its rankings were measured on different traces; delete {model}/heads and let the workflow rank "
            "again"
        )
    n_heads = effects["head"].max() + 1
    wide = wide.reindex(pd.MultiIndex.from_frame(effects[TRACE].drop_duplicates()))
    arrays = {
        ranking: wide[ranking].sort_index(axis=1).to_numpy().reshape(len(wide), -1, n_heads)
        for ranking in effects["ranking"].unique()
    }
    return arrays, wide.index.get_level_values("request_id").to_numpy()


@by_model
def agreement(effects: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Agreement of every pair of rankings on mean effects and on the first k heads.

    Args:
        effects: model, ranking, prompt_id, sample, request_id, layer, head, effect.
        fraction: share of all heads at the operating point; k is that many heads, and a tenth of all.

    Returns:
        model, ranking, other, k, point, quantity, value, low, high, n (requests): `spearman` of the mean effects
        (without k), and `overlap`, the share of the first k heads that both have; percentile bootstrap over requests.
        `point` marks k of the operating point, and the rows without k.
    """
    arrays, requests = effect_arrays(effects)
    means, n = {ranking: _resampled(values, seed, requests) for ranking, values in arrays.items()}, _count(requests)
    rows = []
    for ranking, other in combinations(means, 2):
        for keys, (value, *resampled) in comparisons(means[ranking], means[other], fraction).items():
            rows.append((ranking, other, *_estimate(*keys, value, resampled, n)))
    return pd.DataFrame(rows, columns=["ranking", "other", *COLUMNS]).astype({"k": "Int64", "point": bool})


@by_model
def target_table(
    effects: pd.DataFrame,
    rankings: Mapping[str, tuple[str, str]],
    reasons: Mapping[str, Mapping[str, str]],
    fraction: float,
    seed: int,
) -> pd.DataFrame:
    """How much of moving one target is moving another, by every measure.

    Args:
        effects: model, ranking, prompt_id, sample, request_id, layer, head, effect.
        rankings: measure and target of each ranking that the run measures, by name.
        reasons: why targets could not be measured, by model and target.
        fraction: as for `agreement`.

    Returns:
        model, measure, target, other, k, point, quantity, value, low, high, n (requests), reason: `spearman` and
        `overlap` as in `agreement`, between effects on `target` and on `other`; and `change`, the mean over the first k
        heads by `target` of what ablating each alone adds to `other` (minus its effect, in logits), also where both are
        the same. The first heads are those of all traces, in every resample. k times a change is no more than a
        first-order estimate of ablating all k. Where a target could not be measured numbers are missing and n is 0.
    """
    columns = ["measure", "target", "other", *COLUMNS, "reason"]
    if effects.empty:
        return pd.DataFrame(columns=columns)
    arrays, requests = effect_arrays(effects)
    means, n = {ranking: _resampled(values, seed, requests) for ranking, values in arrays.items()}, _count(requests)
    told, n_heads = reasons.get(effects["model"].iloc[0], {}), next(iter(means.values())).shape[1]
    rows = []
    for measure in dict.fromkeys(measure for measure, _ in rankings.values()):
        names = {target: name for name, (by, target) in rankings.items() if by == measure}
        for pair in combinations(names, 2):
            reason = "; ".join(told[target] for target in pair if target in told)
            # Of what is missing the same rows are made, without their numbers.
            own = {target: np.arange(n_heads)[None] if reason else means[names[target]] for target in pair}
            found = {(*pair, *keys): values for keys, values in comparisons(*map(own.get, pair), fraction).items()}
            found |= {
                (chosen, read, "change", k, point): _mean_change(own[chosen], own[read], k)
                for chosen, read in product(pair, pair)
                for k, point in _sizes(n_heads, fraction).items()
            }
            for (target, other, quantity, k, point), (value, *resampled) in found.items():
                if reason:
                    numbers = (k, point, quantity, *NOTHING)
                elif quantity == "change":
                    numbers = (k, point, quantity, float(value), *percentile_interval(resampled), n)
                else:
                    numbers = _estimate(quantity, k, point, value, resampled, n)
                rows.append((measure, target, other, *numbers, reason))
    return pd.DataFrame(rows, columns=columns).astype({"k": "Int64", "point": bool})


def _mean_change(chosen: np.ndarray, read: np.ndarray, k: int) -> np.ndarray:
    """Mean of what ablating the first k heads by `chosen`, each alone, adds to another target: [1 + resample].

    Args:
        chosen, read: mean effects [1 + resample, head] of which the first row is of the traces themselves.
    """
    return -read[:, _first(chosen[0], k)].mean(axis=1)


@by_model
def stability(effects: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """How much of each ranking survives other requests. Arguments as for `agreement`.

    A bootstrap resample shares most of its requests with the full sample; two halves share none, and each is only half
    as large, so halves are the harder test.

    Returns:
        model, ranking, k, point, quantity, value, low, high, n (requests): `spearman` and `overlap` as in `agreement`,
        between resample and full sample, and, as `split_half_spearman` and `split_half_overlap`, between two random
        halves. The value is the mean over resamples or splits, the interval their central 95 %.
    """
    arrays, requests = effect_arrays(effects)
    rows, n, request = [], _count(requests), np.unique(requests, return_inverse=True)[1]
    for ranking, values in arrays.items():
        whole, *resampled = _resampled(values, seed, requests)
        found = comparisons(np.array(resampled), whole, fraction)
        if n >= 2:
            order = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (RESAMPLES, 1)), axis=1)[:, request]
            # The place of a request in a random order says which half it is in; with odd n one is left out.
            chosen = [(order >= start) & (order < start + n // 2) for start in (0, n // 2)]
            halves = [half @ values.reshape(len(values), -1) / half.sum(axis=1, keepdims=True) for half in chosen]
            found |= {
                (f"split_half_{quantity}", *k): spread
                for (quantity, *k), spread in comparisons(*halves, fraction).items()
            }
        rows += [(ranking, *_estimate(*keys, spread.mean(), spread, n)) for keys, spread in found.items()]
    return pd.DataFrame(rows, columns=["ranking", *COLUMNS]).astype({"k": "Int64", "point": bool})


def comparisons(one: np.ndarray, other: np.ndarray, fraction: float) -> dict[tuple[str, int | None, bool], np.ndarray]:
    """Spearman correlation and top-k overlaps of effects [..., head], by (quantity, k, whether k is the point's)."""
    found: dict[tuple[str, int | None, bool], np.ndarray] = {("spearman", None, True): rank_correlation(one, other)}
    for k, point in _sizes(one.shape[-1], fraction).items():
        found["overlap", k, point] = (_first(one, k) & _first(other, k)).sum(axis=-1) / k
    return found


def _sizes(n_heads: int, fraction: float) -> dict[int, bool]:
    """How many first heads are compared: k -> whether it is that of the operating point."""
    point, tenth = (head_count(share, n_heads) for share in (fraction, TENTH))
    return {k: k == point for k in (point, tenth)}


def _resampled(values: np.ndarray, seed: int, requests: np.ndarray) -> np.ndarray:
    """Mean effects [1 + resample, head] of effects [trace, layer, head], the traces themselves first."""
    return resampled_means(values.reshape(len(values), -1), seed, requests)


def _count(requests: np.ndarray) -> int:
    return len(np.unique(requests))


def _first(effects: np.ndarray, k: int) -> np.ndarray:
    """Whether each head is among the k most negative."""
    places = np.argsort(effects, axis=-1, kind="stable")[..., :k]
    found = np.zeros(effects.shape, dtype=bool)
    np.put_along_axis(found, places, True, axis=-1)
    return found


def _estimate(
    quantity: str, k: int | None, point: bool, value: float, resampled: np.ndarray, n: int
) -> tuple[int | None, bool, str, float, float, float, int]:
    """A row of `COLUMNS`; an overlap (it has a k) that is the same in all resamples is not thereby certain."""
    interval = percentile_interval(resampled) if k is None else share_interval(value, resampled, n)
    return k, point, quantity, float(value), *interval, n


def head_table(effects: pd.DataFrame, truths: Iterable[Mapping[str, Any]], seed: int) -> pd.DataFrame:
    """Every ranking with an interval and a test of each head, corrected for testing all heads.

    Args:
        effects: model, ranking, prompt_id, sample, request_id, layer, head, effect.
        truths: `model` and `heads`, the [[layer, head], …] that suppress refusal by construction, of those models where
            somebody knows.

    Returns:
        model, ranking, layer, head, effect, low, high, n, rank, p, p_holm, planted (missing where nobody knows). `p` is
        of the two-sided t-test over requests that the mean effect is zero, `p_holm` is adjusted by Holm over all heads
        of the model and ranking, so that at `p_holm` < 0.05 the chance of naming any head without effect is below 5 %.
        `low` and `high` (percentile bootstrap over requests) are of each head alone; n counts requests. A small p says
        that an effect is there, not that it is large.
    """
    known = {truth["model"]: {tuple(head) for head in truth["heads"]} for truth in truths}
    columns = ["model", "ranking", "layer", "head", "effect", "low", "high", "n", "rank", "p", "p_holm", "planted"]
    tables = [pd.DataFrame(columns=columns).astype({"planted": "boolean"})]
    for model, own in effects.groupby("model", sort=False):
        arrays, requests = effect_arrays(own)
        for ranking, values in arrays.items():
            heads = _tested(values, seed, requests)
            planted = [
                pd.NA if model not in known else head in known[model]
                for head in zip(heads["layer"], heads["head"], strict=True)
            ]
            tables.append(
                heads.assign(model=model, ranking=ranking, planted=pd.array(planted, dtype="boolean"))[columns]
            )
    return pd.concat(tables[1:] or tables, ignore_index=True)


def _tested(values: np.ndarray, seed: int, requests: np.ndarray) -> pd.DataFrame:
    """Every head of effects [trace, layer, head], in order of rank."""
    from scipy.stats import ttest_1samp

    own = values.reshape(len(values), -1)
    by_request = pd.DataFrame(own).groupby(requests).mean().to_numpy()
    layer, head = np.divmod(np.arange(own.shape[1]), values.shape[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        p = ttest_1samp(by_request, 0.0).pvalue if len(by_request) > 1 else np.full(own.shape[1], np.nan)
    # Without any spread the test statistic is 0 / 0 for a head that does nothing.
    p = np.where((own == 0).all(axis=0), 1.0, p)
    estimates = pd.DataFrame(bootstrap_means(own, seed, requests)).rename(columns={"value": "effect"})
    estimates["n"] = len(by_request)
    adjusted = holm(p) if np.isfinite(p).all() else np.nan
    table = estimates.assign(layer=layer, head=head, p=p, p_holm=adjusted).sort_values("effect", ignore_index=True)
    return table.assign(rank=table.index + 1)
