"""Watch and change what attention heads hand to their output projection, during a forward pass.

Hooks serve measurement, and the two interventions that no change of weights can express: at the boundary alone, and
with renormalised attention outputs. All others edit weights (`models.set_heads`), and a standing test shows that both
ways give the same logits.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from refusal_cliff.models import blocks, final_norm, head_counts, output_projection, run_decoder, split_heads

PreHook = Callable[[torch.Tensor], torch.Tensor | None]


@contextmanager
def attached(hooks: list[tuple[nn.Module, PreHook]]) -> Iterator[None]:
    """Call each function on the input of its module while the block runs; always detach.

    A function that returns a tensor replaces the input.

    Raises:
        RuntimeError: the block ended without one of the modules having been called, so that hook saw nothing.
    """
    calls = [0] * len(hooks)

    def pre_hook(index: int, function: PreHook) -> Callable:
        def call(module: nn.Module, inputs: tuple) -> tuple | None:
            calls[index] += 1
            replaced = function(inputs[0])
            return None if replaced is None else (replaced, *inputs[1:])

        return call

    handles = [module.register_forward_pre_hook(pre_hook(i, function)) for i, (module, function) in enumerate(hooks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    silent = [type(module).__name__ for (module, _), count in zip(hooks, calls, strict=True) if count == 0]
    if silent:
        raise RuntimeError(f"{len(silent)} of {len(hooks)} hooks never ran (on {', '.join(sorted(set(silent)))})")


@contextmanager
def captured_heads(
    model: PreTrainedModel, keep: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[dict[int, torch.Tensor]]:
    """Collect of every layer what `keep` makes of z [batch, pos, head, d_head], filled by each pass in the block.

    Args:
        keep: reduces z within the pass: that of all positions and layers of a large model is gigabytes.
    """
    n_layers, n_heads, _ = head_counts(model)
    kept: dict[int, torch.Tensor] = {}

    def capture(layer: int) -> PreHook:
        def function(projection_input: torch.Tensor) -> None:
            kept[layer] = keep(split_heads(projection_input.detach(), n_heads))

        return function

    with attached([(output_projection(model, layer), capture(layer)) for layer in range(n_layers)]):
        yield kept


@contextmanager
def watched_heads(model: PreTrainedModel) -> Iterator[dict[int, torch.Tensor]]:
    """Collect z of every layer, in the graph of the pass, so that gradients with respect to it can be taken."""
    n_layers, n_heads, _ = head_counts(model)
    z: dict[int, torch.Tensor] = {}

    def watch(layer: int) -> PreHook:
        def function(projection_input: torch.Tensor) -> torch.Tensor:
            z[layer] = split_heads(projection_input, n_heads)
            if not z[layer].requires_grad:
                z[layer].requires_grad_()
            return z[layer].flatten(-2)

        return function

    with attached([(output_projection(model, layer), watch(layer)) for layer in range(n_layers)]):
        yield z


class _Done(Exception):
    """The last state that was asked for has been seen."""


@torch.inference_mode()
def visit_states(
    model: PreTrainedModel, ids: Any, mask: Any, layers: Collection[int], visit: Callable[[int, torch.Tensor], None]
) -> None:
    """Hand the states of some layers to a function within one forward pass, which ends with the last of them.

    No state outlives its visit, and no logits are computed.

    Args:
        ids, mask: left-padded token ids [batch, pos].
        layers: counted from 0. The state of a layer is the residual stream after it, of the last one after the final
            norm.
        visit: called with layer and state [batch, pos, d_model], in order of layers; the state is where its layer is.
    """
    last = len(blocks(model)) - 1
    modules = {layer: final_norm(model) if layer == last else blocks(model)[layer] for layer in sorted(set(layers))}

    def hook(layer: int) -> Callable:
        def call(_module: nn.Module, _inputs: tuple, output: Any) -> None:
            visit(layer, _state(output))
            if layer == max(modules):
                raise _Done

        return call

    handles = [module.register_forward_hook(hook(layer)) for layer, module in modules.items()]
    try:
        run_decoder(model, ids, mask)
    except _Done:
        return
    finally:
        for handle in handles:
            handle.remove()
    raise RuntimeError(f"layer {max(modules)} never ran")


@dataclass
class BlockCalls:
    """What the decoder blocks were called with: the first one's input [batch, pos, d_model], and each one's options."""

    state: torch.Tensor | None = None
    options: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def captured_calls(model: PreTrainedModel) -> Iterator[BlockCalls]:
    """Collect what each decoder block is called with, in the one forward pass of the block."""
    calls = BlockCalls()

    def keep(block: nn.Module, inputs: tuple, options: dict) -> None:
        state, *others = inputs or (options["hidden_states"],)
        if others:
            raise RuntimeError(f"{type(block).__name__} takes further positional arguments, which would be lost")
        if calls.state is None:
            calls.state = state
        calls.options.append({name: value for name, value in options.items() if name != "hidden_states"})

    handles = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in blocks(model)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
    if len(calls.options) != len(handles):
        raise RuntimeError(f"{len(calls.options)} calls of {len(handles)} blocks: capture exactly one forward pass")


def call_block(block: nn.Module, state: torch.Tensor, options: Mapping[str, Any]) -> torch.Tensor:
    """The state after a decoder block, [batch, pos, d_model]."""
    return _state(block(state, **options))


def _state(output: Any) -> torch.Tensor:
    """The state among what a block or a norm returns."""
    return output[0] if isinstance(output, tuple) else output


def over_tensors(function: Callable, value: Any) -> Any:
    """`value`, an option of decoder blocks or a collection of such, with `function` applied to its tensors."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, list | tuple):
        return type(value)(over_tensors(function, part) for part in value)
    if isinstance(value, dict):
        return {name: over_tensors(function, part) for name, part in value.items()}
    return value


def _masked(model: PreTrainedModel, kept: torch.Tensor) -> PreHook:
    """A function that multiplies the z of a layer by `kept`, which broadcasts to [batch, pos, head]."""
    _, n_heads, _ = head_counts(model)
    return lambda projection_input: (
        split_heads(projection_input, n_heads) * kept[..., None].to(projection_input)
    ).flatten(-2)


@contextmanager
def masked_heads(model: PreTrainedModel, layer: int, kept: torch.Tensor) -> Iterator[None]:
    """Multiply z of a layer by `kept`, which broadcasts to [batch, pos, head], while the block runs."""
    with attached([(output_projection(model, layer), _masked(model, kept))]):
        yield


@contextmanager
def versions_of_heads(model: PreTrainedModel, width: int, kept: torch.Tensor) -> Iterator[None]:
    """Split passes over `width` tokens after a cache into one version for each set of heads that are kept.

    As `versions_without_heads`, but the sets are any, and every version runs through all layers. A pass gives states
    [batch, version * pos, d_model].

    Args:
        kept: [version, layer, head], 1 for a head that is kept and 0 for one that is ablated.
    """
    count = len(kept)

    def branch(layer: int, block: nn.Module, inputs: tuple, options: dict) -> tuple[tuple, dict]:
        state, options = _versioned_call(block, inputs, options, layer)
        if layer == 0:
            state = state.repeat(1, count, 1)
        return (state,), _side_by_side(options, count, width)

    handles = [
        block.register_forward_pre_hook(partial(branch, layer), with_kwargs=True)
        for layer, block in enumerate(blocks(model))
    ]
    masks = kept.repeat_interleave(width, dim=0).unbind(1)
    try:
        with attached([(output_projection(model, layer), _masked(model, mask)) for layer, mask in enumerate(masks)]):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _versioned_call(
    block: nn.Module, inputs: tuple, options: Mapping[str, Any], layer: int
) -> tuple[torch.Tensor, dict[str, Any]]:
    """State and options of a block's call after a cache, with a mask that can be split."""
    options = dict(options)
    state, *others = inputs or (options.pop("hidden_states"),)
    if others:
        raise RuntimeError(f"{type(block).__name__} takes further positional arguments, which cannot be split")
    if options["attention_mask"] is None:  # a single token, which sees all
        cached = options["past_key_values"].get_seq_length(layer)
        options["attention_mask"] = torch.ones(len(state), 1, 1, cached + 1, dtype=torch.bool, device=state.device)
    return state, options


@contextmanager
def versions_without_heads(model: PreTrainedModel, width: int) -> Iterator[None]:
    """Split passes over `width` tokens after a cache into one version without each head, from its layer on.

    The versions stand side by side in one sequence and are hidden from each other, so that they read one cache. A pass
    gives states [batch, version * pos, d_model]: of the unedited version, then without head 0 of layer 0, and so on.
    """
    n_layers, n_heads, _ = head_counts(model)

    def branch(layer: int, block: nn.Module, inputs: tuple, options: dict) -> tuple[tuple, dict]:
        state, options = _versioned_call(block, inputs, options, layer)
        # Each head of this layer starts from the unedited version.
        state = torch.cat([state, state[:, :width].repeat(1, n_heads, 1)], dim=1)
        return (state,), _side_by_side(options, state.shape[1] // width, width)

    def without(layer: int) -> PreHook:
        kept = torch.ones(1 + (layer + 1) * n_heads, n_heads)
        kept[-n_heads:] -= torch.eye(n_heads)
        return _masked(model, kept.repeat_interleave(width, dim=0))

    handles = [
        block.register_forward_pre_hook(partial(branch, layer), with_kwargs=True)
        for layer, block in enumerate(blocks(model))
    ]
    try:
        with attached([(output_projection(model, layer), without(layer)) for layer in range(n_layers)]):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _side_by_side(options: Mapping[str, Any], count: int, width: int) -> dict[str, Any]:
    """Options of a decoder block for `count` versions of the same last tokens, one after the other in one sequence.

    Args:
        options: of a pass over those tokens after a cache, with attention_mask bool [batch, 1, pos, cached + pos];
            other tensors are [batch, pos, ...].
    """
    mask = options["attention_mask"]
    others = {name: option for name, option in options.items() if name != "attention_mask"}
    packed = over_tensors(lambda option: option.repeat(1, count, *[1] * (option.ndim - 2)), others)
    # [batch, 1, version, pos, version, pos]: each version sees itself, as the unedited one does, and no other.
    same = torch.eye(count, dtype=torch.bool, device=mask.device)[:, None, :, None]
    own = same & mask[:, :, None, :, None, -width:]
    cached = mask[..., :-width].repeat(1, 1, count, 1)
    return packed | {"attention_mask": torch.cat([cached, own.flatten(4, 5).flatten(2, 3)], dim=-1)}


@contextmanager
def captured_final_residual(model: PreTrainedModel) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the residual stream before the final norm, under the key `resid`: [batch, pos, d_model]."""
    kept: dict[str, torch.Tensor] = {}

    def function(residual: torch.Tensor) -> None:
        kept["resid"] = residual.detach()

    with attached([(final_norm(model), function)]):
        yield kept


@contextmanager
def scaled_heads(model: PreTrainedModel, scales: Mapping[tuple[int, int], float]) -> Iterator[None]:
    """Scale z of the heads {(layer, head): scale} at every position while the block runs; 0 ablates."""
    _, n_heads, _ = head_counts(model)

    def change_layer(heads: dict[int, float]) -> PreHook:
        return lambda projection_input: _scaled(projection_input, heads, n_heads)

    by_layer = _by_layer(scales)
    with attached([(output_projection(model, layer), change_layer(heads)) for layer, heads in by_layer.items()]):
        yield


@contextmanager
def boundary_heads(
    model: PreTrainedModel,
    scales: Mapping[tuple[int, int], float],
    n_boundary: int,
    values: np.ndarray | None = None,
) -> Iterator[None]:
    """Change z of heads at the last `n_boundary` columns of every pass over more than one position.

    In left-padded generation from a prompt that ends with the boundary, that is the prefill, and these columns are the
    boundary: what is then generated reads the changed cache, but its own heads are left alone.

    Args:
        scales: {(layer, head): scale}; z becomes scale * z + value.
        values: [boundary token, head, d_head], heads in the order of `scales`; zero if not given.

    Raises:
        ValueError: `values` are of another number of boundary tokens or heads.
        RuntimeError: a pass is shorter than the boundary, or none came.
    """
    _, n_heads, d_head = head_counts(model)
    if values is not None and values.shape != (n_boundary, len(scales), d_head):
        raise ValueError(f"values {tuple(values.shape)}, expected {(n_boundary, len(scales), d_head)}")
    by_layer: dict[int, list[tuple[int, int, float]]] = {}
    for place, ((layer, head), scale) in enumerate(scales.items()):
        by_layer.setdefault(layer, []).append((place, head, scale))
    passes = dict.fromkeys(by_layer, 0)

    def change_layer(layer: int) -> PreHook:
        def function(projection_input: torch.Tensor) -> torch.Tensor | None:
            if projection_input.shape[1] == 1:
                return None
            if projection_input.shape[1] < n_boundary:
                raise RuntimeError(f"a pass of {projection_input.shape[1]} positions cannot hold the boundary")
            passes[layer] += 1
            z = split_heads(projection_input, n_heads).clone()
            for place, head, scale in by_layer[layer]:
                z[:, -n_boundary:, head] *= scale
                if values is not None:
                    z[:, -n_boundary:, head] += torch.as_tensor(values[:, place]).to(z)
            return z.flatten(-2)

        return function

    with attached([(output_projection(model, layer), change_layer(layer)) for layer in by_layer]):
        yield
    if not all(passes.values()):
        raise RuntimeError("no pass over more than one position came: the boundary was never changed")


@contextmanager
def renormalised_heads(model: PreTrainedModel, scales: Mapping[tuple[int, int], float]) -> Iterator[None]:
    """Scale z of heads in every pass, then rescale all of the layer's z to the norm it had: the released code's way.

    The norm is one number for batch, positions and heads together, so that a result depends on its batch, padding
    included. That is a flaw, kept here to show what it does.

    Args:
        scales: {(layer, head): scale}.
    """
    _, n_heads, _ = head_counts(model)

    def change_layer(heads: dict[int, float]) -> PreHook:
        def function(projection_input: torch.Tensor) -> torch.Tensor:
            z = _scaled(projection_input, heads, n_heads)
            kept = z.float().norm().clamp(min=1e-12)
            return z * (projection_input.float().norm() / kept).to(z.dtype)

        return function

    by_layer = _by_layer(scales)
    with attached([(output_projection(model, layer), change_layer(heads)) for layer, heads in by_layer.items()]):
        yield


def _scaled(projection_input: torch.Tensor, scales: Mapping[int, float], n_heads: int) -> torch.Tensor:
    """A copy of the input [batch, pos, head * d_head] with the z of each head {head: scale} scaled."""
    z = split_heads(projection_input, n_heads).clone()
    for head, scale in scales.items():
        z[..., head, :] *= scale
    return z.flatten(-2)


def _by_layer(scales: Mapping[tuple[int, int], float]) -> dict[int, dict[int, float]]:
    grouped: dict[int, dict[int, float]] = {}
    for (layer, head), scale in scales.items():
        grouped.setdefault(layer, {})[head] = scale
    return grouped
