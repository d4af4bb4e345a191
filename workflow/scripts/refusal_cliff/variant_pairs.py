"""Variants side by side, prompt by prompt: which are pooled, which are compared, and the numbers of either.

What each variant does with each prompt is a table [variant, prompt] whose columns have a level `request_id`: prompts of
one request are not independent. Draws of a random control are a sample of their own, and so are the seeds of a tuning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from refusal_cliff.rankings import CONTROLS, DRAWN
from refusal_cliff.selection import SELECTORS
from refusal_cliff.stats import (
    NOTHING,
    Estimate,
    crossed_bootstrap,
    grouped_share,
    paired_difference,
    signed_rank,
)
from refusal_cliff.variants import DIRECTION_CONTROLS, TUNED, Variant

BASE = Variant("base")


def with_pools(names: Sequence[str]) -> Iterator[tuple[Variant, list[str]]]:
    """Each variant with itself alone, and each pool of draws or seeds with its members, behind the last of them."""
    pools: dict[Variant, list[Variant]] = {}
    for variant in map(Variant.parse, names):
        pools.setdefault(variant.pool, []).append(variant)
    for pool, members in pools.items():
        yield from ((variant, [str(variant)]) for variant in members)
        if pool not in members:
            yield pool, list(map(str, members))


def references(variant: Variant) -> Iterator[Variant]:
    """What a variant, or a pool, is compared with: the one rule of what makes a pair."""
    if variant != BASE:
        yield BASE
    if variant.kind == "ablate" and variant.pool.ranking not in CONTROLS:
        yield from (replace(variant, ranking=control) for control in DRAWN)
    if variant.kind == "steer" and variant.pool.direction not in DIRECTION_CONTROLS:
        yield from (replace(variant, direction=control) for control in DIRECTION_CONTROLS)
    if variant.kind == "minimal":
        yield replace(variant, kind="first")
    if variant.kind == "boundary":
        yield replace(variant, kind="ablate")
    if variant.kind in TUNED and variant.selector == "cliff" and variant.seed is None:
        # At equal size and steps; of the whole pool, at equal steps.
        yield from (replace(variant, selector=rival) for rival in SELECTORS if rival not in ("cliff", "whole"))
        yield replace(variant, selector="whole", budget=1.0)
    if variant.kind in TUNED and variant.selector not in SELECTORS and variant.seed is None:
        yield replace(variant, selector="cliff")  # a ready-made set


def of_members(table: pd.DataFrame, members: Sequence[str]) -> pd.DataFrame:
    """A row for each of `members`, and the prompts that any of them has a value for."""
    return table.reindex(members).dropna(axis=1, how="all")


def requests_of(prompts: pd.DataFrame | pd.Series, axis: int = 0) -> pd.Index:
    """The request of each prompt along `axis`."""
    return prompts.axes[axis].get_level_values("request_id")


def pooled_share(draws: pd.DataFrame, seed: int) -> Estimate:
    """The mean of shares [draw, prompt], with its interval over requests; of several draws, the wider of that and one
    over draws and requests.
    """
    if not draws.size:
        return NOTHING
    requests = requests_of(draws, axis=1)
    by_request = grouped_share(draws.mean(), requests)
    if len(draws) == 1:
        return by_request
    found = crossed_bootstrap(draws, seed, requests)
    return found._replace(low=min(by_request.low, found.low), high=max(by_request.high, found.high))


def differences_of(after: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """What lies between two sides [draw, prompt], on the prompts that both have.

    Draws on both sides are those of two tunings, which have one list of seeds: pairs in order.
    """
    both = after.columns.intersection(before.columns)
    found = pd.DataFrame(after[both].to_numpy() - before[both].to_numpy(), columns=both)
    return found.dropna(axis=1, how="all")


def mean_difference(differences: pd.DataFrame, seed: int) -> Estimate:
    """The mean of `differences` [draw, prompt], with its paired bootstrap interval."""
    return paired_difference(np.zeros(differences.shape), differences, seed, requests_of(differences, axis=1))


def p_of(differences: pd.DataFrame) -> float:
    """Wilcoxon's signed rank over requests, whose prompts, samples and draws are averaged."""
    return signed_rank(differences.mean().groupby(requests_of(differences, axis=1)).mean())
