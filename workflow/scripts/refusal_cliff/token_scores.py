"""The refusal score at every token of a trace, prompt and response included: what the trace viewer shows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from refusal_cliff.traces import TRACE_KEY, EncodedTrace

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEGMENTS = ["prompt", "thinking", "boundary"]
"""Segments of a trace before its response, in order."""


def chosen_prompts(prompts: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most `count` prompts, as many of each dataset as there are of the others, the first of each.

    Args:
        prompts: with column dataset.
    """
    turn = prompts.groupby("dataset", sort=False).cumcount()
    return prompts.loc[turn.sort_values(kind="stable").index[:count]].sort_index()


def score_tokens(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    traces: pd.DataFrame,
    encoded: list[EncodedTrace],
    probes: Mapping[str, tuple[Any, Any, Any]],
    batch_size: int,
) -> pd.DataFrame:
    """Every token of every trace as text, and its score by every probe at every layer that the probe has.

    Args:
        traces: prompt_id, sample, in the order of `encoded`.
        probes: name -> (w [layer, d_model], b [layer], layers [layer], the index in the model of each).

    Returns:
        One row per trace, probe and layer: prompt_id, sample, probe, layer, tokens (text of each token), {segment}_stop
        of `SEGMENTS` (where it ends, in tokens), scores (of each token, 0 to 1).
    """
    from scipy.special import expit

    from refusal_cliff.activations import project_states

    curves = [(name, int(layer), w, b) for name, parts in probes.items() for w, b, layer in zip(*parts, strict=True)]
    curves.sort(key=lambda curve: curve[1])
    directions: dict[int, Any] = {}
    for _, layer, w, _ in curves:
        directions.setdefault(layer, []).append(w)
    stacked = {layer: np.stack(own) for layer, own in directions.items()}
    bias = np.array([[b] for *_, b in curves])
    rows = []
    for index, products in project_states(model, encoded, stacked, tokenizer.pad_token_id, batch_size):
        trace, scores = encoded[index], expit(products + bias).astype(np.float32)
        shared = dict(traces.iloc[index][TRACE_KEY]) | {"tokens": [tokenizer.decode([token]) for token in trace.ids]}
        shared |= {f"{segment}_stop": trace.spans[segment][1] for segment in SEGMENTS}
        rows += [
            shared | {"probe": name, "layer": layer, "scores": own}
            for (name, layer, *_), own in zip(curves, scores, strict=True)
        ]
    return pd.DataFrame(rows).sort_values([*TRACE_KEY, "probe", "layer"], ignore_index=True)
