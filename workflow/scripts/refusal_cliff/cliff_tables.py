"""Tables of cliffs: their size by group and family, between groups and models, with thinking length and kept thinking.

The unit is the prompt: samples of one prompt are averaged first. All cliffs are those of a probe's last layer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.cliffs import HEIGHTS, MEASURES
from refusal_cliff.config import parse_variant
from refusal_cliff.outcomes import ALL, GROUPS, rates, traces_by_group
from refusal_cliff.stats import (
    NOTHING,
    RESAMPLES,
    Estimate,
    holm,
    percentile_interval,
    resample_counts,
    share,
)
from refusal_cliff.traces import TRACE_KEY

HARMFUL = "harmful"
"""The group of all harmful prompts, whatever became of them."""
COMPLIED, REFUSED, BENIGN = GROUPS
GROUP_ORDER = (COMPLIED, REFUSED, HARMFUL, BENIGN)
MIN_CLIFF = 0.1
"""A share of a smaller mean fall than this says nothing."""
PERMUTATIONS = 9999


def last_layer(cliffs: pd.DataFrame) -> pd.DataFrame:
    """The rows of each probe's last layer; a probe need not have every layer."""
    return cliffs[cliffs["layer"] == cliffs.groupby("probe")["layer"].transform("max")]


def prompt_cliffs(cliffs: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Cliffs of one model's base traces at the last layer, averaged over the samples of a prompt within a group.

    Args:
        cliffs: cliff table of the base model.
        outcomes: of the same model.

    Returns:
        probe, group (one of `GROUPS`, or `HARMFUL`, which holds every harmful prompt once more), family, prompt_id,
        thinking_tokens, and `MEASURES` as numbers.
    """
    cliffs = last_layer(cliffs).drop(columns=["curve", "boundary_curve"])
    base = outcomes[outcomes["variant"] == "base"]
    harmful = base.loc[base["label"] == "harmful", TRACE_KEY].assign(group=HARMFUL)
    grouped = [
        traces_by_group(cliffs, outcomes),
        cliffs.merge(harmful, on=TRACE_KEY, validate="many_to_one"),
    ]
    table = pd.concat(grouped).merge(base[[*TRACE_KEY, "family", "thinking_tokens"]], on=TRACE_KEY)
    table = table.astype(dict.fromkeys(MEASURES, float))
    keys = ["probe", "group", "family", "prompt_id"]
    return table.groupby(keys, sort=False)[["thinking_tokens", *MEASURES]].mean().reset_index()


def cliff_table(cliffs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every measure of the cliff, by probe, group and family.

    Args:
        cliffs: output of `prompt_cliffs`.

    Returns:
        probe, group, family (`all` pools them), quantity, value, low, high, n (prompts). Means carry percentile
        bootstrap 95 % intervals, `steepest_in_boundary` is a share with its Wilson interval. `boundary_share` is the
        mean fall inside the boundary over the mean cliff: a ratio of means, because single ratios explode where a
        cliff is small; it is missing where the mean cliff is below `MIN_CLIFF`.
    """
    rows = []
    for group in GROUP_ORDER:
        own = cliffs[cliffs["group"] == group]
        for family in (ALL, *sorted(own["family"].unique())):
            part = own if family == ALL else own[own["family"] == family]
            if part.empty:
                continue
            for (probe, quantity), estimate in _measures(part, seed):
                names = {"probe": probe, "group": group, "family": family, "quantity": quantity}
                rows.append(names | estimate._asdict())
    table = pd.DataFrame(rows, columns=["probe", "group", "family", "quantity", "value", "low", "high", "n"])
    return table.sort_values("probe", kind="stable", ignore_index=True)


def refit_table(refits: pd.DataFrame, outcomes: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Height of the cliff over refits of a probe on resampled training prompts: is it the model's, or the sample's?

    Args:
        refits: prompt_id, sample, probe, refit, `HEIGHTS`, of one model's base traces.
        outcomes: of the same model.

    Returns:
        probe, group (one of `GROUPS`), quantity (`HEIGHTS`), value (mean over refits and prompts), low, high, n
        (prompts), refits. The interval is the central 95 % of the mean over resampled prompts by one of the refits: how
        far it moves when the probe is trained, and the cliff measured, on other prompts.
    """
    rows = []
    for (probe, group), part in traces_by_group(refits, outcomes).groupby(["probe", "group"], sort=False):
        for height in HEIGHTS:
            heights = part.pivot_table(index="refit", columns="prompt_id", values=height).to_numpy()
            refit_count, n = heights.shape
            if n == 0:  # no trace of the group has thinking
                continue
            draws = resample_counts(n, seed) / n
            resampled = np.einsum("rn,rn->r", draws, heights[np.arange(len(draws)) % refit_count])
            estimate = Estimate(float(heights.mean()), *percentile_interval(resampled), n)
            names = {"probe": probe, "group": group, "quantity": height}
            rows.append(names | estimate._asdict() | {"refits": refit_count})
    return pd.DataFrame(rows, columns=["probe", "group", "quantity", "value", "low", "high", "n", "refits"])


def by_model(
    tabulate: Callable[[pd.DataFrame, int], pd.DataFrame], cliffs: Mapping[str, pd.DataFrame], seed: int
) -> pd.DataFrame:
    """The tables that `tabulate` makes of each model's cliffs, one under the other, with `model` as first column."""
    tables = {model: tabulate(table, seed) for model, table in cliffs.items()}
    return pd.concat(tables, names=["model"]).reset_index("model").reset_index(drop=True)


def difference_table(cliffs: Mapping[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """Differences of mean cliffs between groups of one model, and between models over the same harmful prompts.

    Args:
        cliffs: output of `prompt_cliffs`, by model.

    Returns:
        kind (`within` a model, or `between` models), model, group, other (the group or the model that is subtracted),
        probe, quantity (`HEIGHTS`), difference, low, high (percentile bootstrap 95 %, paired between models), n (within
        a model prompts of both sides together, between models pairs), p (permutation test, two-sided: of group labels
        within a model, of the two models within each pair between them), p_holm (adjusted over the whole table).
    """
    rows = []
    for model, table in cliffs.items():
        for other in (BENIGN, REFUSED):
            sides = _wide(table, COMPLIED), _wide(table, other)
            for (probe, quantity), found in _differences(*sides, paired=False, seed=seed):
                names = {"kind": "within", "model": model, "group": COMPLIED, "other": other}
                rows.append(names | {"probe": probe, "quantity": quantity} | found)
    for model, other in combinations(cliffs, 2):
        sides = _wide(cliffs[model], HARMFUL), _wide(cliffs[other], HARMFUL)
        for (probe, quantity), found in _differences(*sides, paired=True, seed=seed):
            names = {"kind": "between", "model": model, "group": HARMFUL, "other": other}
            rows.append(names | {"probe": probe, "quantity": quantity} | found)
    columns = ["kind", "model", "group", "other", "probe", "quantity", "difference", "low", "high", "n", "p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=holm(table["p"].tolist()))


def length_table(cliffs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rank correlation of the height of the cliff with the number of thinking tokens, by probe and group.

    Args:
        cliffs: output of `prompt_cliffs`.

    Returns:
        probe, group, quantity, value, low, high (percentile bootstrap 95 %), n (prompts). `spearman_cliff` and
        `spearman_cliff_mean` are Spearman's correlation; `within_family_…` is that of ranks minus the mean rank of
        their attack family: an attack changes both the length of the thinking and the cliff. A largest score grows with
        the number of tokens it is taken from, so that `cliff` has to be read beside `cliff_mean`.
    """
    rows = []
    for group in GROUP_ORDER:
        part = cliffs[(cliffs["group"] == group) & cliffs["cliff"].notna()]
        described = part.drop_duplicates("prompt_id").set_index("prompt_id")[["thinking_tokens", "family"]]
        heights = _pivot(part, HEIGHTS).sort_index(axis=1) if len(part) else pd.DataFrame()
        described = described.reindex(heights.index)
        values = [described["thinking_tokens"].to_numpy(), *(heights[column].to_numpy() for column in heights)]
        plain, within = rank_correlations(values, pd.factorize(described["family"])[0], seed)
        for (probe, height), *estimates in zip(heights.columns, plain, within, strict=True):
            for prefix, estimate in zip(("spearman", "within_family"), estimates, strict=True):
                names = {"probe": probe, "group": group, "quantity": f"{prefix}_{height}"}
                rows.append(names | estimate._asdict())
    table = pd.DataFrame(rows, columns=["probe", "group", "quantity", "value", "low", "high", "n"])
    return table.sort_values("probe", kind="stable", ignore_index=True)


def kept_thinking_table(outcomes: pd.DataFrame, cliffs: Mapping[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """Rates and final scores of one model by the kept thinking fraction.

    Args:
        outcomes: of one model, all variants.
        cliffs: cliff tables of `base` and of the variants that keep a part of the thinking, by variant.

    Returns:
        variant, kept, label (of the prompts), quantity, value, low, high, n (prompts). Quantities are the rates `asr`,
        `refusal` and `over_refusal` with Wilson intervals, and `final_{probe}`, the mean score at the last boundary
        token, with bootstrap 95 % intervals. `base` is the model's own run: its thinking is whole, as with `keep-1`,
        but there the response is generated again.
    """
    labels = {"asr": "harmful", "refusal": "harmful", "over_refusal": "benign"}
    found = rates(outcomes[outcomes["variant"].isin(list(cliffs))]).query("dataset == @ALL and family == @ALL")
    rows = [
        {"variant": row.variant, "label": labels[row.rate], "quantity": row.rate}
        | {"value": row.value, "low": row.low, "high": row.high, "n": row.n}
        for row in found.itertuples()
        if row.rate in labels
    ]
    label_of = outcomes.drop_duplicates("prompt_id").set_index("prompt_id")["label"]
    for variant, table in cliffs.items():
        final = last_layer(table).pivot_table(index="prompt_id", columns="probe", values="final")
        for label in ("harmful", "benign"):
            part = final[final.index.map(label_of) == label]
            for probe, estimate in zip(part.columns, _means(part.to_numpy(), seed)[0], strict=True):
                names = {"variant": variant, "label": label, "quantity": f"final_{probe}"}
                rows.append(names | estimate._asdict())
    table = pd.DataFrame(rows, columns=["variant", "label", "quantity", "value", "low", "high", "n"])
    table.insert(1, "kept", [parse_variant(variant).get("kept", 1.0) for variant in table["variant"]])
    return table.sort_values(["quantity", "label", "kept", "variant"], kind="stable", ignore_index=True)


def rank_correlations(values: Sequence[NDArray], strata: NDArray, seed: int) -> tuple[list[Estimate], list[Estimate]]:
    """Rank correlation of the first of `values`, each [n], with each of the others; strata [n] count from 0.

    Returns:
        Spearman's correlations, and correlations of ranks minus the mean rank of their stratum; with percentile
        bootstrap intervals over pairs. Missing where a side has no variation, or with fewer than three pairs.
    """
    from scipy.stats import rankdata

    n = len(values[0])
    if n < 3:
        nothing = [NOTHING._replace(n=n)] * (len(values) - 1)
        return nothing, nothing
    drawn = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    picked = np.vstack([np.arange(n), drawn])  # the observations themselves come first
    ranks = [rankdata(side[picked], axis=1) - (n + 1) / 2 for side in values]
    members = [strata[picked] == stratum for stratum in range(strata.max() + 1)]
    within = [rank.copy() for rank in ranks]
    for member in members:
        size = np.maximum(member.sum(axis=1), 1)
        for rank in within:
            rank -= member * (np.einsum("rn,rn->r", rank, member) / size)[:, None]
    return _correlations(ranks), _correlations(within)


def _correlations(sides: Sequence[NDArray]) -> list[Estimate]:
    """Correlation of the first of `sides` with each other one, each [1 + resample, n] and centred."""
    lengths = [np.sqrt(np.einsum("rn,rn->r", side, side)) for side in sides]
    estimates = []
    for side, length in zip(sides[1:], lengths[1:], strict=True):
        scale = lengths[0] * length
        product = np.einsum("rn,rn->r", sides[0], side)
        found = np.divide(product, scale, out=np.full(len(scale), np.nan), where=scale > 1e-9)
        estimates.append(Estimate(float(found[0]), *percentile_interval(found[1:]), side.shape[1]))
    return estimates


def _wide(cliffs: pd.DataFrame, group: str) -> pd.DataFrame:
    """Heights of the prompts of a group that have all of them: rows prompts, columns (probe, quantity)."""
    part = cliffs[cliffs["group"] == group]
    return _pivot(part, HEIGHTS).dropna()


def _pivot(part: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    wide = part.pivot_table(index="prompt_id", columns="probe", values=list(values), dropna=False)
    return wide.swaplevel(axis=1)


def _means(values: NDArray, seed: int) -> tuple[list[Estimate], NDArray]:
    """Mean of each column of `values` [n, column], NaN left out, with its percentile bootstrap interval.

    Returns:
        one estimate per column, and the means of the resamples [resample, column].
    """
    present = (~np.isnan(values)).astype(float)
    draws = resample_counts(len(values), seed).astype(float)
    with np.errstate(invalid="ignore"):  # 0 / 0 where no row has a value
        means = np.nansum(values, axis=0) / present.sum(axis=0)
        resampled = (draws @ np.nan_to_num(values)) / (draws @ present)
    counts = present.sum(axis=0).astype(int)
    nothing = np.nan, np.nan
    estimates = [
        Estimate(float(mean), *(percentile_interval(column) if n > 1 else nothing), int(n))
        for mean, column, n in zip(means, resampled.T, counts, strict=True)
    ]
    return estimates, resampled


def _measures(part: pd.DataFrame, seed: int) -> Iterator[tuple[tuple[str, str], Estimate]]:
    """((probe, quantity), estimate) of every measure over the prompts of `part`."""
    wide = _pivot(part, MEASURES)
    estimates, resampled = _means(wide.to_numpy(), seed)
    found = dict(zip(wide.columns, zip(estimates, resampled.T, strict=True), strict=True))
    for probe in sorted(part["probe"].unique()):
        for measure in MEASURES:
            estimate, _ = found[probe, measure]
            if measure == "steepest_in_boundary":
                estimate = share(wide[probe, measure].sum(), estimate.n)
            elif measure == "boundary_share":
                (drop, drops), (cliff, cliffs) = found[probe, "boundary_drop"], found[probe, "cliff"]
                known = cliff.value >= MIN_CLIFF
                interval = percentile_interval(drops / cliffs) if known and cliff.n > 1 else (np.nan, np.nan)
                estimate = Estimate(drop.value / cliff.value if known else np.nan, *interval, cliff.n)
            yield (probe, measure), estimate


def _difference_of_means(x: NDArray, y: NDArray, axis: int) -> NDArray:
    return x.mean(axis=axis) - y.mean(axis=axis)


def _differences(
    one: pd.DataFrame, other: pd.DataFrame, paired: bool, seed: int
) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    """((probe, quantity), difference with interval, n and p) of the mean heights of two sides, output of `_wide`."""
    from scipy.stats import permutation_test

    columns = one.columns.intersection(other.columns)
    prompts = one.index.intersection(other.index)
    x, y = (side.loc[prompts if paired else side.index, columns].to_numpy() for side in (one, other))
    if min(len(x), len(y)) < 2:
        return
    if paired:
        estimates, _ = _means(x - y, seed)
    else:
        (mean_x, drawn_x), (mean_y, drawn_y) = _means(x, seed), _means(y, seed + 1)
        estimates = [
            Estimate(a.value - b.value, *percentile_interval(draws), a.n + b.n)
            for a, b, draws in zip(mean_x, mean_y, (drawn_x - drawn_y).T, strict=True)
        ]
    test = permutation_test(
        (x.T, y.T),
        _difference_of_means,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=500,
        axis=-1,
        rng=seed,
    )
    for column, estimate, p in zip(columns, estimates, test.pvalue, strict=True):
        value, low, high, n = estimate
        yield column, {"difference": value, "low": low, "high": high, "n": n, "p": float(p)}
