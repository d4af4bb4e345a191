"""What interventions on heads change: every rate by kind and dose, and paired comparisons with base and controls.

The unit is the prompt, as in `outcomes`. Draws of a random control are a sample of their own: a pool of them has an
interval over draws and prompts together.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.config import parse_variant
from refusal_cliff.outcomes import ALL, RATES, prompt_shares
from refusal_cliff.stats import (
    Estimate,
    bootstrap_mean,
    crossed_bootstrap,
    holm,
    mcnemar,
    paired_difference,
    share,
    signed_rank,
    wilson,
)
from refusal_cliff.traces import TRACE_KEY
from refusal_cliff.variants import format_number, pooled_ranking

PERPLEXITY = "perplexity"
COMPARED = ("asr", "over_refusal", "utility", PERPLEXITY)
SUPPRESSORS = ("causal", "direct", "gradient")
"""Rankings that are compared with random controls."""
CONTROLS = ("random", "matched")
ABLATION_COLUMNS = ["model", "kind", "ranking", "fraction", "scale", "heads", "write_norm", "draws", "dataset", "rate"]
COMPARISON_COLUMNS = ["model", "variant", "reference", "rate", "contrast", "value", "low", "high", "n", "test", "p"]


def prompt_values(outcomes: pd.DataFrame, perplexity: pd.DataFrame, rate: str) -> pd.Series:
    """What each prompt contributes to a rate, NaN where nothing was judged.

    Args:
        outcomes: outcomes of all models and variants.
        perplexity: model, variant, prompt_id, sample, nll; possibly without rows.
        rate: a key of `outcomes.RATES`: the share of the prompt's responses; or perplexity: the mean nats per token.

    Returns:
        Indexed by model, variant, dataset, prompt_id.
    """
    keys = ["model", "variant", "dataset"]
    if rate != PERPLEXITY:
        return prompt_shares(outcomes, rate, by=tuple(keys))["share"]
    if perplexity.empty:
        return pd.Series(dtype=float, index=pd.MultiIndex.from_tuples([], names=[*keys, "prompt_id"]))
    datasets = outcomes.drop_duplicates("prompt_id")[["prompt_id", "dataset"]]
    return perplexity.merge(datasets, on="prompt_id").groupby([*keys, "prompt_id"], sort=False)["nll"].mean()


def ablation_table(
    outcomes: pd.DataFrame,
    perplexity: pd.DataFrame,
    heads: Mapping[tuple[str, str], Sequence[tuple[int, int]]],
    norms: Mapping[str, NDArray],
    seed: int,
) -> pd.DataFrame:
    """Rates of the base models and of every intervention on heads, by dataset.

    Args:
        outcomes, perplexity: as for `prompt_values`.
        heads: (layer, head) that a variant touches, by (model, variant); other variants but base are left out.
        norms: by model [layer, head], how much each head writes (`interventions.write_norms`).

    Returns:
        model, kind, ranking, fraction, scale (of z), heads (how many), write_norm (their mean), draws, dataset, rate,
        value, low, high, n. Kind base has ranking `none`. Each random draw has its own row; rankings `random` and
        `matched` pool their draws. Intervals are Wilson's; of pools, the wider of Wilson's and the crossed bootstrap
        over draws and prompts; of perplexity (a geometric mean over prompts), the bootstrap.
    """
    values = {rate: prompt_values(outcomes, perplexity, rate) for rate in (*RATES, PERPLEXITY)}
    rows = []
    for model, runs in outcomes.groupby("model", sort=False):
        tables = {rate: _by_variant(own, model) for rate, own in values.items()}
        known = [name for name in runs["variant"].unique() if name == "base" or (model, name) in heads]
        for name, members in _with_pools(known):
            variant = parse_variant(name)
            touched = [head for member in members for head in heads.get((model, member), ())]
            described = {
                "model": model,
                "kind": variant["kind"],
                "ranking": variant.get("ranking", "none"),
                "fraction": variant.get("fraction", 0.0),
                "scale": variant.get("scale", float(name == "base")),
                "heads": len(touched) // len(members),
                "write_norm": np.mean([norms[model][head] for head in touched]) if touched else np.nan,
                "draws": len(members),
            }
            for rate, table in tables.items():
                found = _of(table, members)
                datasets = found.columns.unique("dataset")
                for dataset in (ALL, *datasets) if len(datasets) else ():
                    part = found if dataset == ALL else found[[dataset]]
                    estimate = _estimate(part.to_numpy(), rate, seed)
                    rows.append(described | {"dataset": dataset, "rate": rate} | estimate._asdict())
    return pd.DataFrame(rows, columns=[*ABLATION_COLUMNS, *Estimate._fields])


def comparisons(outcomes: pd.DataFrame, perplexity: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every variant against its base model, and every ranking against its random controls, paired by prompt.

    Args:
        outcomes, perplexity: as for `prompt_values`.

    Returns:
        model, variant, reference (base, or a pool of draws of random or matched heads), rate, contrast (`difference`,
        variant minus reference; of perplexity `ratio`), value, low, high (paired bootstrap; against a pool, over draws
        and prompts), n, test, p, and p_holm, adjusted over the whole table. Against base a rate is tested by exact
        McNemar on the first sample of each prompt, because a test on dependent samples would be too sure; all else by
        Wilcoxon's signed rank over prompts.
    """
    first = outcomes[outcomes["sample"] == 0]
    values = {
        rate: (prompt_values(outcomes, perplexity, rate), prompt_values(first, perplexity, rate)) for rate in COMPARED
    }
    rows = []
    for model, runs in outcomes.groupby("model", sort=False):
        names = list(runs["variant"].unique())
        for rate, own in values.items():
            table, tested = (_by_variant(part, model) for part in own)
            for variant, reference, members in _pairs(names):
                after, before = _of(table, [variant]), _of(table, members)
                both = after.columns.intersection(before.columns)
                if both.empty:
                    continue
                found, test, p = _compare(before[both].to_numpy(), after[both].to_numpy()[0], rate, seed)
                if reference == "base" and rate != PERPLEXITY:
                    pair = tested.loc[["base", variant]].dropna(axis=1)
                    test, p = "McNemar", mcnemar(*pair.to_numpy())
                contrast = "ratio" if rate == PERPLEXITY else "difference"
                rows.append((model, variant, reference, rate, contrast, *found, test, p))
    compared = pd.DataFrame(rows, columns=COMPARISON_COLUMNS)
    return compared.assign(p_holm=holm(compared["p"].to_numpy()))


def released_table(verdicts: pd.DataFrame, prompts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What the choices of the code released with the paper do to the ASR: how it ablates, and what its judge sees.

    Args:
        verdicts: model, variant and the columns of verdicts, of the base models and of their heads zeroed our way
            (ablate) and the released way (released); scopes `response` and `released` of the guard count.
        prompts: prompt_id, label.

    Returns:
        model, kind, scope, against (empty: the value is an ASR; else `kind, scope` whose ASR is subtracted), value,
        low, high (Wilson; of differences paired bootstrap), n, p (exact McNemar on the first sample of each prompt).
    """
    harmful = prompts.loc[prompts["label"] == "harmful", "prompt_id"]
    judged = verdicts[
        (verdicts["judge"] == "guard") & verdicts["prompt_id"].isin(harmful) & verdicts["verdict"].notna()
    ]
    judged = judged.assign(
        kind=judged["variant"].map({name: parse_variant(name)["kind"] for name in judged["variant"].unique()}),
        harmful=(judged["verdict"] == "harmful").astype(float),
    )
    pairs = [((kind, "released"), (kind, "response")) for kind in ("base", "ablate", "released")]
    for scope in ("response", "released"):
        pairs += [(("ablate", scope), ("base", scope)), (("released", scope), ("ablate", scope))]
    rows = []
    for model, own in judged.groupby("model", sort=False):
        asked = {
            (kind, scope): part.set_index(TRACE_KEY)["harmful"]
            for (kind, scope), part in own.groupby(["kind", "scope"], sort=False)
            if scope in ("response", "released")
        }
        for (kind, scope), found in asked.items():
            shares = found.groupby("prompt_id").mean()
            rows.append((model, kind, scope, "", *share(shares.sum(), len(shares)), np.nan))
        for after, before in pairs:
            if after not in asked or before not in asked:
                continue
            both = pd.concat([asked[before], asked[after]], axis=1, join="inner", keys=["before", "after"])
            shares = both.groupby("prompt_id").mean()
            first = both[both.index.get_level_values("sample") == 0]
            difference = paired_difference(shares["before"], shares["after"], seed)
            p = mcnemar(first["before"], first["after"])
            rows.append((model, *after, ", ".join(before), *difference, p))
    return pd.DataFrame(rows, columns=["model", "kind", "scope", "against", "value", "low", "high", "n", "p"])


def _with_pools(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each variant with itself alone, and each pool of draws with its draws, behind the last of them."""
    pools: dict[str, list[str]] = {}
    for name in names:
        pools.setdefault(_pool_name(name), []).append(name)
    for pool, members in pools.items():
        yield from ((name, [name]) for name in members)
        if pool not in members:
            yield pool, members


def _pool_name(name: str) -> str:
    """The variant without the number of its draw."""
    variant = parse_variant(name)
    ranking = variant.get("ranking", "")
    if pooled_ranking(ranking) == ranking:
        return name
    return f"{variant['kind']}-{pooled_ranking(ranking)}-{format_number(variant['fraction'])}"


def _pairs(names: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """(variant, name of its reference, variants that make up the reference)."""
    parsed: dict[str, dict[str, Any]] = {name: parse_variant(name) for name in names}
    yield from ((name, "base", ["base"]) for name in names if name != "base" and "base" in parsed)
    for name, variant in parsed.items():
        if variant["kind"] != "ablate" or variant["ranking"] not in SUPPRESSORS:
            continue
        for control in CONTROLS:
            pool = f"ablate-{control}-{format_number(variant['fraction'])}"
            draws = [other for other in names if other != pool and _pool_name(other) == pool]
            if draws:
                yield name, control, draws


def _by_variant(values: pd.Series, model: str) -> pd.DataFrame:
    """What a model's prompts contribute, as a table of variants by (dataset, prompt_id)."""
    own = values[values.index.get_level_values("model") == model].dropna().rename("value").reset_index()
    return own.pivot_table(index="variant", columns=["dataset", "prompt_id"], values="value", sort=False)


def _of(table: pd.DataFrame, members: Sequence[str]) -> pd.DataFrame:
    """The rows of `members`, and the prompts that any of them has a value for."""
    return table.reindex([name for name in members if name in table.index]).dropna(axis=1, how="all")


def _estimate(draws: NDArray, rate: str, seed: int) -> Estimate:
    """A rate from what each prompt contributes in each draw, [draw, prompt]."""
    if rate == PERPLEXITY:
        return _exp(_mean(draws, seed))
    if len(draws) == 1:
        return share(draws.sum(), draws.shape[1])
    found = crossed_bootstrap(draws, seed)
    low, high = wilson(found.n * found.value, found.n)
    return Estimate(found.value, min(low, found.low), max(high, found.high), found.n)


def _mean(draws: NDArray, seed: int) -> Estimate:
    return bootstrap_mean(draws[0], seed) if len(draws) == 1 else crossed_bootstrap(draws, seed)


def _compare(before: NDArray, after: NDArray, rate: str, seed: int) -> tuple[Estimate, str, float]:
    """The contrast of `after` [prompt] with the draws `before` [draw, prompt], and a test of it."""
    differences = after - before
    p = signed_rank(np.nanmean(differences, axis=0))
    if rate == PERPLEXITY:
        return _exp(_mean(differences, seed)), "Wilcoxon", p
    if len(before) == 1 or np.nanmax(differences) == np.nanmin(differences):
        return paired_difference(np.nanmean(before, axis=0), after, seed), "Wilcoxon", p
    return crossed_bootstrap(differences, seed), "Wilcoxon", p


def _exp(found: Estimate) -> Estimate:
    return Estimate(float(np.exp(found.value)), float(np.exp(found.low)), float(np.exp(found.high)), found.n)
