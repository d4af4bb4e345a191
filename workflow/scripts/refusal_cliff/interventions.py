"""What a variant does to attention heads: zero, scale, replace by a mean, at every position or at the boundary alone.

All are one change: z of a head becomes scale · z + value. Where it holds at every position it is a change of weights
(`models.set_heads`); at the boundary alone it is a hook on the prefill.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.heads import top_heads
from refusal_cliff.traces import TRACE_KEY, EncodedTrace, length_batches, pad_left

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def head_edit(variant: Mapping[str, Any], ranking: pd.DataFrame | None = None) -> dict[str, Any]:
    """Content of `edit.json` for a variant that needs no training.

    Args:
        variant: output of `config.parse_variant`.
        ranking: layer, head, rank; for the kinds that touch heads.

    Returns:
        For base `{}`; for keep its share of the thinking under `keep`; for all others `head_scales`
        [[layer, head, scale], …], with `positions` = boundary where only the boundary tokens are touched, and
        `renormalise` for the released code's way.
    """
    kind = variant["kind"]
    if kind == "base":
        return {}
    if kind == "keep":
        return {"keep": variant["kept"]}
    scale = variant.get("scale", 0.0)
    edit: dict[str, Any] = {
        "head_scales": [[layer, head, scale] for layer, head in top_heads(ranking, variant["fraction"])]
    }
    if kind in ("boundary", "restore"):
        edit["positions"] = "boundary"
    if kind == "released":
        edit["renormalise"] = True
    return edit


def head_values(variant: Mapping[str, Any], edit: Mapping[str, Any], means: Mapping[str, np.ndarray]) -> np.ndarray:
    """What z of the edited heads is replaced by.

    Args:
        means: output of `average_heads`.

    Returns:
        mean: [head, d_head]; restore: [boundary token, head, d_head]; heads in the order of the edit.

    Raises:
        UserError: the model has no trace of the kind that the mean is over.
    """
    name, remedy = {
        "mean": ("benign_mean", "heads.benign: the model answered none of these prompts"),
        "restore": ("refused_boundary", "heads.refused: the model refused none of these prompts"),
    }[variant["kind"]]
    if name not in means:
        raise UserError(
            f"{remedy}, so there is nothing to put in place of a head's output; name other datasets of set fit, or "
            f"take {variant['kind']} out of ablation.interventions and grid.interventions"
        )
    layers, heads = zip(*((layer, head) for layer, head, _scale in edit["head_scales"]), strict=True)
    return means[name][..., list(layers), list(heads), :]


def hooked(model: "PreTrainedModel", edit: Mapping[str, Any], n_boundary: int) -> AbstractContextManager[None]:
    """The part of an edit that `models.apply_edit` leaves to hooks: nothing for most.

    Args:
        edit: output of `models.read_edit`.
        n_boundary: number of boundary tokens.
    """
    from refusal_cliff.hooks import boundary_heads, renormalised_heads

    scales = {(layer, head): scale for layer, head, scale in edit.get("head_scales", ())}
    if edit.get("positions") == "boundary":
        return boundary_heads(model, scales, n_boundary, edit.get("head_values"))
    if edit.get("renormalise"):
        return renormalised_heads(model, scales)
    return nullcontext()


def reference_traces(
    traces: pd.DataFrame, prompts: pd.DataFrame, behaviour: pd.DataFrame, datasets: list[str], refused: bool
) -> pd.DataFrame:
    """Closed traces of the named datasets that the model refused, or that it did not; possibly none.

    Args:
        behaviour: prompt_id, sample, refused; output of `probes.behaviour`.
    """
    wanted = prompts.loc[prompts["dataset"].isin(datasets), "prompt_id"]
    known = behaviour.loc[behaviour["refused"] == refused, TRACE_KEY]
    kept = traces[traces["prompt_id"].isin(wanted) & (traces["finish_reason"] != "unclosed")]
    return kept.merge(known, on=TRACE_KEY, validate="one_to_one")


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
