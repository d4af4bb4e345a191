"""Rankings of heads: by a measured effect, and the controls made from one. Rank 1 suppresses refusal most."""

import numpy as np
import pandas as pd

from refusal_cliff.traces import TRACE_KEY
from refusal_cliff.variants import pooled_ranking

PROBE = "probe"
"""The target whose rankings are called by their measure alone: the paper's."""
CONTROLS = ("promoting", "random", "matched")
DRAWN = ("random", "matched")
"""Controls that are drawn by chance, and so have a number behind their name."""
RANKING_COLUMNS = ["layer", "head", "effect", "n", "rank", "write_norm"]
NEAREST = 3
"""How many heads of a layer a matched control draws from."""


def ranking_name(measure: str, target: str) -> str:
    """What a measured ranking is called, in names of files and variants: `causal`, or `openers_causal`."""
    return measure if target == PROBE else f"{target}_{measure}"


def rank_heads(effects: np.ndarray, norms: np.ndarray) -> pd.DataFrame:
    """Mean effect of every head over traces, ranked from the strongest suppressor.

    Args:
        effects: [trace, layer, head]. Without traces nothing was measured: effects and ranks are missing, and the heads
            stand in their own order.
        norms: [layer, head], how much each head writes (`head_means.write_norms`).

    Returns:
        One row per head: layer, head, effect, n (traces), rank (from 1), write_norm.
    """
    n, n_layers, n_heads = effects.shape
    layer, head = np.divmod(np.arange(n_layers * n_heads), n_heads)
    mean = effects.mean(axis=0).ravel() if n else np.nan
    table = pd.DataFrame({"layer": layer, "head": head, "effect": mean, "n": n, "write_norm": norms.ravel()})
    return _ranked(table.sort_values("effect")) if n else table.assign(rank=np.nan)[RANKING_COLUMNS]


def effect_rows(effects: np.ndarray, traces: pd.DataFrame) -> pd.DataFrame:
    """Effects of every trace and head as rows: prompt_id, sample, layer, head, effect.

    Args:
        effects: [trace, layer, head].
        traces: prompt_id, sample, in the order of `effects`.
    """
    trace, layer, head = (axis.ravel() for axis in np.indices(effects.shape))
    keys = traces[TRACE_KEY].iloc[trace].reset_index(drop=True)
    return keys.assign(layer=layer, head=head, effect=effects.ravel())


def control_ranking(
    name: str, ranking: pd.DataFrame, fraction: float | None = None, seed: int | None = None
) -> pd.DataFrame:
    """The control `name` of a measured ranking, e.g. `promoting` or `random3`; any other name is the ranking itself.

    Of a ranking that could not be measured there is the random control alone; any other is missing as well.

    Args:
        ranking: output of `rank_heads`.
        fraction: share of heads that a matched control stands for; no other reads it.
        seed: of the first draw of a control that is drawn by chance; each draw has its own.
    """
    control = pooled_ranking(name)
    if control not in CONTROLS or (control != "random" and ranking["rank"].isna().all()):
        return ranking
    if control == "promoting":
        return promoting_ranking(ranking)
    seed += int(name.removeprefix(control))
    return random_ranking(ranking, seed) if control == "random" else matched_ranking(ranking, fraction, seed)


def promoting_ranking(ranking: pd.DataFrame) -> pd.DataFrame:
    """The opposite control: the same heads, strongest promoter of refusal first."""
    return _ranked(ranking.sort_values("rank", ascending=False))


def random_ranking(ranking: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The random control: the same heads in random order, without an effect."""
    shuffled = ranking.sort_values(["layer", "head"]).sample(frac=1, random_state=seed)
    return _ranked(shuffled.assign(effect=np.nan, n=0))


def matched_ranking(ranking: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """The random control matched in layer and norm: for each top head in turn, another head much like it.

    That is one of the `NEAREST` heads of the same layer that are nearest in the norm of what they write, drawn with the
    seed; neither top heads nor heads drawn before are eligible. A layer whose other heads are used up lends from the
    nearest layer. The heads not drawn follow in random order. Where a layer has few heads, or the top heads are unlike
    all others, there is little to choose from and draws repeat: `NEAREST` bounds how unlike a match may be, and how
    many different draws there are.

    Args:
        ranking: the ranking whose first `fraction` is to be matched, with `write_norm`.

    Returns:
        As `random_ranking`.
    """
    rng = np.random.default_rng(seed)
    norms = ranking.set_index(["layer", "head"])["write_norm"]
    top = top_heads(ranking, fraction)
    free = sorted(set(zip(ranking["layer"].astype(int), ranking["head"].astype(int), strict=True)) - set(top))
    drawn = []
    for layer, head in top[: len(free)]:
        nearest = min({other for other, _ in free}, key=lambda other: (abs(other - layer), other))
        alike = sorted(
            (pair for pair in free if pair[0] == nearest), key=lambda pair: abs(norms[pair] - norms[layer, head])
        )[:NEAREST]
        drawn.append(alike[rng.integers(len(alike))])
        free.remove(drawn[-1])
    rest = [*free, *top]
    order = [*drawn, *(rest[place] for place in rng.permutation(len(rest)))]
    chosen = ranking.set_index(["layer", "head"]).loc[order].reset_index()
    return _ranked(chosen.assign(effect=np.nan, n=0))


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(rank=np.arange(1, len(table) + 1))[RANKING_COLUMNS].reset_index(drop=True)


def head_count(fraction: float, n_heads: int) -> int:
    """How many heads are `fraction` of all `n_heads` of a model: rounded, and at least one."""
    return max(1, round(fraction * n_heads))


def top_heads(ranking: pd.DataFrame, fraction: float) -> list[tuple[int, int]]:
    """The first `fraction` of a ranking as (layer, head), rounded to whole heads and at least one.

    A ranking that could not be measured has no first heads.
    """
    if ranking["rank"].isna().all():
        return []
    first = ranking.nsmallest(head_count(fraction, len(ranking)), "rank")
    return [(int(layer), int(head)) for layer, head in zip(first["layer"], first["head"], strict=True)]


def minimal_set(elimination: pd.DataFrame) -> list[tuple[int, int]]:
    """(layer, head) of the heads of the minimal set."""
    left = elimination[elimination["minimal"].astype(bool)]
    return [(int(layer), int(head)) for layer, head in zip(left["layer"], left["head"], strict=True)]


def eliminated_ranking(kind: str, ranking: pd.DataFrame, elimination: pd.DataFrame) -> pd.DataFrame:
    """The heads that a variant of kind `minimal` or `first` ablates, as a ranking: layer, head, rank.

    Args:
        ranking: the ranking that elimination started from; layer, head, rank.
        elimination: output of `elimination.eliminate`; without rows there is no such set, and no heads.
    """
    chosen = minimal_set(elimination)
    if kind == "first":
        return ranking.nsmallest(len(chosen), "rank")
    return pd.DataFrame(chosen, columns=["layer", "head"]).assign(rank=range(1, len(chosen) + 1))
