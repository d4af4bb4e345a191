"""Load causal language models and name the parts that probing and editing need.

The one place that knows architectures. All supported ones are pre-norm decoders whose attention output projection
writes straight into the residual stream, so that a head's contribution is linear up to the final norm.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from refusal_cliff.errors import UserError
from refusal_cliff.traces import length_switch

Row = Mapping[str, Any]
DEFAULT_ROW: Row = MappingProxyType({"dtype": "auto", "trust_remote_code": False, "config_override": {}})
OTHER_SENSES = ("vision", "visual", "audio", "multi_modal_projector", "mm_projector")
"""Parts of models that also see or hear, such as Llama Guard 4: text does not pass through them."""
HeadScales = Iterable[tuple[int, int, float]]


def load_tokenizer(folder: str | Path, row: Row = DEFAULT_ROW) -> PreTrainedTokenizerBase:
    """Load a tokenizer with left padding, so that position -1 is the last token of every sequence in a batch.

    Args:
        row: of the model sheet; trust_remote_code is read.

    Raises:
        UserError: the folder has no tokenizer that can be read.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, padding_side="left", trust_remote_code=row["trust_remote_code"], local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: its tokenizer cannot be read ({_reason(error)}); the folder needs tokenizer.json and "
            "tokenizer_config.json as save_pretrained writes them"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(folder: str | Path, row: Row = DEFAULT_ROW) -> PretrainedConfig:
    """The model's configuration, with what the row overrides.

    Raises:
        UserError: it cannot be read, or an override names no key of it.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=row["trust_remote_code"], local_files_only=True)
    except Exception as error:  # a library checks it, in ways of its own
        raise UserError(f"{folder}: config.json cannot be read: {_reason(error)}") from error
    for key, value in row["config_override"].items():
        *parents, last = key.split(".")
        part = config
        for parent in parents:
            part = getattr(part, parent, None)
        if not hasattr(part, last):
            raise UserError(f"{folder}: config.json has no key {key!r}, named in config_override of the model sheet")
        setattr(part, last, value)
    return config


def load_model(folder: str | Path, row: Row = DEFAULT_ROW, *, weights: bool = True) -> PreTrainedModel:
    """Load a model for inference: all of its weights, and nothing of its own generation settings but end tokens.

    Args:
        folder: a Hugging Face model folder; only safetensors weights are read.
        row: of the model sheet; dtype (`auto` is that of the checkpoint), trust_remote_code and config_override (key of
            config.json, with dots for nested ones -> value) are read.
        weights: False reads no more of them than names and shapes: the model is on the meta device.

    Raises:
        UserError: the checkpoint cannot be read, lacks tensors, has others or of other shapes, or numbers that are
            none.
    """
    device = "auto" if torch.cuda.is_available() else None
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            config=load_config(folder, row),
            dtype=row["dtype"] if row["dtype"] == "auto" else getattr(torch, row["dtype"]),
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=row["trust_remote_code"],
            local_files_only=True,
            device_map=device if weights else "meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with the others
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise UserError(
            f"{folder}: the model cannot be loaded ({_reason(error)}); compare the folder with its source, "
            "download it again, or correct a value of config.json with config_override in the model sheet"
        ) from error
    wrong = {
        "lacks": found["missing_keys"],
        "does not fit its config.json, which has no place for": {
            key for key in found["unexpected_keys"] if not key.removeprefix("model.").startswith(OTHER_SENSES)
        },
        "has another shape for": {key for key, *_ in found["mismatched_keys"]},
    }
    for fault, names in wrong.items():
        if names:
            raise UserError(
                f"{folder}: the checkpoint {fault} {len(names)} tensors (first: {min(names)}), so the model would run "
                "with weights that nobody trained; compare config.json with the weights, or download both again"
            )
    if weights:
        _check_numbers(model, folder)
    # Whatever the model's own file sets beside them (repetition_penalty, min_p, …) would change traces unseen.
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    return model.eval().requires_grad_(False)


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder blocks, first to last."""
    return model.get_decoder().layers


def output_projection(model: PreTrainedModel, layer: int) -> nn.Linear:
    """The attention output projection `o_proj` of a layer, weight [d_model, head * d_head]."""
    return blocks(model)[layer].self_attn.o_proj


def final_norm(model: PreTrainedModel) -> nn.Module:
    """The norm between the last block and the unembedding."""
    return model.get_decoder().norm


def unembedding_rows(model: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    """What the model reads some next tokens off the final state with: [token, d_model] in float64, on the CPU.

    The product with a state after the final norm is the token's logit: no supported architecture has a bias there, or
    does anything else to logits.
    """
    return model.get_output_embeddings().weight[tokens].cpu().double()


def head_counts(model: PreTrainedModel) -> tuple[int, int, int]:
    """Number of layers, of query heads per layer, and the dimension of a head."""
    config = model.config
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers, config.num_attention_heads, d_head


def split_heads(projection_input: torch.Tensor, n_heads: int) -> torch.Tensor:
    """View the input of `o_proj`, [..., head * d_head], as z, [..., head, d_head]."""
    return projection_input.unflatten(-1, (n_heads, -1))


@torch.no_grad()
def set_heads(model: PreTrainedModel, head_scales: HeadScales, values: np.ndarray | None = None) -> None:
    """Make what heads write that of scale * z + value at every position, in place; scale 0 alone ablates a head.

    The columns of `o_proj` multiply a head's z before the output projection mixes heads, so scaling them equals scaling
    z. (Scaling the projection's *output* would act on all heads at once.) A constant z writes a constant, which is the
    projection's bias; most architectures have none, and get one.

    Args:
        values: [head, d_head], in the order of `head_scales`; zero if not given.

    Raises:
        UserError: a layer or head that the model does not have.
    """
    n_layers, n_heads, d_head = head_counts(model)
    for place, (layer, head, scale) in enumerate(head_scales):
        if not (0 <= layer < n_layers and 0 <= head < n_heads):
            raise UserError(
                f"head ({layer}, {head}) does not exist: the model has {n_layers} layers of {n_heads} heads"
            )
        projection = output_projection(model, layer)
        columns = projection.weight[:, head * d_head : (head + 1) * d_head]
        if values is not None:
            value = torch.as_tensor(values[place], dtype=torch.float32, device=columns.device)
            constant = (columns.float() @ value).to(columns.dtype)
            if projection.bias is not None:
                constant = constant + projection.bias
            projection.bias = nn.Parameter(constant, requires_grad=False)
        columns *= scale


@torch.no_grad()
def add_direction(model: PreTrainedModel, layer: int, direction: np.ndarray) -> None:
    """Add a vector to what the attention of a layer writes, at every position, in place.

    It is a bias of the output projection, of which most architectures have none; `with_biases` makes such a model one
    that can be saved. The block's MLP and all that comes later read it.

    Args:
        direction: [d_model].

    Raises:
        UserError: a layer that the model does not have.
    """
    n_layers = len(blocks(model))
    if not 0 <= layer < n_layers:
        raise UserError(f"layer {layer} does not exist: the model has {n_layers} layers, from 0")
    projection = output_projection(model, layer)
    bias = torch.as_tensor(direction).to(projection.weight)
    if projection.bias is not None:
        bias = bias + projection.bias
    projection.bias = nn.Parameter(bias, requires_grad=False)


@torch.no_grad()
def with_biases(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, in a format that holds the biases that edits gave it: where loading it anew would not drop them.

    A bias of the output projection is in a format whose config has `attention_bias`; the other biases that this stands
    for are zero. A model without a bias there is left as it is.

    Raises:
        UserError: the architecture has no such format.
    """
    own = dict(model.named_parameters())
    if all(output_projection(model, layer).bias is None for layer in range(len(blocks(model)))):
        return model
    config = copy.deepcopy(model.config)
    config.attention_bias = True
    with torch.device("meta"):
        wanted = dict(type(model)(config).named_parameters())
    if set(own) - set(wanted):
        raise UserError(
            f"this variant adds a bias to the attention's output projection, and the format of {type(model).__name__} "
            "has none: no folder of weights can say it; what is measured here has the bias all the same"
        )
    for name in set(wanted) - set(own):
        module, _, leaf = name.rpartition(".")
        zeros = torch.zeros(wanted[name].shape, dtype=model.dtype, device=model.device)
        setattr(model.get_submodule(module), leaf, nn.Parameter(zeros, requires_grad=False))
    model.config = config
    return model


def pass_inputs(model: PreTrainedModel, ids: Any, mask: Any) -> dict[str, torch.Tensor]:
    """Arguments of a forward pass over left-padded token ids: positions count from each sequence's first real token.

    Args:
        ids, mask: integer arrays [batch, pos].
    """
    ids = torch.as_tensor(ids, device=model.device)
    mask = torch.as_tensor(mask, device=model.device)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def run(model: PreTrainedModel, ids: Any, mask: Any, **options: Any) -> Any:
    """Forward pass over left-padded token ids [batch, pos]."""
    return model(**pass_inputs(model, ids, mask), use_cache=False, **options)


def run_decoder(model: PreTrainedModel, ids: Any, mask: Any, **options: Any) -> Any:
    """As `run`, up to the final norm: no logits, which take more memory than all else in a pass."""
    return model.get_decoder()(**pass_inputs(model, ids, mask), use_cache=False, **options)


def run_prefix(model: PreTrainedModel, ids: Any, mask: Any, width: int) -> dict[str, Any]:
    """Run all but the last `width` columns, and return the arguments of a decoder pass over those: with a cache.

    With longrope the largest position decides on the frequencies of a pass, and the first part alone may be on the
    other side of the switch; so a column of padding in front says where the second will end.
    """
    switched = length_switch(model) is not None
    if switched:
        ids, mask = (nn.functional.pad(torch.as_tensor(part), (1, 0)) for part in (ids, mask))
    inputs = pass_inputs(model, ids, mask)
    if switched:
        inputs["position_ids"][:, 0] = inputs["position_ids"].max()
    # A cache that knows nothing of the model keeps every key, also those that a sliding window will not see.
    cached = {"past_key_values": DynamicCache(), "use_cache": True}
    model.get_decoder()(**{name: part[:, :-width] for name, part in inputs.items()}, **cached)
    rest = {name: part[:, -width:] for name, part in inputs.items()}
    return rest | {"attention_mask": inputs["attention_mask"]} | cached


@contextmanager
def eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let the model compute attention in the one way that returns its weights and spells out its masks."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _check_numbers(model: PreTrainedModel, folder: str | Path) -> None:
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise UserError(f"{folder}: tensor {name} holds NaN or infinity; download the weights again")


def _reason(error: BaseException) -> str:
    """What a library says, in one line."""
    return shorten(f"{type(error).__name__}: {' '.join(str(error).split())}", 240, placeholder=" …")
