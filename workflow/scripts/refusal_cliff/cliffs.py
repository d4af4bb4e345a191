"""The refusal score along a trace, and how far it falls at the boundary (section 3 of the paper)."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from refusal_cliff.probes import SWEEP
from refusal_cliff.traces import TRACE_KEY, EncodedTrace

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Probe = tuple[np.ndarray, np.ndarray, np.ndarray]
Fits = tuple[np.ndarray, np.ndarray, int]
HEIGHTS = ("cliff", "cliff_p90", "cliff_mean")
MEASURES = ("plateau", "plateau_p90", "plateau_mean", "final", *HEIGHTS, "steepest", "steepest_offset")
MEASURES += ("steepest_in_boundary", "boundary_drop", "boundary_share")
FALLS = (*HEIGHTS, "boundary_drop", "final")
"""What is kept of a refit or of a setting of the sweep: a share in the boundary is boundary_drop over a height."""


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
        plateau_p90: 90th percentile of the scores within the thinking.
        plateau_mean: mean over the last half of the thinking, which one token cannot move.
        final: score at the last boundary token.
        cliff: plateau - final, the paper's misalignment score.
        cliff_p90: plateau_p90 - final.
        cliff_mean: plateau_mean - final.
        steepest: where in thinking + boundary (0..1) the score falls most from one token to the next.
        steepest_offset: the same place in tokens from the last boundary token (0, -1, ...).
        steepest_in_boundary: 1 if that token is one of the boundary, else 0.
        boundary_drop: score at the last thinking token - final.
        boundary_share: boundary_drop / cliff, the share of the fall that lies in the boundary; missing where the score
            does not fall.
    """
    start, stop = thinking
    # A copy: a view would keep all scores of the trace as long as its measures.
    thought, final = scores[:, start:stop], scores[:, boundary[1] - 1].copy()
    if start == stop:
        return dict.fromkeys(MEASURES, np.full(len(scores), np.nan)) | {"final": final}
    plateau, plateau_p90 = thought.max(axis=1), np.quantile(thought, 0.9, axis=1)
    plateau_mean = thought[:, thought.shape[1] // 2 :].mean(axis=1)
    cliff, drop = plateau - final, thought[:, -1] - final
    steps = np.diff(scores[:, start : boundary[1]])
    steepest, n_steps = steps.argmin(axis=1) + 1, steps.shape[1]
    return {
        "plateau": plateau,
        "plateau_p90": plateau_p90,
        "plateau_mean": plateau_mean,
        "final": final,
        "cliff": cliff,
        "cliff_p90": plateau_p90 - final,
        "cliff_mean": plateau_mean - final,
        "steepest": steepest / n_steps,
        "steepest_offset": (steepest - n_steps).astype(float),
        "steepest_in_boundary": (start + steepest >= boundary[0]).astype(float),
        "boundary_drop": drop,
        "boundary_share": np.divide(drop, cliff, out=np.full_like(cliff, np.nan), where=cliff > 0),
    }


class _Curve(NamedTuple):
    """A curve of refusal scores: the table that has it, its probe, and what tells it from others of both."""

    table: str
    probe: str
    key: int | str
    layer: int
    w: np.ndarray
    b: float


def score_traces(
    model: "PreTrainedModel",
    traces: pd.DataFrame,
    encoded: list[EncodedTrace],
    probes: Mapping[str, Probe],
    refits: Mapping[str, Fits],
    sweeps: Mapping[str, Fits],
    pad_id: int,
    batch_size: int,
    grid: int,
    tail: int,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Cliff of every trace, for every probe and layer, in one forward pass that keeps no state.

    Args:
        traces: prompt_id, sample, in the order of `encoded`. A trace without thinking has a final score alone; its
            plateau, its cliff and its curve are missing values.
        probes: name -> (w [layer, d_model], b [layer], layers [layer], the index in the model of each).
        refits: name -> (w [refit, d_model], b [refit], the layer that all of them are for).
        sweeps: the same with a row for each setting of `probes.SWEEP`; may be empty.
        grid: points of `curve`, the score over the thinking on normalised position 0..1.
        tail: thinking tokens before the boundary in `boundary_curve`, which goes on through the boundary by token;
            padded in front with missing values where the thinking is shorter.

    Returns:
        One row per trace, probe and layer: prompt_id, sample, probe, layer, `MEASURES`, curve, boundary_curve. One row
        per trace, probe and refit: prompt_id, sample, probe, refit, `FALLS`. And one per trace, probe and setting of
        the sweep: prompt_id, sample, probe, setting, `FALLS`.
    """
    from scipy.special import expit

    from refusal_cliff.activations import project_states

    curves = _curves(probes, refits, sweeps)
    by_layer = groupby(curves, key=lambda curve: curve.layer)
    directions = {layer: np.stack([curve.w for curve in part]) for layer, part in by_layer}
    bias = np.array([[curve.b] for curve in curves])
    found: dict[int, dict[str, np.ndarray]] = {}
    for index, products in project_states(model, encoded, directions, pad_id, batch_size):
        scores = expit(products + bias)
        (start, stop), boundary = encoded[index].spans["thinking"], encoded[index].spans["boundary"]
        aligned = scores[:, max(start, stop - tail) : boundary[1]].astype(np.float32)
        missing = tail - min(tail, stop - start)
        found[index] = measure_cliffs(scores, (start, stop), boundary) | {
            "curve": resample(scores[:, start:stop], grid).astype(np.float32),
            "boundary_curve": np.pad(aligned, ((0, 0), (missing, 0)), constant_values=np.nan),
        }
    keys = traces[TRACE_KEY].reset_index(drop=True).sort_values(TRACE_KEY)

    def table(key: str, names: Sequence[str]) -> pd.DataFrame:
        """A row per curve and trace, in order of probe, `key` and trace."""
        places = [place for place, curve in enumerate(curves) if curve.table == key]
        places.sort(key=lambda place: curves[place].probe)
        columns = {name: np.tile(keys[name].to_numpy(), len(places)) for name in TRACE_KEY}
        columns["probe"] = np.repeat([curves[place].probe for place in places], len(keys))
        columns[key] = np.repeat([curves[place].key for place in places], len(keys))
        for name in names:
            values = np.stack([found[index][name][places] for index in keys.index], axis=1)
            columns[name] = values.ravel() if values.ndim == 2 else list(values.reshape(-1, values.shape[-1]))
        return pd.DataFrame(columns)

    cliffs = table("layer", (*MEASURES, "curve", "boundary_curve")).astype({"steepest_in_boundary": "boolean"})
    return cliffs, table("refit", FALLS), table("setting", FALLS)


def _curves(probes: Mapping[str, Probe], refits: Mapping[str, Fits], sweeps: Mapping[str, Fits]) -> list[_Curve]:
    """All that states are projected on, in order of layers."""
    curves = [
        _Curve("layer", name, int(layer), int(layer), *parts)
        for name, (w, b, layers) in probes.items()
        for layer, *parts in zip(layers, w, b, strict=True)
    ]
    curves += [
        _Curve("refit", name, refit, layer, *parts)
        for name, (w, b, layer) in refits.items()
        for refit, parts in enumerate(zip(w, b, strict=True))
    ]
    curves += [
        _Curve("setting", name, setting, layer, *parts)
        for name, (w, b, layer) in sweeps.items()
        for setting, *parts in zip(SWEEP, w, b, strict=True)
    ]
    return sorted(curves, key=lambda curve: curve.layer)
