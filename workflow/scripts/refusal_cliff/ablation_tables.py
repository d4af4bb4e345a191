"""What interventions change: every rate by kind and dose, and paired comparisons with base and controls.

The unit is the prompt, and what is resampled the request, as in `outcomes`. Draws of a random control are a sample of
their own, and so are the seeds of a tuning: a pool of them has an interval over draws and requests together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from refusal_cliff.outcomes import (
    ALL,
    PROMPT,
    RATES,
    RUN,
    VULNERABLE,
    WORST_CASE,
    prompt_shares,
    vulnerable_datasets,
    worst_case,
)
from refusal_cliff.selection import COSTS
from refusal_cliff.stats import (
    Estimate,
    crossed_bootstrap,
    grouped_share,
    holm,
)
from refusal_cliff.variant_pairs import (
    BASE,
    differences_of,
    mean_difference,
    of_members,
    p_of,
    pooled_share,
    references,
    requests_of,
    with_pools,
)
from refusal_cliff.variants import ON_HEADS, TUNED, Variant

PERPLEXITY, KL = "perplexity", "kl"
DRIFT = {PERPLEXITY: "nll", KL: "kl"}
"""Rates that are measured on benign traces of the base model, and the column that each is read from."""
COMPARED = ("asr", "not_refused", "over_refusal", "utility", PERPLEXITY)
ABLATION_COLUMNS = ["model", "kind", "ranking", "fraction", "scale", "heads", "write_norm", "draws", "dataset", "rate"]
SELECTION_COLUMNS = [
    "model",
    "selector",
    "budget",
    "examples",
    "steps",
    "finished",
    "epochs",
    "seed",
    *COSTS,
    "dataset",
    "rate",
]
COMPARISON_COLUMNS = ["model", "variant", "reference", "rate", "population", "contrast"]


def prompt_values(outcomes: pd.DataFrame, perplexity: pd.DataFrame, rate: str) -> pd.DataFrame:
    """What each prompt contributes to a rate.

    Args:
        outcomes: outcomes of all models and variants.
        perplexity: model, variant, prompt_id, sample, nll, kl; of some of the models and variants, or without rows.
        rate: a key of `outcomes.RATES`, or one of `DRIFT`.

    Returns:
        Indexed by model, variant, dataset, request_id, prompt_id: `value`, the share of the prompt's responses, NaN
        where nothing was judged, or the mean nats per token; `lowest` and `highest` as in `outcomes.prompt_shares`, NaN
        for perplexity and KL.
    """
    keys = [*RUN, "dataset"]
    if rate not in DRIFT:
        return prompt_shares(outcomes, rate, by=tuple(keys)).rename(columns={"share": "value"})
    if perplexity.empty:
        perplexity = pd.DataFrame(columns=[*RUN, "prompt_id", *DRIFT.values()])
        perplexity = perplexity.astype(dict.fromkeys(DRIFT.values(), float))
    datasets = outcomes.drop_duplicates("prompt_id")[[*PROMPT, "dataset"]]
    found = perplexity.merge(datasets, on="prompt_id").groupby([*keys, *PROMPT], sort=False)[DRIFT[rate]].mean()
    return found.rename("value").to_frame().assign(**dict.fromkeys(WORST_CASE, np.nan))


def ablation_table(
    outcomes: pd.DataFrame,
    perplexity: pd.DataFrame,
    heads: Mapping[tuple[str, str], frozenset[tuple[int, int]]],
    norms: pd.DataFrame,
    seed: int,
) -> pd.DataFrame:
    """Rates of the base models and of every intervention on heads, by dataset.

    Args:
        outcomes, perplexity: as for `prompt_values`.
        heads: (layer, head) that a variant touches, by (model, variant).
        norms: model, layer, head, write_norm: how much each head writes.

    Returns:
        model, kind, ranking, fraction, scale (of z), heads (how many), write_norm (their mean), draws, dataset, rate,
        value, low, high, n, lowest, highest (as in `outcomes.rates`; of a pool, over its draws). Dataset `all` pools
        the datasets, `vulnerable` those of `outcomes.alignment`. Kind base has ranking `none`. Each random draw has its
        own row; rankings `random` and `matched` pool their draws. Intervals are those of `outcomes.rates`; of pools,
        the wider of these and the crossed bootstrap over draws and requests; of perplexity (a geometric mean over
        prompts) and KL, the bootstrap.
    """
    norm_of = norms.set_index(["model", "layer", "head"])["write_norm"].to_dict()
    rows = []
    for model, variant, members, found in variant_rates(outcomes, perplexity, ("base", *ON_HEADS), seed):
        touched = [head for name in members if variant != BASE for head in heads[model, name]]
        described = {
            "model": model,
            "kind": variant.kind,
            "ranking": variant.ranking or "none",
            "fraction": variant.fraction or 0.0,
            "scale": float(variant == BASE) if variant.scale is None else variant.scale,
            "heads": len(touched) // len(members),
            "write_norm": np.mean([norm_of[model, *head] for head in touched]) if touched else np.nan,
            "draws": len(members),
        }
        rows += [described | row for row in found]
    return pd.DataFrame(rows, columns=[*ABLATION_COLUMNS, *Estimate._fields, *WORST_CASE])


def selection_table(
    outcomes: pd.DataFrame, selections: pd.DataFrame, steps: int, each_step: float, seed: int
) -> pd.DataFrame:
    """Rates of the base model and its tunings, by dataset, for the models that were tuned.

    Args:
        outcomes: outcomes of all models and variants.
        selections: model, variant, prompt_id, `COSTS` of every training example.
        steps: of a training that is not stopped early.
        each_step: chosen examples in a step.

    Returns:
        model, selector, budget, examples (how many), steps, finished (not stopped early), epochs (how often each was
        seen), seed, `COSTS` (tokens, of choosing; of a pool its first seed's), dataset, rate, value, low, high, n,
        lowest, highest; dataset and numbers as in `ablation_table`. Selector `none` is the base model; seed `all` pools
        the seeds of a tuning.
    """
    runs = selections.groupby(RUN)
    sizes, costs = runs.size(), runs[COSTS].first()
    tuned = outcomes.loc[outcomes["variant"].map(_kind).isin(TUNED), "model"].unique()
    own = outcomes[outcomes["model"].isin(tuned)]
    rows = []
    for model, variant, members, found in variant_rates(own, pd.DataFrame(), ("base", *TUNED), seed):
        described = {"model": model, "selector": variant.selector or "none", "budget": variant.budget or 0.0}
        described |= {
            "examples": 0,
            "steps": 0,
            "finished": True,
            "epochs": 0.0,
            "seed": ALL if variant.seed is None else variant.seed,
        }
        described |= dict.fromkeys(COSTS, 0)
        if variant != BASE:
            whole = model, str(replace(Variant.parse(members[0]), kind="tune", steps=None))  # the same for every seed
            done = variant.steps or steps
            described |= {
                "examples": sizes[whole],
                "steps": done,
                "finished": done == steps,
                "epochs": done * each_step / sizes[whole],
            }
            described |= costs.loc[whole].to_dict()
        rows += [described | row for row in found]
    return pd.DataFrame(rows, columns=[*SELECTION_COLUMNS, *Estimate._fields, *WORST_CASE])


def comparisons(outcomes: pd.DataFrame, perplexity: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every variant against its base model and against what `variant_pairs.references` names, paired by prompt.

    Args:
        outcomes, perplexity: as for `prompt_values`.

    Returns:
        model, variant, reference (each a variant, or a pool of random draws or of the seeds of a tuning), rate,
        population (`all` prompts that the rate is over, or those of `vulnerable` datasets; of tunings also each of
        these), contrast (`difference`,
        variant minus reference; of perplexity `ratio`), value, low, high (paired bootstrap over requests; with a pool,
        over draws and requests), n (prompts), p (Wilcoxon's signed rank over requests, whose prompts, samples and draws
        are averaged: a test on dependent observations would be too sure), and p_holm, adjusted over the whole table.
    """
    values = {rate: prompt_values(outcomes, perplexity, rate) for rate in COMPARED}
    vulnerable = vulnerable_datasets(outcomes)
    rows = []
    for model, runs in outcomes.groupby("model", sort=False):
        pools = dict(with_pools(runs["variant"].unique()))
        pairs = [(variant, other) for variant in pools for other in references(variant) if other in pools]
        for rate, own in values.items():
            table = _by_variant(own, model)
            for variant, reference in pairs:
                after, before = of_members(table, pools[variant]), of_members(table, pools[reference])
                both = after.columns.intersection(before.columns)
                populations = {ALL: both.unique("dataset"), VULNERABLE: vulnerable[model]}
                if variant.kind in TUNED:
                    populations |= {dataset: [dataset] for dataset in vulnerable[model]}
                for population, datasets in populations.items():
                    prompts = both[both.isin(datasets, level="dataset")]
                    differences = differences_of(after[prompts], before[prompts])
                    if not differences.size:
                        continue
                    contrast = "ratio" if rate == PERPLEXITY else "difference"
                    names = (model, str(variant), str(reference), rate, population, contrast)
                    rows.append((*names, *_contrast(differences, rate, seed)))
    compared = pd.DataFrame(rows, columns=[*COMPARISON_COLUMNS, *Estimate._fields, "p"])
    return compared.assign(p_holm=holm(compared["p"].to_numpy()))


def released_table(verdicts: pd.DataFrame, prompts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What the choices of the code released with the paper do to the ASR: how it ablates, and what its judge sees.

    Args:
        verdicts: model, variant and the columns of verdicts; those of base models, of heads ablated the released way
            (released), and of the same heads zeroed our way (ablate) count, by the guard on scopes `response` and
            `released`.
        prompts: prompt_id, request_id, label.

    Returns:
        model, kind, scope, against (empty: the value is an ASR; else `kind, scope` whose ASR is subtracted), value,
        low, high (as in `outcomes.rates`; of differences paired bootstrap over requests), n, lowest, highest (of an
        ASR, as in `outcomes.rates`), p (Wilcoxon's signed rank over requests).
    """
    harmful = prompts.loc[prompts["label"] == "harmful", PROMPT]
    variants = {name: Variant.parse(name) for name in verdicts["variant"].unique()}
    ours = {replace(variant, kind="ablate") for variant in variants.values() if variant.kind == "released"}
    counted = {name: v.kind for name, v in variants.items() if v.kind in ("base", "released") or v in ours}
    judged = verdicts[verdicts["judge"] == "guard"].merge(harmful, on="prompt_id")
    judged = judged[judged["variant"].isin(counted)]
    found = (judged["verdict"] == "harmful").astype(float).where(judged["verdict"].notna())
    judged = judged.assign(kind=judged["variant"].map(counted), harmful=found)
    pairs = [((kind, "released"), (kind, "response")) for kind in ("base", "ablate", "released")]
    for scope in ("response", "released"):
        pairs += [(("ablate", scope), ("base", scope)), (("released", scope), ("ablate", scope))]
    rows = []
    for model, own in judged.groupby("model", sort=False):
        asked = {
            (kind, scope): part.set_index([*PROMPT, "sample"])["harmful"]
            for (kind, scope), part in own.groupby(["kind", "scope"], sort=False)
            if scope in ("response", "released")
        }
        for (kind, scope), found in asked.items():
            shares = found.groupby(PROMPT).mean().dropna()
            bounds = worst_case(found, found.index.get_level_values("prompt_id"))
            rows.append((model, kind, scope, "", *grouped_share(shares, requests_of(shares)), *bounds.values(), np.nan))
        for after, before in pairs:
            if after not in asked or before not in asked:
                continue
            both = pd.concat([asked[before], asked[after]], axis=1, join="inner", keys=["before", "after"]).dropna()
            shares = both.groupby(PROMPT).mean()
            *found, p = _contrast((shares["after"] - shares["before"]).to_frame().T, "asr", seed)
            rows.append((model, *after, ", ".join(before), *found, np.nan, np.nan, p))
    return pd.DataFrame(rows, columns=["model", "kind", "scope", "against", *Estimate._fields, *WORST_CASE, "p"])


def _kind(name: str) -> str:
    return Variant.parse(name).kind


def variant_rates(
    outcomes: pd.DataFrame, perplexity: pd.DataFrame, kinds: Sequence[str], seed: int
) -> Iterator[tuple[str, Variant, list[str], list[dict[str, Any]]]]:
    """(model, variant or pool, the variants in it, rows of dataset, rate and its numbers), of variants of `kinds`."""
    values = {rate: prompt_values(outcomes, perplexity, rate) for rate in (*RATES, *DRIFT)}
    vulnerable = vulnerable_datasets(outcomes)
    for model, runs in outcomes.groupby("model", sort=False):
        tables = {rate: _by_variant(own, model) for rate, own in values.items()}
        for variant, members in with_pools([name for name in runs["variant"].unique() if _kind(name) in kinds]):
            rows = []
            for rate, table in tables.items():
                found = of_members(table, members)
                # Also prompts without a judged response: there is a number that is missing.
                index = values[rate].index
                asked = values[rate][(index.get_level_values("model") == model) & index.isin(members, level="variant")]
                datasets = list(asked.index.unique("dataset"))
                for name, part in {ALL: datasets, VULNERABLE: vulnerable[model], **{d: [d] for d in datasets}}.items():
                    if set(part) & set(datasets):
                        draws = found.loc[:, found.columns.isin(part, level="dataset")]
                        worst = asked.loc[asked.index.isin(part, level="dataset"), WORST_CASE].mean()
                        numbers = _estimate(draws, rate, seed)._asdict() | worst.to_dict()
                        rows.append({"dataset": name, "rate": rate} | numbers)
            yield model, variant, members, rows


def _by_variant(values: pd.DataFrame, model: str) -> pd.DataFrame:
    """What a model's prompts contribute, as a table of variants by (dataset, request_id, prompt_id)."""
    own = values.loc[values.index.get_level_values("model") == model, "value"].dropna().reset_index()
    return own.pivot_table(index="variant", columns=["dataset", *PROMPT], values="value", sort=False)


def _estimate(draws: pd.DataFrame, rate: str, seed: int) -> Estimate:
    """A rate from what each prompt contributes in each draw, [draw, prompt]."""
    if rate not in DRIFT or not draws.size:
        return pooled_share(draws, seed)
    found = crossed_bootstrap(draws, seed, requests_of(draws, axis=1))
    return _exp(found) if rate == PERPLEXITY else found


def _contrast(differences: pd.DataFrame, rate: str, seed: int) -> tuple[float, float, float, int, float]:
    """The mean of `differences` [draw, prompt], as a ratio of perplexities: an estimate, and the p-value of a test."""
    if rate == PERPLEXITY:
        found = _exp(crossed_bootstrap(differences, seed, requests_of(differences, axis=1)))
    else:
        found = mean_difference(differences, seed)
    return *found, p_of(differences)


def _exp(found: Estimate) -> Estimate:
    return Estimate(float(np.exp(found.value)), float(np.exp(found.low)), float(np.exp(found.high)), found.n)
