"""Which attention heads write for or against refusal at the boundary, and rankings of them.

An `effect` is what a head adds to the probe's logit w·h + b at the last boundary token; rank 1 is the most negative:
the strongest suppressor of refusal.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.stats import bootstrap_band
from refusal_cliff.traces import TRACE_KEY, EncodedTrace, length_batches, pad_left

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


RANKING_COLUMNS = ["layer", "head", "effect", "low", "high", "n", "rank"]
NEAREST = 3
"""How many heads of a layer a matched control draws from."""
GRADIENT_TOKENS = 8192
"""Of a batch of `gradient_effects`, which keeps what every layer computed for its backward pass."""


def direct_contributions(
    model: "PreTrainedModel", encoded: list[EncodedTrace], w: np.ndarray, pad_id: int, batch_size: int
) -> np.ndarray:
    """Each head's own write, projected on the probe's direction: z · W_O[:, head] · (w as seen through the final norm).

    The final norm is linear once its scale is frozen at the value it has in the unedited run, so the contributions of
    all heads, MLPs and the embedding add up to the logit. No bias enters: a bias belongs to no head.

    Args:
        w: [d_model], the last layer's probe, which reads the state after the final norm.

    Returns:
        [trace, layer, head], in logits.
    """
    import torch

    from refusal_cliff.hooks import captured_final_residual, captured_heads
    from refusal_cliff.models import final_norm, head_counts, output_projection, run

    n_layers, n_heads, d_head = head_counts(model)
    norm = final_norm(model)
    direction = torch.as_tensor(w, dtype=torch.float32)
    contributions = np.empty((len(encoded), n_layers, n_heads))
    for batch in length_batches([trace.ids for trace in encoded], batch_size):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.inference_mode(), captured_heads(model, last=1) as z, captured_final_residual(model) as residual:
            run(model, ids, mask, logits_to_keep=1)
            frozen = _frozen_norm(norm, residual["resid"][:, -1])
            seen = direction.to(frozen.device) * frozen
            for layer in range(n_layers):
                # A model on several devices has its layers on different ones.
                weight = output_projection(model, layer).weight.float().unflatten(-1, (n_heads, d_head))
                last = z[layer][:, -1].float()
                written = torch.einsum("bhe,dhe,bd->bh", last, weight.to(last.device), seen.to(last.device))
                contributions[batch, layer] = written.cpu().numpy()
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
    model: "PreTrainedModel", encoded: list[EncodedTrace], w: np.ndarray, pad_id: int, batch_size: int
) -> np.ndarray:
    """The exact change that ablating each head, alone and at every position, makes to the probe's logit.

    Sees what a head does through later layers too, at the price of running the layers above for each head.

    Args:
        w: [d_model], the last layer's probe. Its bias cancels.

    Returns:
        [trace, layer, head]: logit of the unedited run minus logit of the ablated run.
    """
    import torch
    from tqdm import tqdm

    from refusal_cliff.hooks import captured_blocks, run_from, scaled_heads
    from refusal_cliff.models import head_counts, run

    n_layers, n_heads, _ = head_counts(model)
    direction = torch.as_tensor(w, dtype=torch.float64)
    effects = np.empty((len(encoded), n_layers, n_heads))
    batches = list(length_batches([trace.ids for trace in encoded], batch_size))
    for batch in tqdm(batches, desc="batches", mininterval=10):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.inference_mode(), captured_blocks(model) as blocks:
            run(model, ids, mask, logits_to_keep=1)
        # Ablating a head leaves the layers below untouched: every run starts at the head's own layer.
        clean = run_from(model, blocks, n_layers - 1)[:, -1].cpu().double() @ direction
        for layer, head in np.ndindex(n_layers, n_heads):
            with scaled_heads(model, {(layer, head): 0.0}):
                changed = run_from(model, blocks, layer)[:, -1].cpu().double() @ direction
            effects[batch, layer, head] = (clean - changed).numpy()
    return effects


def gradient_effects(
    model: "PreTrainedModel", encoded: list[EncodedTrace], w: np.ndarray, pad_id: int, batch_size: int
) -> np.ndarray:
    """First-order approximation of `causal_effects` (attribution patching, Nanda 2023; Syed et al. 2023).

    Ablating a head moves its z to zero at every position, so the logit changes by about the sum over positions of
    z · d logit / d z: one forward and one backward pass for all heads together.

    Args:
        w: [d_model], the last layer's probe. Its bias cancels.

    Returns:
        [trace, layer, head], in logits.
    """
    import torch

    from refusal_cliff.hooks import watched_heads
    from refusal_cliff.models import head_counts, run

    n_layers, n_heads, _ = head_counts(model)
    direction = torch.as_tensor(w, dtype=torch.float32)
    effects = np.empty((len(encoded), n_layers, n_heads))
    for batch in length_batches([trace.ids for trace in encoded], batch_size, GRADIENT_TOKENS):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.enable_grad(), watched_heads(model) as z:
            states = run(model, ids, mask, output_hidden_states=True, logits_to_keep=1).hidden_states
            # Traces of a batch do not touch each other, so the gradient of the sum is each trace's own.
            logits = states[-1][:, -1].float() @ direction.to(states[-1].device)
            gradients = torch.autograd.grad(logits.sum(), [z[layer] for layer in range(n_layers)])
        for layer, gradient in enumerate(gradients):
            product = z[layer].detach().double() * gradient.double()
            effects[batch, layer] = product.sum(dim=(1, 3)).cpu().numpy()
    return effects


EFFECTS = {"direct": direct_contributions, "causal": causal_effects, "gradient": gradient_effects}
"""How a ranking measures heads: all give [trace, layer, head] in logits."""


def rank_heads(effects: np.ndarray, seed: int) -> pd.DataFrame:
    """Mean effect of every head with a 95 % bootstrap interval over traces, ranked from the strongest suppressor.

    Args:
        effects: [trace, layer, head].

    Returns:
        One row per head: layer, head, effect, low, high (missing with one trace), n (traces), rank (from 1).
    """
    n, n_layers, n_heads = effects.shape
    mean, low, high = bootstrap_band(effects.reshape(n, -1), seed)
    layer, head = np.divmod(np.arange(n_layers * n_heads), n_heads)
    table = pd.DataFrame(
        {
            "layer": layer,
            "head": head,
            "effect": mean,
            "low": low,
            "high": high,
            "n": n,
        }
    )
    return _ranked(table.sort_values("effect"))


def promoting_ranking(ranking: pd.DataFrame) -> pd.DataFrame:
    """The opposite control: the same heads, strongest promoter of refusal first."""
    return _ranked(ranking.sort_values("rank", ascending=False))


def random_ranking(ranking: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The random control: the same heads in random order, without an effect."""
    shuffled = ranking.sort_values(["layer", "head"]).sample(frac=1, random_state=seed)
    return _ranked(shuffled.assign(effect=np.nan, low=np.nan, high=np.nan, n=0))


def matched_ranking(ranking: pd.DataFrame, norms: np.ndarray, fraction: float, seed: int) -> pd.DataFrame:
    """The random control matched in layer and norm: for each top head in turn, another head much like it.

    That is one of the `NEAREST` heads of the same layer that are nearest in the norm of what they write, drawn with the
    seed; neither top heads nor heads drawn before are eligible. A layer whose other heads are used up lends from the
    nearest layer. The heads not drawn follow in random order. Where a layer has few heads, or the top heads are unlike
    all others, there is little to choose from and draws repeat: `NEAREST` bounds how unlike a match may be, and how
    many different draws there are.

    Args:
        ranking: the ranking whose first `fraction` is to be matched.
        norms: [layer, head], output of `interventions.write_norms`.

    Returns:
        As `random_ranking`.
    """
    rng = np.random.default_rng(seed)
    top = top_heads(ranking, fraction)
    free = sorted(set(zip(ranking["layer"].astype(int), ranking["head"].astype(int), strict=True)) - set(top))
    drawn = []
    for layer, head in top[: len(free)]:
        nearest = min({other for other, _ in free}, key=lambda other: (abs(other - layer), other))
        alike = sorted(
            (pair for pair in free if pair[0] == nearest), key=lambda pair: abs(norms[pair] - norms[layer, head])
        )[:NEAREST]
        drawn.append(alike[rng.integers(len(alike))])
        free.remove(drawn[-1])
    rest = [*free, *top]
    order = [*drawn, *(rest[place] for place in rng.permutation(len(rest)))]
    chosen = ranking.set_index(["layer", "head"]).loc[order].reset_index()
    return _ranked(chosen.assign(effect=np.nan, low=np.nan, high=np.nan, n=0))


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(rank=np.arange(1, len(table) + 1))[RANKING_COLUMNS].reset_index(drop=True)


def head_count(fraction: float, n_heads: int) -> int:
    """How many heads are `fraction` of all `n_heads` of a model: rounded, and at least one."""
    return max(1, round(fraction * n_heads))


def top_heads(ranking: pd.DataFrame, fraction: float) -> list[tuple[int, int]]:
    """The first `fraction` of a ranking as (layer, head), rounded to whole heads and at least one."""
    first = ranking.nsmallest(head_count(fraction, len(ranking)), "rank")
    return [(int(layer), int(head)) for layer, head in zip(first["layer"], first["head"], strict=True)]


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
