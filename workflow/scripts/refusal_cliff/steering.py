"""The refusal direction added to the residual stream, and random directions like it (Arditi et al. 2024).

The direction of a block is the difference of mean states at the last boundary token, refused harmful traces minus
answered ones, of the state that the block reads. Added to what the block's attention writes it is a bias: weights, and
no hook. The block, and the scale that is safe, are chosen on prompt set `fit`, by `choose`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.perplexity import compared_tokens, divergence, most_compared
from refusal_cliff.readouts import NotMeasurableError
from refusal_cliff.traces import TRACE_KEY, EncodedTrace, length_batches, length_switch, pad_left
from refusal_cliff.variants import DIRECTION_CONTROLS, REFUSAL, pooled_ranking

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from refusal_cliff.readouts import Readout

SWEEP_COLUMNS = ["layer", "scale", "refusal", "over_refusal", "kl"]


def boundary_classes(
    rows: pd.DataFrame, prompts: pd.DataFrame, behaviours: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which rows of the kept states the direction is made from.

    Args:
        rows: prompt_id, sample, kind, of the states in their order.
        prompts: prompt_id, label.
        behaviours: output of `judges.behaviour`.

    Returns:
        Places of the last boundary tokens of harmful traces that were refused, and of all that were answered; and which
        of these were refused.

    Raises:
        NotMeasurableError: there are none of one of the two.
    """
    at = rows.assign(place=np.arange(len(rows)))[rows["kind"].to_numpy() == "last_boundary"]
    known = at.merge(behaviours, on=TRACE_KEY, validate="one_to_one").merge(
        prompts[["prompt_id", "label"]], on="prompt_id", validate="many_to_one"
    )
    refused = known["refused"].to_numpy(dtype=bool)
    counted = ~refused | (known["label"] == "harmful").to_numpy()
    if not refused[counted].any() or refused[counted].all():
        word = "answered nothing" if refused.any() else "refused no harmful prompt"
        raise NotMeasurableError(f"the model {word} of set fit, so there is no refusal direction")
    return known["place"].to_numpy()[counted], refused[counted]


def refusal_directions(states: Any, places: NDArray[np.int64], refused: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The direction of every block: mean state of refused traces minus that of answered ones.

    Args:
        states: [row, layer, d_model], after each block; of the last block they are after the final norm.
        places, refused: output of `boundary_classes`.

    Returns:
        [layer, d_model] in float32: what block l reads is the state after block l - 1. The first block, which reads
        the embedding, has none: zeros.
    """
    directions = np.zeros(states.shape[1:], dtype=np.float32)
    for layer in range(1, states.shape[1]):
        own = states[:, layer - 1][places].astype(np.float64)
        directions[layer] = own[refused].mean(axis=0) - own[~refused].mean(axis=0)
    return directions


def control_direction(
    name: str, direction: NDArray, states: NDArray, refused: NDArray[np.bool_], seed: int
) -> NDArray[np.float32]:
    """The direction `name`: `refusal`, or a draw of a control, e.g. `random0`, of the same norm.

    Controls:
        random: drawn evenly from all directions.
        rotated: the direction rotated at random among the states, in units of how much they vary: drawn from a normal
            distribution with the covariance of the states within the two classes. A rotation in plain units would be
            `random` again, most of which is where no state ever is.

    Args:
        direction: [d_model].
        states: [trace, d_model], those that the direction is the difference of.
        refused: [trace], their classes.
        seed: of the first draw of a control; each draw has its own.
    """
    control = pooled_ranking(name)
    if control == REFUSAL:
        return direction
    rng = np.random.default_rng([DIRECTION_CONTROLS.index(control), seed + int(name.removeprefix(control))])
    if control == "random":
        drawn = rng.standard_normal(len(direction))
    else:
        states = states.astype(np.float64)
        within = np.concatenate([states[side] - states[side].mean(axis=0) for side in (refused, ~refused)])
        # A normal mixture of deviations has their covariance.
        drawn = rng.standard_normal(len(within)) @ within
    return (drawn * (np.linalg.norm(direction) / np.linalg.norm(drawn))).astype(np.float32)


def with_controls(
    layer: int, scale: float, direction: NDArray, states: NDArray, refused: NDArray[np.bool_], draws: int, seed: int
) -> dict[str, NDArray]:
    """A chosen direction with `draws` of each control, as they are written: name -> [d_model], layer [1] and scale [1].

    Args:
        direction, states, refused, seed: as for `control_direction`.
    """
    names = [REFUSAL, *(f"{control}{draw}" for control in DIRECTION_CONTROLS for draw in range(draws))]
    drawn = {name: control_direction(name, direction, states, refused, seed) for name in names}
    return drawn | {"layer": np.array([layer]), "scale": np.array([scale])}


def sweep(
    model: "PreTrainedModel",
    directions: NDArray,
    scales: Sequence[float],
    harmful: list[EncodedTrace],
    benign: list[EncodedTrace],
    readout: "Readout",
    pad_id: int,
    batch_size: int,
) -> pd.DataFrame:
    """What every block's direction does at every scale, on traces of the unedited model.

    Args:
        directions: [layer, d_model]; a block without one (zeros) is left out.
        harmful: traces up to their boundary. benign: traces with their response.
        readout: log-odds of opening with a refusal (`readouts.opener_log_odds`).

    Returns:
        layer, scale, refusal and over_refusal (mean probability of opening with a refusal at the last boundary token,
        of harmful and of benign traces), kl (as in `perplexity.measure_perplexity`, of benign traces, mean). The first
        row, of scale 0, is the unedited model.
    """
    reference: dict[int, torch.Tensor] = {}
    settings = [(0, 0.0), *((layer, scale) for layer in np.flatnonzero(directions.any(axis=1)) for scale in scales)]
    rows = []
    for layer, scale in settings:
        with _added(model, int(layer), scale * directions[layer]):
            refusal, _ = _refusals(model, harmful, readout, pad_id, batch_size, None)
            over_refusal, kl = _refusals(model, benign, readout, pad_id, batch_size, reference)
        rows.append((int(layer), float(scale), refusal, over_refusal, kl))
    return pd.DataFrame(rows, columns=SWEEP_COLUMNS)


def choose(found: pd.DataFrame, kl: float, over_refusal: float) -> tuple[int, float]:
    """The rule: the block and scale that refuse most harmful prompts among those that leave benign ones alone.

    Args:
        found: output of `sweep`.
        kl, over_refusal: what the drift and the refusals of benign traces may not exceed.

    Returns:
        Layer and scale; of equals the smaller scale, then the earlier block.

    Raises:
        NotMeasurableError: none is within both bounds, or none of these refuses more than the unedited model.
    """
    unedited, tried = found.iloc[0], found.iloc[1:]
    within = tried[(tried["kl"] <= kl) & (tried["over_refusal"] <= over_refusal)]
    better = within[within["refusal"] > unedited["refusal"]]
    if better.empty:
        raise NotMeasurableError(
            f"of {len(tried)} blocks and scales {len(within)} keep KL at {kl:g} nats and refusals of benign prompts at "
            f"{over_refusal:g}, and none of these refuses more harmful prompts of set fit"
        )
    best = better.sort_values(["refusal", "scale", "layer"], ascending=[False, True, True]).iloc[0]
    return int(best["layer"]), float(best["scale"])


@contextmanager
def _added(model: "PreTrainedModel", layer: int, direction: NDArray) -> Iterator[None]:
    """A vector added in a decoder block while the `with` block runs."""
    from refusal_cliff.models import add_direction, output_projection

    projection = output_projection(model, layer)
    before = projection.bias
    add_direction(model, layer, direction)
    try:
        yield
    finally:
        projection.bias = before


def _refusals(
    model: "PreTrainedModel",
    encoded: list[EncodedTrace],
    readout: "Readout",
    pad_id: int,
    batch_size: int,
    reference: "dict[int, torch.Tensor] | None",
) -> tuple[float, float]:
    """Mean probability of opening with a refusal, and mean divergence from the reference, 0 without one."""
    import torch

    from refusal_cliff.models import run_decoder

    refusal, kl = np.zeros(len(encoded)), np.zeros(len(encoded))
    most = most_compared(len(encoded), model.config.get_text_config().vocab_size)
    for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.inference_mode():
            states = run_decoder(model, ids, mask).last_hidden_state
            for row, index in enumerate(batch):
                trace = encoded[index]
                own = states[row, -len(trace.ids) :]
                refusal[index] = float(readout(own[trace.last_boundary].cpu().double()).sigmoid())
                if reference is not None:
                    start = trace.spans["prompt"][1] - 1
                    predicting = own[start + compared_tokens(len(trace.ids) - start - 1, most)]
                    predictions = model.get_output_embeddings()(predicting).float().log_softmax(-1).cpu()
                    kl[index] = divergence(reference.setdefault(index, predictions), predictions)
    return float(refusal.mean()), float(kl.mean())
