"""Which variants a configuration asks for. Rules use it; no script does, so that a longer plan reruns nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from refusal_cliff.head_effects import measured_rankings
from refusal_cliff.rankings import DRAWN
from refusal_cliff.variants import DIRECTION_CONTROLS, ELIMINATED, REFUSAL, Variant


def ablation_variants(
    config: Mapping[str, Any], models: pd.DataFrame, model: str, block: str = "ablation"
) -> list[str]:
    """Names of a subject's variants that change heads or thinking, e.g. `ablate-causal-0.03` or `keep-0.5`.

    Args:
        block: `ablation`, what a run makes by default, or `grid`.
    """
    if not models.loc[model, "ablate"]:
        return []
    plan, top = config[block], {"ranking": config["heads"]["operating"], "fraction": config["claims"]["fraction"]}
    chosen = [
        Variant("ablate", ranking=ranking, fraction=share)
        for ranking, shares in _fractions(plan).items()
        for share in shares
    ]
    if models.loc[model, "lean"]:
        # What the excess over random heads needs, and what compares targets; no more.
        return [str(variant) for variant in chosen if variant.pool in _lean(config["heads"], top)]
    if config["as_released"]:
        chosen.append(Variant("released", **top))
    if models.loc[model, "intervene"]:
        chosen += [Variant(intervention, **top) for intervention in plan["interventions"]]
        chosen += [Variant("scale", **top, scale=scale) for scale in plan["scales"]]
        chosen += [Variant("keep", kept=share) for share in plan["kept_thinking"]]
    return list(map(str, chosen))


def repairs_wanted(config: Mapping[str, Any]) -> bool:
    """Whether repairs are set side by side: a direction is added, or heads are eliminated."""
    return bool(config["repairs"]["steer"] or config["repairs"]["eliminate"])


def repair_variants(config: Mapping[str, Any], models: pd.DataFrame, model: str) -> list[str]:
    """Names of a model's variants that repairs are compared by, e.g. `steer-refusal-1` or `minimal-causal-0.1`.

    Every seed of a family has them, and ablations at every dose: what repairs are compared by is one plan.
    """
    plan = config["repairs"]
    if not (models.loc[model, "ablate"] and repairs_wanted(config)):
        return []
    controls = [f"{control}{draw}" for control in DIRECTION_CONTROLS for draw in range(plan["random_draws"])]
    chosen = [
        Variant("ablate", ranking=ranking, fraction=share)
        for ranking, shares in _fractions(config["ablation"]).items()
        for share in shares
    ]
    chosen += [
        Variant(kind, ranking=ranking, fraction=plan["start"]) for ranking in plan["eliminate"] for kind in ELIMINATED
    ]
    chosen += [
        Variant("steer", direction=direction, scale=scale)
        for direction in [REFUSAL, *controls]
        for scale in plan["steer"]
    ]
    if models.loc[model, "tune"]:
        tunings = [Variant.parse(name) for name in tuning_variants(config)]
        top = {"ranking": config["heads"]["operating"], "fraction": config["claims"]["fraction"]}
        chosen += [replace(tuning, kind="both", **top) for tuning in tunings if tuning.selector in plan["both"]]
    return list(map(str, chosen))


def tuning_variants(config: Mapping[str, Any]) -> list[str]:
    """Names of the tuned variants, e.g. `tune-cliff-0.017-s0`: on what selectors choose, ready-made sets, all."""
    selection = config["selection"]
    return [
        str(Variant("tune", selector=selector, budget=budget, seed=seed))
        for selector, budgets in [*selection["selectors"].items(), *selection["ready"].items(), ("whole", [1.0])]
        for budget in budgets
        for seed in selection["seeds"]
    ]


def early_variants(config: Mapping[str, Any]) -> list[str]:
    """Names of the same trainings after fewer steps, e.g. `early-cliff-0.017-20-s0`."""
    return [
        str(replace(Variant.parse(name), kind="early", steps=steps))
        for name in tuning_variants(config)
        for steps in config["tuning"]["early"]
    ]


def variants(config: Mapping[str, Any], models: pd.DataFrame, model: str) -> list[str]:
    """Every variant of a subject: base, and ablations, tunings and other repairs if its row says so."""
    tunings = [*tuning_variants(config), *early_variants(config)] if models.loc[model, "tune"] else []
    repairs = repair_variants(config, models, model)
    return list(dict.fromkeys(["base", *ablation_variants(config, models, model), *repairs, *tunings]))


def _lean(heads: Mapping[str, Any], top: Mapping[str, Any]) -> list[Variant]:
    """At the operating point: the operating ranking, the same measure of every other target, and the random control."""
    rankings = measured_rankings(heads["targets"], heads["measures"])
    measure, _ = rankings[heads["operating"]]
    same = [ranking for ranking, (own, _) in rankings.items() if own == measure]
    return [Variant("ablate", **top | {"ranking": ranking}) for ranking in [*same, "random"]]


def _fractions(plan: Mapping[str, Any]) -> dict[str, list[float]]:
    """The fractions at which each ranking is ablated, each draw of a random control a ranking of its own."""
    shares = dict(plan["rankings"])
    for control in DRAWN:
        drawn = shares.pop(control, [])
        shares |= {f"{control}{draw}": drawn for draw in range(plan["random_draws"])}
    return {ranking: values for ranking, values in shares.items() if values}
