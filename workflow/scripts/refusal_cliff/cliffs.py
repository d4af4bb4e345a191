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


def refusal_scores(resid: np.ndarray, w: np.ndarray, b: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """sigmoid(w·h + b) of a probe at every position, in each of its layers.

    Args:
        resid: [layer, pos, d_model], all layers of the model; one layer at a time is taken to double precision.
        w: [probe layer, d_model]; b: [probe layer]; layers: [probe layer], the index in the model of each.

    Returns:
        [probe layer, pos], in 0..1.
    """
    from scipy.special import expit

    logits = [resid[layer].astype(np.float64) @ w[number] + b[number] for number, layer in enumerate(layers)]
    return expit(np.stack(logits))


def resample(scores: np.ndarray, grid: int) -> np.ndarray:
    """Linear interpolation of a curve [pos] on `grid` evenly spaced points from its first to its last position.

    A curve without positions gives missing values.
    """
    if len(scores) == 0:
        return np.full(grid, np.nan)
    return np.interp(np.linspace(0, len(scores) - 1, grid), np.arange(len(scores)), scores)


def measure_cliff(
    scores: np.ndarray, thinking: tuple[int, int], boundary: tuple[int, int]
) -> dict[str, float | bool | None]:
    """Plateau, final score and cliff of one curve of refusal scores [pos].

    Args:
        thinking, boundary: half-open spans; the boundary follows the thinking. Without thinking there is only `final`.

    Returns:
        plateau: largest score within the thinking (the paper's summary).
        plateau_mean: mean over the last half of the thinking, which one token cannot move.
        final: score at the last boundary token.
        cliff: plateau - final, the paper's misalignment score.
        cliff_mean: plateau_mean - final.
        steepest: where in thinking + boundary (0..1) the score falls most from one token to the next.
        steepest_offset: the same place in tokens from the last boundary token (0, -1, ...).
        steepest_in_boundary: whether that token is one of the boundary.
        boundary_drop: score at the last thinking token - final.
        boundary_share: boundary_drop / cliff, the share of the fall that lies in the boundary; missing where the score
            does not fall.
    """
    start, stop = thinking
    thought, final = scores[start:stop], float(scores[boundary[1] - 1])
    if start == stop:
        return dict.fromkeys(MEASURES, float("nan")) | {"final": final, "steepest_in_boundary": None}
    plateau, plateau_mean = float(thought.max()), float(thought[len(thought) // 2 :].mean())
    cliff, drop = plateau - final, float(thought[-1] - final)
    steps = np.diff(scores[start : boundary[1]])
    steepest = int(steps.argmin()) + 1
    return {
        "plateau": plateau,
        "plateau_mean": plateau_mean,
        "final": final,
        "cliff": cliff,
        "cliff_mean": plateau_mean - final,
        "steepest": steepest / len(steps),
        "steepest_offset": steepest - len(steps),
        "steepest_in_boundary": start + steepest >= boundary[0],
        "boundary_drop": drop,
        "boundary_share": drop / cliff if cliff > 0 else float("nan"),
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
    """Cliff of every trace, for every probe and layer, in one streaming pass.

    Args:
        traces: prompt_id, sample, in the order of `encoded`. A trace without thinking has a final score alone; its
            plateau, its cliff and its curve are missing values.
        probes: name -> (w [layer, d_model], b [layer], layers [layer], the index in the model of each).
        refits: name -> (w [refit, d_model], b [refit], the layer that all of them are for).
        grid: points of `curve`, the score over the thinking on normalised position 0..1.
        tail: thinking tokens before the boundary in `boundary_curve`, which goes on through the boundary by token;
            padded in front with missing values where the thinking is shorter.

    Returns:
        One row per trace, probe and layer: prompt_id, sample, probe, layer, the numbers of `measure_cliff`, curve,
        boundary_curve. And one row per trace, probe and refit: prompt_id, sample, probe, refit, `HEIGHTS`.
    """
    from scipy.special import expit

    from refusal_cliff.activations import stream_states

    rows, refit_rows = [], []
    for index, resid in stream_states(model, encoded, pad_id, batch_size):
        spans = encoded[index].spans
        (start, stop), boundary = spans["thinking"], spans["boundary"]
        trace = {"prompt_id": traces["prompt_id"].iloc[index], "sample": traces["sample"].iloc[index]}
        for name, (w, b, layer) in refits.items():
            curves = expit(resid[layer].double().numpy() @ w.T + b).T
            for refit, curve in enumerate(curves):
                cliff = measure_cliff(curve, spans["thinking"], boundary)
                refit_rows.append(
                    trace | {"probe": name, "refit": refit} | {height: cliff[height] for height in HEIGHTS}
                )
        for name, (w, b, layers) in probes.items():
            scores = refusal_scores(resid.numpy(), w, b, layers)
            for layer, curve in zip(layers, scores, strict=True):
                aligned = curve[max(start, stop - tail) : boundary[1]].astype(np.float32)
                missing = tail - min(tail, stop - start)
                rows.append(
                    {
                        **trace,
                        "probe": name,
                        "layer": int(layer),
                        **measure_cliff(curve, spans["thinking"], boundary),
                        "curve": resample(curve[start:stop], grid).astype(np.float32),
                        "boundary_curve": np.concatenate([np.full(missing, np.nan, np.float32), aligned]),
                    }
                )
    table = pd.DataFrame(rows).astype({"steepest_in_boundary": "boolean"})
    refit_table = pd.DataFrame(refit_rows)
    return (
        table.sort_values(["probe", "layer", *TRACE_KEY], ignore_index=True),
        refit_table.sort_values(["probe", "refit", *TRACE_KEY], ignore_index=True),
    )
