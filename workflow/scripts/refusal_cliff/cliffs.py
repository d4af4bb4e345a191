"""The refusal score along a trace, and how far it falls at the boundary (section 3 of the paper)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from refusal_cliff.traces import EncodedTrace

Probe = tuple[np.ndarray, np.ndarray]


def refusal_scores(resid: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sigmoid(w·h + b) of each layer's probe at every position.

    Args:
        resid: [layer, pos, d_model].
        w: [layer, d_model]; b: [layer].

    Returns:
        [layer, pos], in 0..1.
    """
    from scipy.special import expit

    return expit(np.einsum("lpd,ld->lp", resid, w) + b[:, None])


def resample(scores: np.ndarray, grid: int) -> np.ndarray:
    """Linear interpolation of a curve [pos] on `grid` evenly spaced points from its first to its last position."""
    return np.interp(np.linspace(0, len(scores) - 1, grid), np.arange(len(scores)), scores)


def measure_cliff(scores: np.ndarray, thinking: tuple[int, int], boundary: tuple[int, int]) -> dict[str, float]:
    """Plateau, final score and cliff of one curve of refusal scores [pos].

    Returns:
        plateau: largest score within the thinking (the paper's summary); plateau_mean: mean over the last half of the
        thinking, which one token cannot move; final: score at the last boundary token; cliff: plateau - final, the
        paper's misalignment score; steepest: where in thinking + boundary (0..1) the score falls most from one token
        to the next; boundary_share: share of the fall from the last thinking token's level in the whole fall
        (missing where the score does not fall).
    """
    start, stop = thinking
    thought = scores[start:stop]
    final = float(scores[boundary[1] - 1])
    plateau = float(thought.max())
    steps = np.diff(scores[start : boundary[1]])
    cliff = plateau - final
    return {
        "plateau": plateau,
        "plateau_mean": float(thought[len(thought) // 2 :].mean()),
        "final": final,
        "cliff": cliff,
        "steepest": float((steps.argmin() + 1) / len(steps)),
        "boundary_share": float((thought[-1] - final) / cliff) if cliff > 0 else float("nan"),
    }


def score_traces(
    model: "PreTrainedModel",
    traces: pd.DataFrame,
    encoded: "list[EncodedTrace]",
    probes: Mapping[str, Probe],
    pad_id: int,
    batch_size: int,
    grid: int,
    tail: int,
) -> pd.DataFrame:
    """Cliff of every trace, for every probe and layer, in one streaming pass.

    Args:
        traces: prompt_id, sample, in the order of `encoded`; a trace without thinking is left out.
        probes: name -> (w [layer, d_model], b [layer]).
        grid: points of `curve`, the score over the thinking on normalised position 0..1.
        tail: thinking tokens before the boundary in `boundary_curve`, which goes on through the boundary by token;
            padded in front with missing values where the thinking is shorter.

    Returns:
        One row per trace, probe and layer: prompt_id, sample, probe, layer, the numbers of `measure_cliff`, curve,
        boundary_curve.
    """
    from refusal_cliff.activations import stream_states

    rows = []
    for index, resid in stream_states(model, encoded, pad_id, batch_size):
        spans = encoded[index].spans
        (start, stop), boundary = spans["thinking"], spans["boundary"]
        if start == stop:
            continue
        states = _double(resid)
        for name, (w, b) in probes.items():
            scores = refusal_scores(states, w, b)
            for layer, curve in enumerate(scores):
                aligned = curve[max(start, stop - tail) : boundary[1]].astype(np.float32)
                missing = tail - min(tail, stop - start)
                rows.append(
                    {
                        "prompt_id": traces["prompt_id"].iloc[index],
                        "sample": traces["sample"].iloc[index],
                        "probe": name,
                        "layer": layer,
                        **measure_cliff(curve, spans["thinking"], boundary),
                        "curve": resample(curve[start:stop], grid).astype(np.float32),
                        "boundary_curve": np.concatenate([np.full(missing, np.nan, np.float32), aligned]),
                    }
                )
    return pd.DataFrame(rows).sort_values(["probe", "layer", "prompt_id", "sample"], ignore_index=True)


def _double(resid: "torch.Tensor") -> np.ndarray:
    return resid.numpy().astype(np.float64)
