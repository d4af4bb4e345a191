"""Repairs side by side: what each does at every dose, and what is left unrefused at equal over-refusal.

A *repair* is what is done and by which rule it was found, as `ablate causal` or `steer refusal`; its *dose* is how much
of it: the share of heads, multiples of the direction, the share of the pool. Any repair refuses everything at some
dose, so repairs are compared at *equal over-refusal*: at the largest dose up to which over-refusal stays within a
bound, which may be none at all (dose 0, the base model). The rules were fixed before any repair was measured.

What was not judged counts against a repair: a model that was broken until it never answers has no response to refuse.

The dose is read off the same test prompts as what it does. So each bootstrap resample, of requests and of the draws of
a control or seeds of a tuning, chooses its dose anew, and the interval holds what that adds.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.ablation_tables import DRIFT, KL, prompt_values, variant_rates
from refusal_cliff.costs import TRAINING_PASSES
from refusal_cliff.edits import Edit
from refusal_cliff.elimination import needed
from refusal_cliff.outcomes import ALL, PROMPT, WORST_CASE
from refusal_cliff.rankings import CONTROLS
from refusal_cliff.stats import (
    NOTHING,
    Estimate,
    bootstrap_mean,
    effective_groups,
    nested_bootstrap,
    percentile_interval,
    resample_counts,
    share_interval,
)
from refusal_cliff.variant_pairs import BASE
from refusal_cliff.variants import DIRECTION_CONTROLS, ON_HEADS, Variant

NONE = "none"
"""The repair of a base model; and what a rate by itself is held against."""
DOSES = {
    "ablate": "fraction",
    "minimal": "fraction",
    "first": "fraction",
    "steer": "scale",
    "tune": "budget",
    "both": "budget",
}
"""Kinds of variants that are repairs, and what their dose is."""
COMPARED = {"not_refused": "highest", "asr": "highest", "over_refusal": "highest", "utility": "lowest", KL: "value"}
"""Rates at equal over-refusal, and which of their columns is read: what speaks against a repair."""
REPAIR_COLUMNS = ["model", "repair", "dose", "control", "heads", "layer", "passes", "draws", "rate"]
MATCHED_COLUMNS = ["family", "model", "repair", "bound", "operating", "dose", "passes", "rate", "against"]
MINIMAL_COLUMNS = ["family", "model", "ranking", "kept", "operating", "quantity"]


def repair_of(variant: Variant) -> tuple[str, float]:
    """Repair and dose of a variant, or of a pool of draws or seeds."""
    if variant == BASE:
        return NONE, 0.0
    found_by = filter(None, (variant.pool.ranking, variant.pool.direction, variant.selector))
    return " ".join([variant.kind, *found_by]), float(getattr(variant, DOSES[variant.kind]))


def is_control(repair: str) -> bool:
    """Whether a repair is one that should do nothing."""
    kind, _, found_by = repair.partition(" ")
    return found_by in {"ablate": CONTROLS, "steer": DIRECTION_CONTROLS, "tune": ("random",)}.get(kind, ())


def repair_table(
    outcomes: pd.DataFrame,
    perplexity: pd.DataFrame,
    edits: Mapping[tuple[str, str], Edit],
    costs: pd.DataFrame,
    trainings: Mapping[tuple[str, str], Mapping[str, float]],
    seed: int,
) -> pd.DataFrame:
    """What every repair does at every dose.

    Args:
        outcomes, perplexity: as for `ablation_tables.prompt_values`.
        edits: by (model, variant).
        costs: model, repair, passes: what it took to find the repair; of all directions under `steer`.
        trainings: what a trainer did (`training.json`), by (model, variant).

    Returns:
        model, repair, dose, control (true, false), heads (how many are ablated), layer (that a direction is added in),
        passes (forward passes over a trace that it took to find; missing: nothing was looked for), draws, rate, value,
        low, high, n, lowest, highest, over all datasets, as in `ablation_tables.ablation_table`. Draws of a control and
        seeds of a tuning are pooled.
    """
    passes = {(row.model, row.repair): row.passes for row in costs.itertuples()}
    rows = []
    for model, variant, members, found in variant_rates(outcomes, perplexity, ("base", *DOSES), seed):
        if variant != variant.pool:
            continue
        repair, dose = repair_of(variant)
        own = edits.get((model, members[0]), Edit())
        described = {
            "model": model,
            "repair": repair,
            "dose": dose,
            "control": is_control(repair),
            "heads": len(own.heads) if variant.kind in (*ON_HEADS, "both") else pd.NA,
            "layer": pd.NA if own.layer is None else own.layer,
            "passes": 0.0 if variant == BASE else _passes(variant, model, passes, trainings.get((model, members[0]))),
            "draws": len(members),
        }
        rows += [described | row for row in found if row["dataset"] == ALL]
    table = pd.DataFrame(rows, columns=[*REPAIR_COLUMNS, *Estimate._fields, *WORST_CASE])
    table.loc[table["control"], "passes"] = np.nan
    return table.astype({"heads": "Int64", "layer": "Int64"})


def _passes(
    variant: Variant, model: str, passes: Mapping[tuple[str, str], float], training: Mapping[str, float] | None
) -> float:
    """What it took to find a repair: what was measured, and what was trained."""
    found_by = {"steer": "steer", "tune": None, "both": f"ablate {variant.ranking}"}
    measured = found_by.get(variant.kind, repair_of(variant)[0])
    trained = training["steps"] * training["batch_size"] * TRAINING_PASSES if training else 0.0
    if measured is None:
        return trained if training else np.nan
    return passes.get((model, measured), np.nan) + trained


class Curve(NamedTuple):
    """One repair of one model at every dose, and in every resample.

    Attributes:
        doses: [dose], ascending; the first is 0, the base model.
        rates: rate -> [1 + resample, dose]; the first row is the observations as they are.
    """

    doses: NDArray
    rates: dict[str, NDArray]

    def chosen(self, bound: float) -> NDArray[np.int64]:
        """Place of the largest dose up to which over-refusal stays within `bound`, in every resample."""
        within = self.rates["over_refusal"] <= bound
        within[:, 0] = True  # whoever does nothing has the base model, whatever that refuses
        return np.logical_and.accumulate(within, axis=1).sum(axis=1) - 1


def matched_table(
    outcomes: pd.DataFrame,
    perplexity: pd.DataFrame,
    repairs: pd.DataFrame,
    edits: Mapping[tuple[str, str], Edit],
    families: Mapping[str, str],
    bounds: Sequence[float],
    operating: str,
    seed: int,
) -> pd.DataFrame:
    """What every repair, and none, leaves unrefused at equal over-refusal, and the differences between repairs.

    Args:
        outcomes, perplexity: as for `repair_table`.
        repairs: output of `repair_table`.
        edits: by (model, variant). A repair that could not be made for a model leaves it as it is: dose 0.
        families: the family of each model.
        bounds: over-refusals that repairs are compared at; the first is the operating one.
        operating: the ranking that claims are about: every other repair is compared with ablation by it.

    Returns:
        family, model (`all`: over the seeds of a family), repair, bound, operating (whether the bound is), dose (the
        chosen one, of `all` the mean over seeds), passes, rate, against (`none`, or the repair whose rate is
        subtracted: a control, the first heads for a minimal set, the tuning alone for one with heads ablated in it,
        or ablation by the operating ranking), value (with
        what was not judged counted against the repair), low, high, n (prompts), seeds. Intervals: of a model over
        requests, draws and the choice of the dose; of `all` over seeds too (`stats.nested_bootstrap`).
    """
    passes = repairs.groupby(["model", "repair"])["passes"].max().to_dict()
    rows = []
    for model, runs in outcomes.groupby("model", sort=False):
        variants = list(map(Variant.parse, runs["variant"].unique()))
        if not any(variant.kind in DOSES for variant in variants):
            continue
        curves, sizes, requests = _curves(outcomes, perplexity, model, variants, seed)
        for own, name in edits:
            if own == model and edits[own, name].missing:
                curves.setdefault(repair_of(Variant.parse(name))[0], curves[NONE])
        for place, bound in enumerate(bounds):
            at = {repair: curve.chosen(bound) for repair, curve in curves.items()}
            for repair, curve in curves.items():
                described = {
                    "family": families[model],
                    "model": model,
                    "repair": repair,
                    "bound": bound,
                    "operating": place == 0,
                    "dose": curve.doses[at[repair][0]],
                    "passes": passes.get((model, repair), np.nan),
                }
                for rate in COMPARED:
                    for against in (NONE, *_rivals(repair, curves, operating)):
                        if rate not in curve.rates or (against != NONE and rate not in curves[against].rates):
                            continue
                        draws = _at(curve.rates[rate], at[repair])
                        if against != NONE:
                            draws = draws - _at(curves[against].rates[rate], at[against])
                        found = _estimate(draws, rate, against, sizes[rate], requests[rate])
                        rows.append(described | {"rate": rate, "against": against} | found._asdict() | {"seeds": 1})
    table = pd.DataFrame(rows, columns=[*MATCHED_COLUMNS, *Estimate._fields, "seeds"])
    return _with_families(table, seed)


def pick(matched: pd.DataFrame) -> pd.DataFrame:
    """What one would take: of the repairs as good as the best, the one that is cheapest to find.

    As good: what is left unrefused at the operating bound lies within the interval of the smallest; controls do not
    compete, and a repair without a cost was not looked for. No repair costs nothing, and is picked where none is
    better. Of equally cheap ones the better.

    Args:
        matched: output of `matched_table`.

    Returns:
        `matched` with `picked` (true, false), true on all rows of the repair at that bound.
    """
    operating = matched["operating"].astype(bool)
    own = matched[(matched["rate"] == "not_refused") & (matched["against"] == NONE) & operating]
    own = own[~own["repair"].map(is_control).astype(bool) & own["passes"].notna()]
    chosen = set()
    for (family, model), part in own.groupby(["family", "model"], sort=False):
        best = part.loc[part["value"].idxmin()]
        alike = part[part["value"] <= best["high"]].sort_values(["passes", "value"], kind="stable")
        chosen.add((family, model, alike.iloc[0]["repair"]))
    keys = zip(matched["family"], matched["model"], matched["repair"], strict=True)
    return matched.assign(picked=np.array([key in chosen for key in keys], dtype=bool) & operating)


def _curves(
    outcomes: pd.DataFrame, perplexity: pd.DataFrame, model: str, variants: Sequence[Variant], seed: int
) -> tuple[dict[str, Curve], dict[str, int], dict[str, NDArray]]:
    """The curve of every repair of a model, and of every rate the number of prompts and the request of each."""
    members: dict[str, dict[float, list[str]]] = {NONE: {}}
    for variant in variants:
        if variant.kind in DOSES:
            repair, dose = repair_of(variant)
            members.setdefault(repair, {}).setdefault(dose, []).append(str(variant))
    values = {
        rate: _pivot(prompt_values(outcomes, perplexity, rate)[column], model) for rate, column in COMPARED.items()
    }
    requests = {rate: table.columns.get_level_values("request_id").to_numpy() for rate, table in values.items()}
    # One draw of requests for all rates: over-refusal, which chooses, and what it chooses go together.
    known = np.unique(np.concatenate([*requests.values()]))
    counts = resample_counts(known, seed)
    curves = {}
    for repair, by_dose in members.items():
        doses = sorted(by_dose)
        rates = {}
        for rate, table in values.items():
            weights = counts[:, np.searchsorted(known, requests[rate])]
            means = [_means(table, names, weights, seed) for names in ([str(BASE)], *(by_dose[dose] for dose in doses))]
            if all(np.isfinite(mean[0]) for mean in means):
                rates[rate] = np.stack(means, axis=1)
        if "over_refusal" in rates:
            curves[repair] = Curve(np.array([0.0, *doses]), rates)
    return curves, {rate: table.shape[1] for rate, table in values.items()}, requests


def _pivot(values: pd.Series, model: str) -> pd.DataFrame:
    """What a model's prompts contribute: a row for each variant, a column for each prompt."""
    own = values[values.index.get_level_values("model") == model].rename("value").dropna().reset_index()
    return own.pivot_table(index="variant", columns=PROMPT, values="value", sort=False)


def _means(table: pd.DataFrame, names: Sequence[str], weights: NDArray, seed: int) -> NDArray:
    """Mean over draws and prompts in every resample of both: [1 + resample]."""
    cells = table.reindex(names).to_numpy(dtype=float)
    present = ~np.isnan(cells)
    draws = resample_counts(np.arange(len(cells)), seed + 1)
    with np.errstate(invalid="ignore"):  # no cell at all
        total = ((draws @ np.where(present, cells, 0.0)) * weights).sum(axis=1)
        return total / ((draws @ present.astype(float)) * weights).sum(axis=1)


def _rivals(repair: str, curves: Mapping[str, Curve], operating: str) -> list[str]:
    """What a repair is held against, if there is such a thing."""
    kind, _, found_by = repair.partition(" ")
    if is_control(repair) or repair == NONE:
        return []
    controls = {"ablate": CONTROLS, "steer": DIRECTION_CONTROLS, "tune": ("random",)}.get(kind, ())
    rivals = [f"{kind} {control}" for control in controls]
    rivals += [f"first {found_by}"] if kind == "minimal" else []
    rivals += [f"tune {found_by.split()[-1]}"] if kind == "both" else []
    rivals += [f"ablate {operating}"]
    return [rival for rival in dict.fromkeys(rivals) if rival in curves and rival != repair]


def _at(rates: NDArray, chosen: NDArray[np.int64]) -> NDArray:
    """The rate at the dose that each resample chose: [1 + resample]."""
    return rates[np.arange(len(rates)), chosen]


def _estimate(draws: NDArray, rate: str, against: str, n: int, requests: NDArray) -> Estimate:
    value, *resampled = draws
    if rate in DRIFT:
        return Estimate(float(value), *percentile_interval(resampled), n)
    bounds = (0.0, 1.0) if against == NONE else (-1.0, 1.0)
    return Estimate(float(value), *share_interval(value, resampled, effective_groups(requests), *bounds), n)


def _with_families(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table with a row over the seeds of each family before those of its models."""
    keys = ["family", "repair", "bound", "operating", "rate", "against"]
    pooled = []
    for key, part in table.groupby(keys, sort=False):
        estimates = [Estimate(*numbers) for numbers in part[[*Estimate._fields]].itertuples(index=False)]
        found, _ = nested_bootstrap(estimates, seed) if estimates else (NOTHING, None)
        described: dict[str, Any] = dict(zip(keys, key, strict=True))
        described |= {"model": ALL, "dose": part["dose"].mean(), "passes": part["passes"].mean()}
        pooled.append(described | found._asdict() | {"seeds": len(part)})
    return pd.concat([pd.DataFrame(pooled, columns=table.columns), table], ignore_index=True)


def minimal_table(
    eliminations: pd.DataFrame,
    kept: Sequence[float],
    truths: Iterable[Mapping[str, Any]],
    families: Mapping[str, str],
    seed: int,
) -> pd.DataFrame:
    """How large minimal sets are at every share that must remain, and how many of the heads that suppress they hold.

    Args:
        eliminations: model, ranking and the columns of `elimination.eliminate`.
        kept: the shares; the first is the operating one.
        truths: `model` and `heads`, the [[layer, head], …] that suppress refusal by construction, of those models where
            that is known.
        families: the family of each model.

    Returns:
        family, model (`all`: over the seeds of a family), ranking, kept, operating (whether the share is), quantity
        (heads: how many; start: of how many; share: what remains; planted: the share of the heads that suppress by
        construction that the set holds; first: the same of as many first heads of the ranking), value, low, high, n.
        Of a model a number without an interval; of a family the mean with its bootstrap interval over seeds, n of them.
    """
    known = {truth["model"]: {tuple(head) for head in truth["heads"]} for truth in truths}
    rows = []
    for (model, ranking), own in eliminations.groupby(["model", "ranking"], sort=False):
        heads = list(zip(own["layer"], own["head"], strict=True))
        for place, share in enumerate(kept):
            left = needed(own, share).to_numpy()
            given = own.loc[~left & own["step"].notna(), ["step", "share"]].sort_values("step")["share"]
            found = {"heads": left.sum(), "start": len(own), "share": given.iloc[-1] if len(given) else 1.0}
            if planted := known.get(model):
                chosen = {head for head, needs in zip(heads, left, strict=True) if needs}
                found["planted"] = len(planted & chosen) / len(planted)
                found["first"] = len(planted & set(heads[: len(chosen)])) / len(planted)
            key = (families[model], model, ranking, share, place == 0)
            rows += [(*key, name, float(value), np.nan, np.nan, 1) for name, value in found.items()]
    table = pd.DataFrame(rows, columns=[*MINIMAL_COLUMNS, *Estimate._fields])
    keys = [name for name in MINIMAL_COLUMNS if name != "model"]
    pooled = [
        dict(zip(keys, key, strict=True)) | {"model": ALL} | bootstrap_mean(part["value"], seed)._asdict()
        for key, part in table.groupby(keys, sort=False)
    ]
    return pd.concat([pd.DataFrame(pooled, columns=table.columns), table], ignore_index=True)
