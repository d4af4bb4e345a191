"""Means of what heads put out: over benign traces, at the boundary of refused ones, and how much they write."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.traces import TRACE_KEY, EncodedTrace, length_batches, length_switch, pad_left

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


def reduced_heads(
    model: "PreTrainedModel",
    encoded: list[EncodedTrace],
    pad_id: int,
    batch_size: int,
    span: Callable[[EncodedTrace], tuple[int, int]],
    reduce: "Callable[[torch.Tensor], torch.Tensor]",
) -> "Iterator[list[torch.Tensor]]":
    """Yield, batch by batch, what `reduce` makes of z of each layer, within the forward pass.

    Args:
        span: the tokens of a trace that count, half-open.
        reduce: called with z [token, head, d_head] of those tokens, one trace of the batch after the other.
    """
    import torch

    from refusal_cliff.hooks import captured_heads
    from refusal_cliff.models import run_decoder

    for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        counted = torch.zeros(mask.shape, dtype=torch.bool)
        for row, index in enumerate(batch):
            start, stop = span(encoded[index])
            padding = ids.shape[1] - len(encoded[index].ids)
            counted[row, padding + start : padding + stop] = True
        with torch.inference_mode(), captured_heads(model, lambda z, at=counted: reduce(z[at.to(z.device)])) as kept:
            run_decoder(model, ids, mask)
        yield [kept[layer] for layer in sorted(kept)]


def benign_mean(model: "PreTrainedModel", encoded: list[EncodedTrace], pad_id: int, batch_size: int) -> np.ndarray:
    """Mean of z over all thinking and boundary tokens of the traces together: [layer, head, d_head] in float64."""

    def span(trace: EncodedTrace) -> tuple[int, int]:
        return trace.spans["thinking"][0], trace.spans["boundary"][1]

    sums = reduced_heads(model, encoded, pad_id, batch_size, span, lambda z: z.double().sum(dim=0).cpu())
    return sum(np.stack(batch) for batch in sums) / sum(len(range(*span(trace))) for trace in encoded)


def boundary_mean(model: "PreTrainedModel", encoded: list[EncodedTrace], pad_id: int, batch_size: int) -> np.ndarray:
    """Mean of z over traces at each boundary token: [boundary token, layer, head, d_head] in float64."""
    # The boundary is the same tokens in every trace.
    width = len(range(*encoded[0].spans["boundary"]))

    def by_token(z: "torch.Tensor") -> "torch.Tensor":
        return z.double().unflatten(0, (-1, width)).sum(dim=0).cpu()

    sums = reduced_heads(model, encoded, pad_id, batch_size, lambda trace: trace.spans["boundary"], by_token)
    return sum(np.stack(batch, axis=1) for batch in sums) / len(encoded)


def write_norms(model: "PreTrainedModel", encoded: list[EncodedTrace], pad_id: int, batch_size: int) -> np.ndarray:
    """Mean over traces of |W_O[:, head] z|, how much a head writes at the last boundary token: [layer, head]."""
    import torch

    from refusal_cliff.models import head_counts, output_projection

    def span(trace: EncodedTrace) -> tuple[int, int]:
        return trace.last_boundary, trace.last_boundary + 1

    n_layers, n_heads, d_head = head_counts(model)
    total = np.zeros((n_layers, n_heads))
    for batch in reduced_heads(model, encoded, pad_id, batch_size, span, lambda z: z.float()):
        for layer, z in enumerate(batch):
            weight = output_projection(model, layer).weight.float().unflatten(-1, (n_heads, d_head)).to(z.device)
            written = torch.einsum("bhe,dhe->bhd", z, weight)
            total[layer] += written.norm(dim=-1).double().sum(dim=0).cpu().numpy()
    return total / len(encoded)
