"""Which attention heads write for or against refusal at the boundary: four ways to measure it, of any readout.

An `effect` is what a head adds to a readout of the final state at the last boundary token (`readouts`: the probe's
logit, or the log-odds of refusal openers), in logits; a negative one suppresses refusal. A measure takes all readouts
at once and runs the model once for them: what it costs does not depend on how many there are.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.rankings import ranking_name
from refusal_cliff.readouts import slope
from refusal_cliff.traces import MAX_TOKENS, TRACE_KEY, EncodedTrace, length_batches, length_switch, pad_left

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from refusal_cliff.readouts import Readout


GRADIENT_TOKENS = 8192
"""Of a batch of `gradient_effects`, which keeps what every layer computed for its backward pass."""


def ranking_traces(
    traces: pd.DataFrame, prompts: pd.DataFrame, datasets: list[str], limit: int, seed: int
) -> pd.DataFrame:
    """The traces heads are ranked on: closed ones of the named datasets, at most `limit`, drawn with a seed.

    Whether the model refused plays no part: a well aligned model complies with none of them and is ranked all the same.

    Raises:
        UserError: no trace is left.
    """
    wanted = prompts.loc[prompts["dataset"].isin(datasets), "prompt_id"]
    kept = traces[traces["prompt_id"].isin(wanted) & (traces["finish_reason"] != "unclosed")]
    if kept.empty:
        raise UserError(
            f"heads.datasets: no closed trace in {', '.join(datasets)}; name other datasets of prompt set fit"
        )
    return kept.sort_values(TRACE_KEY).sample(min(limit, len(kept)), random_state=seed)


def direct_contributions(
    model: "PreTrainedModel", encoded: list[EncodedTrace], readouts: Sequence["Readout"], pad_id: int, batch_size: int
) -> np.ndarray:
    """Each head's own write, projected on a readout's slope: z · W_O[:, head] · (slope as seen through the final norm).

    The final norm is linear once its scale is frozen at the value it has in the unedited run, and the readout is taken
    for linear with the gradient that it has at the trace's own final state. For the probe that is w, and no
    approximation: the contributions of all heads, MLPs and the embedding add up to its logit. No bias enters: a bias
    belongs to no head. Log-odds of openers are not linear, so theirs hold for small changes.

    Returns:
        [readout, trace, layer, head], in logits.
    """
    import torch

    from refusal_cliff.hooks import captured_final_residual, captured_heads
    from refusal_cliff.models import final_norm, head_counts, output_projection, run_decoder

    n_layers, n_heads, d_head = head_counts(model)
    norm = final_norm(model)
    contributions = np.empty((len(readouts), len(encoded), n_layers, n_heads))
    for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.inference_mode(), captured_heads(model, _last) as z, captured_final_residual(model) as residual:
            final = run_decoder(model, ids, mask).last_hidden_state[:, -1]
            frozen = _frozen_norm(norm, residual["resid"][:, -1])
            seen = [slope(readout, final).to(frozen.device) * frozen for readout in readouts]
            for layer in range(n_layers):
                # A model on several devices has its layers on different ones.
                weight = output_projection(model, layer).weight.float().unflatten(-1, (n_heads, d_head))
                last = z[layer].float()
                weight = weight.to(last.device)
                for place, direction in enumerate(seen):
                    written = torch.einsum("bhe,dhe,bd->bh", last, weight, direction.to(last.device))
                    contributions[place, batch, layer] = written.cpu().numpy()
    return contributions


def _frozen_norm(norm: "nn.Module", residual: "torch.Tensor") -> "torch.Tensor":
    """The diagonal map that an RMS norm is once its scale is frozen at `residual`: [batch, d_model] in float32.

    The norm of a vector of ones is its gain, which holds for plain gains and for Gemma's 1 + gain alike; the scale is
    read off the norm's actual output, so its epsilon is taken in too.
    """
    residual = residual.float()
    gain = norm(norm.weight.new_ones(norm.weight.shape)).float()
    gained = gain * residual
    scale = (norm(residual.to(norm.weight.dtype)).float() * gained).sum(-1, keepdim=True) / gained.pow(2).sum(
        -1, keepdim=True
    )
    return gain * scale


def causal_effects(
    model: "PreTrainedModel", encoded: list[EncodedTrace], readouts: Sequence["Readout"], pad_id: int, batch_size: int
) -> np.ndarray:
    """The exact change that ablating each head, alone and at every position, makes to every readout.

    Sees what a head does through later layers too, at the price of running the layers from its own on: about
    heads * (layers + 1) / 2 forward passes. Heads of a layer run together, as copies of the batch.

    Returns:
        [readout, trace, layer, head]: readout of the unedited run minus readout of the ablated run.
    """
    import torch
    from tqdm import tqdm

    from refusal_cliff.hooks import call_block, captured_calls, masked_heads, over_tensors
    from refusal_cliff.models import blocks, final_norm, head_counts, run_decoder

    n_layers, n_heads, _ = head_counts(model)
    effects = np.empty((len(readouts), len(encoded), n_layers, n_heads))
    batches = list(length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)))
    for batch in tqdm(batches, desc="batches", mininterval=10):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        together = min(n_heads, max(1, MAX_TOKENS // ids.size))
        with torch.inference_mode():
            with captured_calls(model) as calls:
                last = run_decoder(model, ids, mask).last_hidden_state[:, -1]
            clean = _read(readouts, last)
            copied = over_tensors(cache(partial(_copied, copies=together)), calls.options)
            # Ablating a head leaves the layers below untouched: every run starts at the head's own layer.
            below = calls.state
            for layer, block in enumerate(blocks(model)):
                for heads in torch.arange(n_heads).split(together):
                    rows = len(heads) * len(batch)
                    options = over_tensors(lambda option, rows=rows: option[:rows], copied)
                    kept = 1 - torch.eye(n_heads)[heads].repeat_interleave(len(batch), dim=0)
                    state = _copied(below, len(heads))
                    with masked_heads(model, layer, kept[:, None]):
                        state = call_block(block, state, options[layer])
                    for later in range(layer + 1, n_layers):
                        state = call_block(blocks(model)[later], state, options[later])
                    changed = _read(readouts, final_norm(model)(state[:, -1])).unflatten(1, (-1, len(batch)))
                    change = (clean[:, None] - changed).transpose(1, 2)
                    effects[np.ix_(range(len(readouts)), batch, [layer], heads)] = change[:, :, None]
                below = call_block(block, below, calls.options[layer])
    return effects


def boundary_causal_effects(
    model: "PreTrainedModel", encoded: list[EncodedTrace], readouts: Sequence["Readout"], pad_id: int, batch_size: int
) -> np.ndarray:
    """The exact change that ablating each head, alone and at the boundary tokens alone, makes to every readout.

    What comes before the boundary is not touched: it is run once, and its keys and values are kept. The boundary's few
    tokens then go through the layers in one pass, in as many versions as there are heads, from each head's layer on.
    The versions stand side by side in one sequence and do not see each other, so that they read one cache: all heads
    together cost about heads * (layers + 1) / 2 times the boundary's tokens.

    Args:
        encoded: traces that end with their boundary.

    Returns:
        [readout, trace, layer, head]: readout of the unedited run minus readout of the ablated run.

    Raises:
        ValueError: a trace goes on after its boundary.
    """
    import torch

    from refusal_cliff.hooks import versions_without_heads
    from refusal_cliff.models import head_counts, run_prefix

    n_layers, n_heads, _ = head_counts(model)
    effects = np.empty((len(readouts), len(encoded), n_layers, n_heads))
    if any(trace.spans["boundary"][1] != len(trace.ids) for trace in encoded):
        raise ValueError("traces must end with their boundary")
    # The boundary is the same tokens in every trace: with left padding, the same columns.
    width = len(range(*encoded[0].spans["boundary"]))
    versions = MAX_TOKENS // (width * (1 + n_layers * n_heads))
    for batch in length_batches(
        [trace.ids for trace in encoded], max(1, min(batch_size, versions)), switch=length_switch(model)
    ):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.inference_mode():
            rest = run_prefix(model, ids, mask, width)
            with versions_without_heads(model, width):
                states = model.get_decoder()(**rest).last_hidden_state
            read = _read(readouts, states.unflatten(1, (-1, width))[:, :, -1])
            effects[:, batch] = (read[:, :, :1] - read[:, :, 1:]).unflatten(2, (n_layers, n_heads)).numpy()
    return effects


def _copied(option: "torch.Tensor", copies: int) -> "torch.Tensor":
    """A tensor [batch, ...] for that many copies of the batch, one after the other."""
    return option.repeat(copies, *[1] * (option.ndim - 1))


def gradient_effects(
    model: "PreTrainedModel", encoded: list[EncodedTrace], readouts: Sequence["Readout"], pad_id: int, batch_size: int
) -> np.ndarray:
    """First-order approximation of `causal_effects` (attribution patching, Nanda 2023; Syed et al. 2023).

    Ablating a head moves its z to zero at every position, so a readout changes by about the sum over positions of
    z · d readout / d z: one forward pass, and for each readout one backward pass for all heads together.

    Returns:
        [readout, trace, layer, head], in logits.
    """
    import torch

    from refusal_cliff.hooks import watched_heads
    from refusal_cliff.models import head_counts, run_decoder

    n_layers, n_heads, _ = head_counts(model)
    effects = np.empty((len(readouts), len(encoded), n_layers, n_heads))
    for batch in length_batches(
        [trace.ids for trace in encoded], batch_size, GRADIENT_TOKENS, switch=length_switch(model)
    ):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.enable_grad(), watched_heads(model) as z:
            last = run_decoder(model, ids, mask).last_hidden_state[:, -1].float()
            for place, readout in enumerate(readouts):
                # Traces of a batch do not touch each other, so the gradient of their sum is each trace's own.
                gradients = torch.autograd.grad(
                    last,
                    [z[layer] for layer in range(n_layers)],
                    grad_outputs=slope(readout, last),
                    retain_graph=place < len(readouts) - 1,
                )
                for layer, gradient in enumerate(gradients):
                    product = z[layer].detach().double() * gradient.double()
                    effects[place, batch, layer] = product.sum(dim=(1, 3)).cpu().numpy()
    return effects


def _read(readouts: Sequence["Readout"], states: "torch.Tensor") -> "torch.Tensor":
    """Every readout of final states [..., d_model], in double precision on the CPU: [readout, ...]."""
    import torch

    states = states.cpu().double()
    return torch.stack([readout(states) for readout in readouts])


def _last(z: "torch.Tensor") -> "torch.Tensor":
    """z [batch, pos, head, d_head] of the last position."""
    return z[:, -1]


MEASURES = {
    "direct": direct_contributions,
    "causal": causal_effects,
    "causal_boundary": boundary_causal_effects,
    "gradient": gradient_effects,
}
"""How heads are measured: all take readouts and give [readout, trace, layer, head] in logits."""


def measured_rankings(targets: Iterable[str], measures: Collection[str]) -> dict[str, tuple[str, str]]:
    """The rankings that are measured, by name: measure and target of each, measures in the order of `MEASURES`."""
    return {
        ranking_name(measure, target): (measure, target)
        for target in targets
        for measure in MEASURES
        if measure in measures
    }


def measure_effects(
    model: "PreTrainedModel",
    encoded: list[EncodedTrace],
    readouts: Mapping[str, "Readout"],
    measures: Collection[str],
    pad_id: int,
    batch_size: int,
) -> dict[tuple[str, str], np.ndarray]:
    """The effects of all heads on all readouts by some of `MEASURES`: (measure, target) -> [trace, layer, head]."""
    targets, read = list(readouts), list(readouts.values())
    if not targets:
        return {}
    return {
        (measure, target): effects
        for measure in measures
        for target, effects in zip(targets, MEASURES[measure](model, encoded, read, pad_id, batch_size), strict=True)
    }
