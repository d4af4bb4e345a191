"""Load causal language models and name the parts that probing and editing need.

The one place that knows architectures. All supported ones are pre-norm decoders whose attention output projection
writes straight into the residual stream, so that a head's contribution is linear up to the final norm.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from refusal_cliff.errors import UserError

HeadScales = Iterable[tuple[int, int, float]]


def load_tokenizer(folder: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a tokenizer with left padding, so that position -1 is the last token of every sequence in a batch."""
    tokenizer = AutoTokenizer.from_pretrained(
        folder, padding_side="left", trust_remote_code=trust_remote_code, local_files_only=True
    )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(folder: str | Path, dtype: str = "auto", trust_remote_code: bool = False) -> PreTrainedModel:
    """Load a model for inference.

    Args:
        folder: a Hugging Face model folder; only safetensors weights are read.
        dtype: `float32`, `bfloat16`, `float16`, or `auto` for the dtype of the checkpoint.
    """
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype if dtype == "auto" else getattr(torch, dtype),
        attn_implementation="sdpa",
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        local_files_only=True,
        device_map="auto" if torch.cuda.is_available() else None,
    )
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
    """Run all but the last `width` columns, and return the arguments of a decoder pass over those: with a cache."""
    inputs = pass_inputs(model, ids, mask)
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
