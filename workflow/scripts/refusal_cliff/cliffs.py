"""The refusal score along a trace, and how far it falls at the boundary (section 3 of the paper)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.traces import TRACE_KEY, EncodedTrace

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Probe = tuple[np.ndarray, np.ndarray, np.ndarray]
Refits = tuple[np.ndarray, np.ndarray, int]
HEIGHTS = ("cliff", "cliff_mean")
MEASURES = ("plateau", "plateau_mean", "final", "cliff", "cliff_mean", "steepest", "steepest_offset")
MEASURES += ("steepest_in_boundary", "boundary_drop", "boundary_share")


def resample(scores: np.ndarray, grid: int) -> np.ndarray:
    """Linear interpolation of curves [..., pos] on `grid` evenly spaced points from first to last position.

    Curves without positions give missing values.
    """
    last = scores.shape[-1] - 1
    if last < 0:
        return np.full((*scores.shape[:-1], grid), np.nan)
    places = np.linspace(0, last, grid)
    below = places.astype(int)
    share = places - below
    return scores[..., below] * (1 - share) + scores[..., np.minimum(below + 1, last)] * share


def measure_cliffs(
    scores: np.ndarray, thinking: tuple[int, int], boundary: tuple[int, int]
) -> dict[str, np.ndarray | None]:
    """Plateau, final score and cliff of the curves of refusal scores of one trace.

    Args:
        scores: [curve, pos].
        thinking, boundary: half-open spans; the boundary follows the thinking. Without thinking there is only `final`.

    Returns:
        Of each curve, [curve]:
        plateau: largest score within the thinking (the paper's summary).
        plateau_mean: mean over the last half of the thinking, which one token cannot move.
        final: score at the last boundary token.
        cliff: plateau - final, the paper's misalignment score.
        cliff_mean: plateau_mean - final.
        steepest: where in thinking + boundary (0..1) the score falls most from one token to the next.
        steepest_offset: the same place in tokens from the last boundary token (0, -1, ...).
        steepest_in_boundary: 1 if that token is one of the boundary, else 0.
        boundary_drop: score at the last thinking token - final.
        boundary_share: boundary_drop / cliff, the share of the fall that lies in the boundary; missing where the score
            does not fall.
    """
    start, stop = thinking
    thought, final = scores[:, start:stop], scores[:, boundary[1] - 1]
    if start == stop:
        return dict.fromkeys(MEASURES, np.full(len(scores), np.nan)) | {"final": final}
    plateau, plateau_mean = thought.max(axis=1), thought[:, thought.shape[1] // 2 :].mean(axis=1)
    cliff, drop = plateau - final, thought[:, -1] - final
    steps = np.diff(scores[:, start : boundary[1]])
    steepest, n_steps = steps.argmin(axis=1) + 1, steps.shape[1]
    return {
        "plateau": plateau,
        "plateau_mean": plateau_mean,
        "final": final,
        "cliff": cliff,
        "cliff_mean": plateau_mean - final,
        "steepest": steepest / n_steps,
        "steepest_offset": (steepest - n_steps).astype(float),
        "steepest_in_boundary": (start + steepest >= boundary[0]).astype(float),
        "boundary_drop": drop,
        "boundary_share": np.divide(drop, cliff, out=np.full_like(cliff, np.nan), where=cliff > 0),
    }


def score_traces(
    model: "PreTrainedModel",
    traces: pd.DataFrame,
    encoded: list[EncodedTrace],
    probes: Mapping[str, Probe],
    refits: Mapping[str, Refits],
    pad_id: int,
    batch_size: int,
    grid: int,
    tail: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cliff of every trace, for every probe and layer, in one forward pass that keeps no state.

    Args:
        traces: prompt_id, sample, in the order of `encoded`. A trace without thinking has a final score alone; its
            plateau, its cliff and its curve are missing values.
        probes: name -> (w [layer, d_model], b [layer], layers [layer], the index in the model of each).
        refits: name -> (w [refit, d_model], b [refit], the layer that all of them are for).
        grid: points of `curve`, the score over the thinking on normalised position 0..1.
        tail: thinking tokens before the boundary in `boundary_curve`, which goes on through the boundary by token;
            padded in front with missing values where the thinking is shorter.

    Returns:
        One row per trace, probe and layer: prompt_id, sample, probe, layer, `MEASURES`, curve, boundary_curve. And one
        row per trace, probe and refit: prompt_id, sample, probe, refit, `HEIGHTS`.
    """
    from scipy.special import expit

    from refusal_cliff.activations import project_states

    keys, directions, bias = _curves_by_layer(probes, refits)
    refit = keys["refit"].notna().to_numpy()
    order, measured, curves, boundary_curves = [], [], [], []
    for index, products in project_states(model, encoded, directions, pad_id, batch_size):
        scores = expit(products + bias[:, None])
        (start, stop), boundary = encoded[index].spans["thinking"], encoded[index].spans["boundary"]
        order.append(index)
        measured.append(measure_cliffs(scores, (start, stop), boundary))
        curves += list(resample(scores[~refit, start:stop], grid).astype(np.float32))
        aligned = scores[~refit, max(start, stop - tail) : boundary[1]].astype(np.float32)
        missing = tail - min(tail, stop - start)
        boundary_curves += list(np.pad(aligned, ((0, 0), (missing, 0)), constant_values=np.nan))
    own = traces[TRACE_KEY].iloc[np.repeat(order, len(keys))].reset_index(drop=True)
    table = pd.concat([own, pd.concat([keys] * len(order), ignore_index=True)], axis=1)
    table = table.assign(**{name: np.concatenate([part[name] for part in measured]) for name in MEASURES})
    refit = table["refit"].notna()
    return (
        table[~refit]
        .drop(columns="refit")
        .assign(curve=curves, boundary_curve=boundary_curves)
        .astype({"steepest_in_boundary": "boolean"})
        .sort_values(["probe", "layer", *TRACE_KEY], ignore_index=True),
        table.loc[refit, [*TRACE_KEY, "probe", "refit", *HEIGHTS]]
        .astype({"refit": int})
        .sort_values(["probe", "refit", *TRACE_KEY], ignore_index=True),
    )


def _curves_by_layer(
    probes: Mapping[str, Probe], refits: Mapping[str, Refits]
) -> tuple[pd.DataFrame, dict[int, np.ndarray], np.ndarray]:
    """All that a state is projected on, in order of layers.

    Returns:
        A row per curve: probe, layer, refit (missing for the probe itself); layer -> directions [curve, d_model]; and
        biases [curve].
    """
    curves = [
        (name, int(layer), None, w[number], b[number])
        for name, (w, b, layers) in probes.items()
        for number, layer in enumerate(layers)
    ]
    curves += [
        (name, layer, number, w[number], b[number])
        for name, (w, b, layer) in refits.items()
        for number in range(len(w))
    ]
    table = pd.DataFrame(curves, columns=["probe", "layer", "refit", "w", "b"])
    table = table.sort_values("layer", kind="stable", ignore_index=True)
    directions = {layer: np.stack(part) for layer, part in table.groupby("layer")["w"]}
    return table[["probe", "layer", "refit"]], directions, table["b"].to_numpy(dtype=float)
