"""Means of what heads put out: over benign traces, at the boundary of refused ones, and how much they write."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.traces import TRACE_KEY, EncodedTrace, length_batches, pad_left

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def reference_traces(
    traces: pd.DataFrame, prompts: pd.DataFrame, behaviour: pd.DataFrame, datasets: list[str], refused: bool
) -> pd.DataFrame:
    """Closed traces of the named datasets that the model refused, or that it did not; possibly none.

    Args:
        behaviour: prompt_id, sample, refused; output of `judges.behaviour`.
    """
    wanted = prompts.loc[prompts["dataset"].isin(datasets), "prompt_id"]
    known = behaviour.loc[behaviour["refused"] == refused, TRACE_KEY]
    kept = traces[traces["prompt_id"].isin(wanted) & (traces["finish_reason"] != "unclosed")]
    return kept.merge(known, on=TRACE_KEY, validate="one_to_one")


def measure_means(
    model: "PreTrainedModel",
    benign: list[EncodedTrace],
    refused: list[EncodedTrace],
    pad_id: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """What replaces the output of a head: `benign_mean` and `refused_boundary`, each absent without such traces."""
    chosen = {"benign_mean": (benign_mean, benign), "refused_boundary": (boundary_mean, refused)}
    return {
        name: average(model, traces, pad_id, batch_size).astype(np.float32)
        for name, (average, traces) in chosen.items()
        if traces
    }


def stream_heads(
    model: "PreTrainedModel", encoded: list[EncodedTrace], pad_id: int, batch_size: int
) -> "Iterator[tuple[EncodedTrace, list[torch.Tensor]]]":
    """Yield each trace with z of its own positions by layer, each [pos, head, d_head] on the model's device."""
    import torch

    from refusal_cliff.hooks import captured_heads
    from refusal_cliff.models import run

    for indices in length_batches([trace.ids for trace in encoded], batch_size):
        batch = [encoded[index] for index in indices]
        ids, mask = pad_left([trace.ids for trace in batch], pad_id)
        with torch.inference_mode(), captured_heads(model) as z:
            run(model, ids, mask, logits_to_keep=1)
        for row, trace in enumerate(batch):
            yield trace, [z[layer][row, ids.shape[1] - len(trace.ids) :] for layer in sorted(z)]


def benign_mean(model: "PreTrainedModel", encoded: list[EncodedTrace], pad_id: int, batch_size: int) -> np.ndarray:
    """Mean of z over all thinking and boundary tokens of the traces together: [layer, head, d_head] in float64."""
    import torch

    total, tokens = 0.0, 0
    for trace, z in stream_heads(model, encoded, pad_id, batch_size):
        start, stop = trace.spans["thinking"][0], trace.spans["boundary"][1]
        total = total + torch.stack([part[start:stop].double().sum(dim=0).cpu() for part in z])
        tokens += stop - start
    return (total / tokens).numpy()


def boundary_mean(model: "PreTrainedModel", encoded: list[EncodedTrace], pad_id: int, batch_size: int) -> np.ndarray:
    """Mean of z over traces at each boundary token: [boundary token, layer, head, d_head] in float64."""
    import torch

    total = 0.0
    for trace, z in stream_heads(model, encoded, pad_id, batch_size):
        total = total + torch.stack([part[slice(*trace.spans["boundary"])].double().cpu() for part in z], dim=1)
    return (total / len(encoded)).numpy()


def write_norms(model: "PreTrainedModel", encoded: list[EncodedTrace], pad_id: int, batch_size: int) -> np.ndarray:
    """Mean over traces of |W_O[:, head] z|, how much a head writes at the last boundary token: [layer, head]."""
    import torch

    from refusal_cliff.models import head_counts, output_projection

    n_layers, n_heads, d_head = head_counts(model)
    total = np.zeros((n_layers, n_heads))
    for _, z in stream_heads(model, encoded, pad_id, batch_size):
        for layer, part in enumerate(z):
            weight = output_projection(model, layer).weight.float().unflatten(-1, (n_heads, d_head))
            total[layer] += torch.einsum("he,dhe->hd", part[-1].float(), weight).norm(dim=-1).cpu().double().numpy()
    return total / len(encoded)
