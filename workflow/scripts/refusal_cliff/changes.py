"""What fine-tuning changed along a trace: a model and the one it was made from, by the probes of the latter.

A model that has unlearnt to refuse has no refusals to train a probe on, and two probes would measure two things. So the
parent's probes read the states of both, on each one's own traces of the same prompts.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.stats import Estimate, bootstrap_means

PARTS = 5
"""Equal parts of the thinking whose scores are averaged."""
GROUPS = {
    "harmful": lambda base: base["label"] == "harmful",
    "harmful, parent refused": lambda base: (base["label"] == "harmful") & base["refused"].fillna(False).astype(bool),
    "benign": lambda base: base["label"] == "benign",
}
"""Prompts that a change is averaged over, by what the parent did with them."""
COLUMNS = ["model", "parent", "probe", "layer", "last_layer", "group", "position", "quantity", *Estimate._fields]


def position_scores(cliffs: pd.DataFrame, tail: int) -> pd.DataFrame:
    """Refusal scores of every prompt at a few positions, averaged over its samples.

    Args:
        cliffs: prompt_id, sample, probe, layer, curve, boundary_curve of one model's base traces.
        tail: thinking tokens before the boundary in `boundary_curve`.

    Returns:
        Indexed by probe, layer and prompt_id, a column for each position: `thinking 1/5` … `thinking 5/5`, `boundary 1`
        … (tokens), and `rise`, the score at the last boundary token minus that of the last part of the thinking.
        Missing where a trace has no thinking.
    """
    curves = np.stack(cliffs["curve"].to_list()).astype(float)
    boundary = np.stack(cliffs["boundary_curve"].to_list())[:, tail:].astype(float)
    parts = [part.mean(axis=1) for part in np.array_split(curves, PARTS, axis=1)]
    columns = {f"thinking {place}/{PARTS}": part for place, part in enumerate(parts, start=1)}
    columns |= {f"boundary {place}": scores for place, scores in enumerate(boundary.T, start=1)}
    columns["rise"] = boundary[:, -1] - parts[-1]
    table = pd.DataFrame(columns).assign(**{key: cliffs[key].to_numpy() for key in ("probe", "layer", "prompt_id")})
    return table.groupby(["probe", "layer", "prompt_id"]).mean()


def change_table(
    read: pd.DataFrame,
    own: pd.DataFrame,
    outcomes: pd.DataFrame,
    parents: Mapping[str, str],
    boundaries: Mapping[str, Sequence[str]],
    tail: int,
    seed: int,
) -> pd.DataFrame:
    """Scores before and after fine-tuning and what lies between, paired by prompt, at every position and layer.

    Args:
        read: model and the columns of cliff tables: base traces of fine-tuned models by the probes of their parents.
        own: the same of the parents, by their own probes.
        outcomes: of the parents.
        parents: the parent of each fine-tuned model.
        boundaries: the text of each boundary token of each fine-tuned model.
        tail: as for `position_scores`.

    Returns:
        model, parent, probe, layer, last_layer (whether it is the probe's last), group (one of `GROUPS`), position,
        token (its text where it is one of the boundary), quantity (before, after, change = after - before), value, low,
        high (percentile bootstrap 95 % over requests, paired), n (prompts that both have a score of).
    """
    before = {model: position_scores(part, tail) for model, part in own.groupby("model", sort=False)}
    bases = outcomes[outcomes["variant"] == "base"].groupby("model", sort=False)
    base = {model: part.drop_duplicates("prompt_id") for model, part in bases}
    rows = [
        (model, parent, *found)
        for model, parent in parents.items()
        for found in _changes(position_scores(read[read["model"] == model], tail), before[parent], base[parent], seed)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    texts = {
        (model, f"boundary {place}"): token
        for model, tokens in boundaries.items()
        for place, token in enumerate(tokens, start=1)
    }
    tokens = [texts.get(key) for key in zip(table["model"], table["position"], strict=True)]
    table.insert(table.columns.get_loc("position") + 1, "token", tokens)
    return table


def _changes(after: pd.DataFrame, before: pd.DataFrame, base: pd.DataFrame, seed: int) -> Iterator[tuple]:
    requests = base.set_index("prompt_id")["request_id"]
    for group, belongs in GROUPS.items():
        ids = set(base.loc[belongs(base), "prompt_id"])
        places = after.index.droplevel("prompt_id").unique().to_frame(index=False)
        last = places.groupby("probe")["layer"].max()
        for probe, layer in places.itertuples(index=False):
            sides = [side.loc[probe, layer] for side in (before, after)]
            both = sides[0].index.intersection(sides[1].index)
            both = both[both.isin(ids)]
            if both.empty:
                continue
            values = _paired(*(side.loc[both].to_numpy() for side in sides))
            estimates = iter(bootstrap_means(values, seed, both.map(requests)))
            for quantity in ("before", "after", "change"):
                for position in after.columns:
                    yield probe, int(layer), layer == last[probe], group, position, quantity, *next(estimates)


def _paired(before: NDArray, after: NDArray) -> NDArray:
    """Both sides and their difference side by side [prompt, 3 * position], missing where either is."""
    change = after - before
    known = ~np.isnan(change)
    return np.hstack([np.where(known, before, np.nan), np.where(known, after, np.nan), change])
