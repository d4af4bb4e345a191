"""Tables of cliffs: their size by group and family, between groups and models, with thinking length and kept thinking.

The unit is the prompt: samples of one prompt are averaged first, and whole requests are resampled. All cliffs are those
of a probe's last layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from refusal_cliff.cliffs import HEIGHTS, MEASURES
from refusal_cliff.outcomes import ALL, GROUPS, PROMPT, WORST_CASE, rates, traces_by_group
from refusal_cliff.stats import (
    NOTHING,
    Estimate,
    bootstrap_means,
    grouped_share,
    holm,
    percentile_interval,
    resample_counts,
    resampled_means,
    resampled_ranks,
)
from refusal_cliff.tables import by_model
from refusal_cliff.traces import TRACE_KEY
from refusal_cliff.variants import Variant

HARMFUL = "harmful"
"""The group of all harmful prompts, whatever became of them."""
COMPLIED, REFUSED, BENIGN = GROUPS
CROSSED = {
    (True, False): "recognised, not refused",
    (True, True): "recognised, refused",
    (False, False): "unrecognised, not refused",
    (False, True): "unrecognised, refused",
}
"""Harmful prompts by what thinking and answer do: (the thinking means to refuse, the answer refuses) -> group."""
GROUP_ORDER = (COMPLIED, REFUSED, HARMFUL, BENIGN, *CROSSED.values())
MIN_CLIFF = 0.1
"""A share of a smaller mean fall than this says nothing."""
DEEPER = "cliff_deeper"
"""Measure of all layers: the mean cliff in the last third of a probe's layers minus that in the first third."""
ESTIMATE = ["value", "low", "high", "n"]
PERMUTATIONS = 9999


def last_layer(cliffs: pd.DataFrame) -> pd.DataFrame:
    """The rows of each model's and probe's last layer; a probe need not have every layer."""
    return cliffs[cliffs["layer"] == cliffs.groupby(["model", "probe"])["layer"].transform("max")]


@by_model
def prompt_cliffs(cliffs: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Cliffs of the base traces at the last layer, averaged over the samples of a prompt within a group.

    Args:
        cliffs: model and the columns of cliff tables of base models, all layers.
        outcomes: of the same models.

    Returns:
        model, probe, group (one of `GROUPS`; or `HARMFUL`, which holds every harmful prompt once more, or one of
        `CROSSED`, which do so wherever both judgements are there), family, request_id, prompt_id, thinking_tokens,
        `MEASURES` as numbers, and `DEEPER` (missing with fewer than three layers).
    """
    trace = ["probe", *TRACE_KEY]
    last = last_layer(cliffs).drop(columns=["curve", "boundary_curve"]).merge(_deeper(cliffs), on=trace)
    base = outcomes[outcomes["variant"] == "base"]
    harmful = base[base["label"] == "harmful"].assign(group=HARMFUL)
    judged = harmful.dropna(subset=["thinking_refusal", "refused"])
    pairs = zip(judged["thinking_refusal"].astype(bool), judged["refused"].astype(bool), strict=True)
    again = pd.concat([harmful, judged.assign(group=[CROSSED[pair] for pair in pairs])])
    # A trace has a row in each of its groups.
    regrouped = last.merge(again[[*TRACE_KEY, "request_id", "group"]], on=TRACE_KEY)
    table = pd.concat([traces_by_group(last, outcomes), regrouped])
    table = table.merge(base[[*TRACE_KEY, "family", "thinking_tokens"]], on=TRACE_KEY)
    table = table.astype(dict.fromkeys(MEASURES, float))
    keys = ["probe", "group", "family", *PROMPT]
    return table.groupby(keys, sort=False)[["thinking_tokens", *MEASURES, DEEPER]].mean().reset_index()


def _deeper(cliffs: pd.DataFrame) -> pd.DataFrame:
    """`DEEPER` of every trace of one model and every probe: probe, prompt_id, sample, cliff_deeper."""
    layer = cliffs.groupby("probe")["layer"]
    count, place = layer.transform("nunique"), layer.rank("dense")
    third = count // 3
    weight = ((place > count - third).astype(float) - (place <= third)) / third
    return (
        cliffs.assign(**{DEEPER: weight * cliffs["cliff"]})
        .groupby(["probe", *TRACE_KEY])[DEEPER]
        .sum(min_count=1)
        .reset_index()
    )


@by_model
def cliff_table(cliffs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every measure of the cliff, by probe, group and family.

    Args:
        cliffs: output of `prompt_cliffs`.

    Returns:
        model, probe, group, family (`all` pools them), quantity, value, low, high, n (prompts). Means carry percentile
        bootstrap 95 % intervals, `steepest_in_boundary` is a share (`stats.grouped_share`). `boundary_share` is the
        mean fall inside the boundary over the mean cliff: a ratio of means, because single ratios explode where a
        cliff is small; it is missing where the mean cliff is below `MIN_CLIFF`. `DEEPER` is over all families alone.
    """
    rows = []
    for group in GROUP_ORDER:
        own = cliffs[cliffs["group"] == group]
        for family in (ALL, *sorted(own["family"].unique())):
            part = own if family == ALL else own[own["family"] == family]
            if part.empty:
                continue
            for (probe, quantity), estimate in _measures(
                part, (*MEASURES, DEEPER) if family == ALL else MEASURES, seed
            ):
                rows.append((probe, group, family, quantity, *estimate))
    table = pd.DataFrame(rows, columns=["probe", "group", "family", "quantity", *ESTIMATE])
    return table.sort_values("probe", kind="stable")


@by_model
def refit_table(refits: pd.DataFrame, outcomes: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Height of the cliff over refits of a probe on resampled training prompts: is it the model's, or the sample's?

    Args:
        refits: model, prompt_id, sample, probe, refit, `HEIGHTS`, of base traces.
        outcomes: of the same models.

    Returns:
        model, probe, group (one of `GROUPS`), quantity (`HEIGHTS`), value (mean over refits and prompts), low, high, n
        (prompts), refits. The interval is the central 95 % of the mean over resampled requests by one of the refits:
        how far it moves when the probe is trained, and the cliff measured, on other prompts.
    """
    rows = []
    for (probe, group), part in traces_by_group(refits, outcomes).groupby(["probe", "group"], sort=False):
        for height in HEIGHTS:
            heights = part.pivot_table(index="refit", columns=PROMPT, values=height)
            refit_count, n = heights.shape
            if n == 0:  # no trace of the group has thinking
                continue
            requests, values = heights.columns.get_level_values("request_id"), heights.to_numpy()
            counts = resample_counts(requests, seed)[1:]
            totals = np.einsum("rn,rn->r", counts, values[np.arange(len(counts)) % refit_count])
            interval = percentile_interval(totals / counts.sum(axis=1))
            rows.append((probe, group, height, float(values.mean()), *interval, n, refit_count))
    return pd.DataFrame(rows, columns=["probe", "group", "quantity", *ESTIMATE, "refits"])


def difference_table(cliffs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Differences of mean cliffs between groups of one model, and between models over the same harmful prompts.

    Args:
        cliffs: output of `prompt_cliffs`.

    Returns:
        kind (`within` a model, or `between` models), model, group, other (the group or the model that is subtracted),
        probe, quantity (`HEIGHTS`), value, low, high (percentile bootstrap 95 % over requests, paired between models),
        n (within a model prompts of both sides together, between models pairs), p (two-sided permutation test of the
        means of requests: of their group within a model, of the two models within each request between them), p_holm
        (adjusted over the whole table).
    """
    models = {model: table for model, table in cliffs.groupby("model", sort=False)}
    rows = []
    for model, table in models.items():
        for other in (BENIGN, REFUSED):
            sides = _wide(table, COMPLIED), _wide(table, other)
            for found in _differences(*sides, paired=False, seed=seed):
                rows.append(("within", model, COMPLIED, other, *found))
    for model, other in combinations(models, 2):
        sides = _wide(models[model], HARMFUL), _wide(models[other], HARMFUL)
        for found in _differences(*sides, paired=True, seed=seed):
            rows.append(("between", model, HARMFUL, other, *found))
    table = pd.DataFrame(rows, columns=["kind", "model", "group", "other", "probe", "quantity", *ESTIMATE, "p"])
    return table.assign(p_holm=holm(table["p"].tolist()))


@by_model
def length_table(cliffs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rank correlation of the height of the cliff with the number of thinking tokens, by probe and group.

    Args:
        cliffs: output of `prompt_cliffs`.

    Returns:
        model, probe, group, quantity, value, low, high (percentile bootstrap 95 % over requests), n (prompts).
        `spearman_cliff` and `spearman_cliff_mean` are Spearman's correlation; `within_family_…` is that of ranks minus
        the mean rank of their attack family: an attack changes both the length of the thinking and the cliff. A largest
        score grows with the number of tokens it is taken from, so that `cliff` has to be read beside `cliff_mean`.
    """
    rows = []
    for group in GROUP_ORDER:
        part = cliffs[(cliffs["group"] == group) & cliffs["cliff"].notna()]
        described = part.drop_duplicates("prompt_id").set_index(PROMPT)[["thinking_tokens", "family"]]
        heights = _pivot(part, HEIGHTS).sort_index(axis=1) if len(part) else pd.DataFrame()
        described = described.reindex(heights.index)
        values = [described["thinking_tokens"].to_numpy(), *(heights[column].to_numpy() for column in heights)]
        strata, requests = pd.factorize(described["family"])[0], heights.index.get_level_values(0)
        plain, within = rank_correlations(values, strata, requests, seed)
        for (probe, height), *estimates in zip(heights.columns, plain, within, strict=True):
            for prefix, estimate in zip(("spearman", "within_family"), estimates, strict=True):
                rows.append((probe, group, f"{prefix}_{height}", *estimate))
    table = pd.DataFrame(rows, columns=["probe", "group", "quantity", *ESTIMATE])
    return table.sort_values("probe", kind="stable")


@by_model
def curve_table(
    cliffs: pd.DataFrame, outcomes: pd.DataFrame, boundaries: Mapping[str, Sequence[str]], seed: int
) -> pd.DataFrame:
    """Mean refusal score along the base traces, by probe and group.

    Args:
        cliffs: model and the columns of cliff tables of base models, all layers.
        outcomes: of the same models.
        boundaries: the text of each boundary token of each model.

    Returns:
        model, probe, layer, last_layer (whether it is the probe's last), group (one of `GROUPS`), part, position,
        token, value, low, high (percentile bootstrap 95 % over requests, at each position alone), n (prompts). Part
        `thinking` is the thinking on normalised position, 0 to 1, in the last layer; `end` the last tokens one by one,
        counted to the last of the boundary (0), in every layer: `token` is the text of those of the boundary, and
        missing where the thinking is.
    """
    columns = ["probe", "layer", "last_layer", "group", "part", "position", "token", *ESTIMATE]
    last, rows = cliffs.groupby("probe")["layer"].max(), []
    for (probe, layer, group), part in traces_by_group(cliffs, outcomes).groupby(["probe", "layer", "group"]):
        tokens, is_last = boundaries[part["model"].iloc[0]], layer == last[probe]
        thinking, end = (np.stack(part[column].to_list()).astype(float) for column in ("curve", "boundary_curve"))
        thinking = thinking if is_last else thinking[:, :0]
        scores = pd.DataFrame(np.hstack([thinking, end]), index=pd.MultiIndex.from_frame(part[PROMPT]))
        scores = scores.groupby(level=PROMPT).mean()
        places = [("thinking", share) for share in np.linspace(0, 1, thinking.shape[1])]
        places += [("end", offset) for offset in range(1 - end.shape[1], 1)]
        texts = [None] * (len(places) - len(tokens)) + [*tokens]
        estimates = bootstrap_means(scores, seed, scores.index.get_level_values("request_id"))
        for place, text, estimate in zip(places, texts, estimates, strict=True):
            rows.append((probe, layer, is_last, group, *place, text, *estimate))
    return pd.DataFrame(rows, columns=columns)


@by_model
def layer_table(cliffs: pd.DataFrame, outcomes: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Mean height of the cliff in every layer, by probe and group. Arguments as for `curve_table`.

    Returns:
        model, probe, group (one of `GROUPS`), quantity (`HEIGHTS`), layer, value, low, high (percentile bootstrap 95 %
        over requests), n (prompts).
    """
    rows = []
    for (probe, group), part in traces_by_group(cliffs, outcomes).groupby(["probe", "group"]):
        wide = part.pivot_table(index=PROMPT, columns="layer", values=list(HEIGHTS))
        estimates = bootstrap_means(wide, seed, wide.index.get_level_values("request_id"))
        rows += [(probe, group, *key, *estimate) for key, estimate in zip(wide.columns, estimates, strict=True)]
    return pd.DataFrame(rows, columns=["probe", "group", "quantity", "layer", *ESTIMATE])


@by_model
def kept_thinking_table(cliffs: pd.DataFrame, outcomes: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rates and final scores by the kept thinking fraction.

    Args:
        cliffs: model, variant, prompt_id, probe, layer, final, of `base` and of the variants that keep a part of the
            thinking.
        outcomes: of the same models, all variants.

    Returns:
        model, variant, kept, label (of the prompts), quantity, value, low, high, n (prompts), lowest, highest.
        Quantities are the rates `asr`, `refusal` and `over_refusal` with the intervals and bounds of `outcomes.rates`,
        and, without bounds, `final_{probe}`, the mean score
        at the last boundary token, with bootstrap 95 % intervals over requests. `base` is the model's own run: its
        thinking is whole, as with `keep-1`, but there the response is generated again.
    """
    labels = {"asr": "harmful", "refusal": "harmful", "over_refusal": "benign"}
    found = rates(outcomes[outcomes["variant"].isin(cliffs["variant"])]).query("dataset == @ALL and family == @ALL")
    rows = [
        (row.variant, labels[row.rate], row.rate, row.value, row.low, row.high, row.n, row.lowest, row.highest)
        for row in found.itertuples()
        if row.rate in labels
    ]
    prompts = outcomes.drop_duplicates("prompt_id").set_index("prompt_id")
    for variant, table in last_layer(cliffs).groupby("variant", sort=False):
        final = table.pivot_table(index="prompt_id", columns="probe", values="final")
        for label in ("harmful", "benign"):
            part = final[final.index.map(prompts["label"]) == label]
            estimates = bootstrap_means(part, seed, part.index.map(prompts["request_id"]))
            for probe, estimate in zip(part.columns, estimates, strict=True):
                rows.append((variant, label, f"final_{probe}", *estimate, np.nan, np.nan))
    table = pd.DataFrame(rows, columns=["variant", "label", "quantity", *ESTIMATE, *WORST_CASE])
    kept = [Variant.parse(variant).kept for variant in table["variant"]]
    table.insert(1, "kept", [1.0 if share is None else share for share in kept])
    return table.sort_values(["quantity", "label", "kept", "variant"], kind="stable")


def rank_correlations(
    values: Sequence[NDArray], strata: NDArray, groups: ArrayLike, seed: int
) -> tuple[list[Estimate], list[Estimate]]:
    """Rank correlation of the first of `values`, each [n], with each of the others.

    Args:
        strata: [n], counted from 0.
        groups: [n], what is resampled whole.

    Returns:
        Spearman's correlations, and correlations of ranks minus the mean rank of their stratum; with percentile
        bootstrap intervals over groups. Missing where a side has no variation, or with fewer than three groups.
    """
    n = len(values[0])
    if len(np.unique(groups)) < 3:
        nothing = [NOTHING._replace(n=n)] * (len(values) - 1)
        return nothing, nothing
    weights = resample_counts(groups, seed)
    ranks = [resampled_ranks(side, weights) for side in values]
    found = []
    for own in (np.zeros_like(strata), strata):
        first, *others = (_centred(rank, weights, own) for rank in ranks)
        found.append([_resampled_estimate(_correlation(first, other, weights), n) for other in others])
    return tuple(found)


def _centred(ranks: NDArray, weights: NDArray, strata: NDArray) -> NDArray:
    """`ranks` [sample, n] minus the mean of their stratum [n] under `weights` [sample, n]."""
    member = np.eye(strata.max() + 1)[strata]
    means = (weights * ranks) @ member / np.maximum(weights @ member, 1)
    return ranks - means[:, strata]


def _correlation(one: NDArray, other: NDArray, weights: NDArray) -> NDArray:
    """Pearson's correlation of centred values [sample, n] under `weights`; NaN where a side is constant.

    No library correlates samples that are not of one size, or values centred by stratum, all at once.
    """
    product, *squares = (np.einsum("rn,rn,rn->r", weights, x, y) for x, y in ((one, other), (one, one), (other, other)))
    with np.errstate(invalid="ignore"):
        return product / np.sqrt(squares[0] * squares[1])


def _resampled_estimate(found: NDArray, n: int) -> Estimate:
    """The estimate whose value is the first of `found` [1 + resample]."""
    return Estimate(float(found[0]), *percentile_interval(found[1:]), n)


def _wide(cliffs: pd.DataFrame, group: str) -> pd.DataFrame:
    """Heights of the prompts of a group that have all of them: rows prompts, columns (probe, quantity)."""
    part = cliffs[cliffs["group"] == group]
    return _pivot(part, HEIGHTS).dropna()


def _pivot(part: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    # A pivot table would drop empty columns, or have a row for every pair of a request and a prompt.
    wide = part.pivot(index=PROMPT, columns="probe", values=list(values))  # noqa: PD010
    return wide.swaplevel(axis=1)


def _measures(part: pd.DataFrame, measures: Sequence[str], seed: int) -> Iterator[tuple[tuple[str, str], Estimate]]:
    """((probe, quantity), estimate) of every measure over the prompts of `part`."""
    wide = _pivot(part, measures)
    requests = wide.index.get_level_values("request_id")
    estimates = dict(zip(wide.columns, bootstrap_means(wide, seed, requests), strict=True))
    resampled = dict(zip(wide.columns, resampled_means(wide, seed, requests)[1:].T, strict=True))
    for probe in sorted(part["probe"].unique()):
        for measure in measures:
            estimate = estimates[probe, measure]
            if measure == "steepest_in_boundary":
                known = wide[probe, measure].dropna()
                estimate = grouped_share(known, known.index.get_level_values("request_id"))
            elif measure == "boundary_share":
                drop, cliff = (probe, "boundary_drop"), (probe, "cliff")
                estimate = NOTHING._replace(n=estimates[cliff].n)
                if estimates[cliff].value >= MIN_CLIFF:
                    varies = np.isfinite(estimates[cliff].low)
                    interval = percentile_interval(resampled[drop] / resampled[cliff]) if varies else (np.nan, np.nan)
                    ratio = estimates[drop].value / estimates[cliff].value
                    estimate = Estimate(ratio, *interval, estimate.n)
            yield (probe, measure), estimate


def _difference_of_means(x: NDArray, y: NDArray, axis: int) -> NDArray:
    return x.mean(axis=axis) - y.mean(axis=axis)


def _differences(one: pd.DataFrame, other: pd.DataFrame, paired: bool, seed: int) -> Iterator[tuple]:
    """(probe, quantity, value, low, high, n, p) of differences of the mean heights of two sides, output of `_wide`."""
    from scipy.stats import permutation_test

    columns = one.columns.intersection(other.columns)
    if columns.empty:
        return
    # A request may have prompts on both sides, which are resampled together.
    both = pd.concat([one[columns], other[columns]], axis=1, keys=["one", "other"], join="inner" if paired else "outer")
    means = resampled_means(both, seed, both.index.get_level_values("request_id"))
    difference = means[:, : len(columns)] - means[:, len(columns) :]
    n = len(both) if paired else len(one) + len(other)
    # Of a request on both sides of independent samples, permuting keeps too much noise: p is too large, if anything.
    x, y = (both[side].dropna().groupby("request_id").mean().to_numpy() for side in ("one", "other"))
    if min(len(x), len(y)) < 2:
        return
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
    for column, found, p in zip(columns, difference.T, test.pvalue, strict=True):
        yield *column, *_resampled_estimate(found, n), float(p)
