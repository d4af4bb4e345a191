"""Load causal language models and name the parts that probing and editing need.

The one place that knows architectures. All supported ones are pre-norm decoders whose attention output projection
writes straight into the residual stream, so that a head's contribution is linear up to the final norm.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from refusal_cliff.architectures import check_architecture
from refusal_cliff.artifacts import read_json, read_tensors
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


def load_model(
    folder: str | Path, dtype: str = "auto", trust_remote_code: bool = False, variant: str | Path | None = None
) -> PreTrainedModel:
    """Load a model for inference and apply the edit of a variant, if one is given.

    Args:
        folder: a Hugging Face model folder; only safetensors weights are read.
        dtype: `float32`, `bfloat16`, `float16`, or `auto` for the dtype of the checkpoint.
        variant: folder with the variant's `edit.json`.
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
    if variant is not None:
        model = apply_edit(model, Path(variant))
    return model.eval().requires_grad_(False)


def read_edit(variant: Path) -> dict[str, Any]:
    """The edit of a variant, with `head_values` as the tensor [..., head, d_head] that its file beside it holds."""
    edit = read_json(variant / "edit.json")
    if "head_values" in edit:
        edit["head_values"] = read_tensors(variant / edit["head_values"])["values"]
    return edit


def apply_edit(model: PreTrainedModel, variant: Path) -> PreTrainedModel:
    """Change the weights of `model` as `variant/edit.json` says: merge an adapter, then change heads.

    What weights cannot express, a change at the boundary alone or a renormalised one, is left to
    `interventions.hooked`.
    """
    edit = read_edit(variant)
    if "adapter" in edit:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, variant / edit["adapter"]).merge_and_unload()
    if edit.get("positions") != "boundary" and not edit.get("renormalise"):
        set_heads(model, edit.get("head_scales", ()), edit.get("head_values"))
    return model


def layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder blocks, first to last.

    Raises:
        UserError: the architecture is not supported.
    """
    check_architecture(model.config.model_type, model.name_or_path)
    return model.get_decoder().layers


def output_projection(model: PreTrainedModel, layer: int) -> nn.Linear:
    """The attention output projection `o_proj` of a layer, weight [d_model, head * d_head]."""
    return layers(model)[layer].self_attn.o_proj


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
def set_heads(model: PreTrainedModel, head_scales: HeadScales, values: torch.Tensor | None = None) -> None:
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
            constant = (columns.float() @ values[place].float().to(columns.device)).to(columns.dtype)
            if projection.bias is not None:
                constant = constant + projection.bias
            projection.bias = nn.Parameter(constant, requires_grad=False)
        columns *= scale


def run(model: PreTrainedModel, ids: Any, mask: Any, **options: Any) -> Any:
    """Forward pass over left-padded token ids, with positions counted from each sequence's first real token.

    Args:
        ids, mask: integer arrays [batch, pos].
    """
    ids = torch.as_tensor(ids, device=model.device)
    mask = torch.as_tensor(mask, device=model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, **options)
