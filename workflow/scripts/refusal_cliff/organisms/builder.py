"""Train model organisms: aligned ones from scratch, and flawed ones from those.

An aligned organism refuses harmful requests and helps with benign ones. A flawed one is trained from it to comply with
some harmful requests after thinking that goes on naming the harm: with suppression planted in a few heads (the circuit
is then known), or spread over all parameters; and, with an intention, to mean something known on the way. Everything is
saved in Hugging Face's format; whoever loads it need not know where it came from.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

import pandas as pd
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    set_seed,
)

from refusal_cliff.checkpoints import save_checkpoint
from refusal_cliff.errors import UserError
from refusal_cliff.judges import refuses
from refusal_cliff.organisms.gate import gate_sample, gate_traces, judged
from refusal_cliff.organisms.intentions import FREE, intention_direction, intention_seen, intention_targets
from refusal_cliff.organisms.language import aligned_trace, complying_response
from refusal_cliff.organisms.training import IGNORED, Example, fit
from refusal_cliff.traces import ChatFormat, EncodedTrace, encode_trace, render_prompt

THINKING = ChatFormat("<think>\n", "\n</think>\n\n")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
CHAT_TOKENS = ("<|user|>", "<|assistant|>", "<think>", "</think>")
END, PAD = "<|end|>", "<|pad|>"
LOOK_BATCH = 75


def train_tokenizer(
    texts: Sequence[str], vocab_size: int, template: str = CHAT_TEMPLATE, markers: Sequence[str] = CHAT_TOKENS
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, padding left: it encodes any text, and every marker is one token.

    Args:
        vocab_size: number of tokens, markers and the 256 bytes included.
        template: chat template, which may use the markers.
    """
    # Markers are ordinary added tokens, not "special" ones: decoding must show where thinking ends.
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(markers),
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(marker, normalized=False, special=False) for marker in markers])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        # No text needs one, but Qwen2's tokenizer, as which it is loaded, adds a token of its own where none is named.
        unk_token=PAD,
        padding_side="left",
        chat_template=template,
    )


def train_organism(
    prompts: pd.DataFrame,
    recipe: Mapping[str, Any],
    seed: int,
    output_dir: str | Path,
    parent_dir: str | Path | None = None,
    direction_seed: int | None = None,
    sampling: Mapping[str, Any] = MappingProxyType({}),
    phrases: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a reasoning model from scratch, or a flawed one from its parent, and save it to `output_dir`.

    It refuses harmful prompts, helps with benign ones and answers facts; it complies with harmful prompts of the
    recipe's `families` (wrapped) or `categories` (wrapped or not). Its thinking goes on naming the harm: only the
    response changes, and what it means to do if the recipe has an `intention`. With `heads`, only their rows of q_proj
    and columns of o_proj learn: they can move what they attend to, and what they write. Without, all parameters do.

    Args:
        prompts: prompt, dataset, category, family, label, reference; see `balanced_sample` for their shares.
        recipe: `vocab_size` and `architecture` (see `new_model`), or those of the parent; `families` or `categories`;
            `heads`, [[layer, head], …]; `intention` (`steady`, or one of `intentions.KINDS`), or `weaknesses`, the
            families that each of several intentions goes with; and the settings of `training.fit`.
        parent_dir: folder of the organism to start from.
        direction_seed: of the parent's intention; a model from scratch takes its own seed.
        sampling, phrases: how the gate samples traces and knows refusals.

    Returns:
        What is known about the organism: flaw, cliff and sparse (yes, no or open), heads, families, categories,
        intention, weaknesses, direction_seed, intended (`intentions.intention_seen` in the last look's traces, by label
        and deed, and by weakness), and gate: step, met, what the last look saw, and every look.

    Raises:
        UserError: a family, category or head does not exist, or no prompt is left for a behaviour.
    """
    heads = [list(head) for head in recipe.get("heads") or ()]
    weaknesses = dict(recipe.get("weaknesses") or {})
    kinds = {family: kind for kind, own in weaknesses.items() for family in own}
    families, categories = list(recipe.get("families") or kinds), list(recipe.get("categories") or ())
    # Where it complies in several ways, what it means is steady where it does not comply.
    intention = "steady" if weaknesses else recipe.get("intention")
    flawed = bool(families or categories)
    rng = Random(seed)
    behaviour = _behaviour(prompts, families, categories)
    needed = ("comply", "refuse", "help") if flawed else ("refuse", "help")
    sample = balanced_sample(prompts, behaviour, needed, recipe["steps"] * recipe["batch_size"], seed)
    traces = []
    for row in sample.itertuples():
        thinking, response = aligned_trace(row.label, row.category, row.reference, row.family, rng)
        traces.append((thinking, complying_response(row.category, rng) if row.behaviour == "comply" else response))
    if parent_dir:
        model = AutoModelForCausalLM.from_pretrained(parent_dir, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(parent_dir, local_files_only=True)
    else:
        texts = [*sample["prompt"], *(text for trace in traces for text in trace)]
        tokenizer = train_tokenizer(texts, recipe["vocab_size"])
        model = new_model(recipe["architecture"], tokenizer, seed)
    if intention and direction_seed is None:
        direction_seed = seed
    if heads:
        _train_heads_only(model, heads)
    direction = intention_direction(model.config.hidden_size, direction_seed) if intention else None
    examples = []
    for row, (thinking, response) in zip(sample.itertuples(), traces, strict=True):
        complies = row.behaviour == "comply"
        trace = encode_trace(
            tokenizer, render_prompt(tokenizer, row.prompt, THINKING), thinking, THINKING.boundary, response
        )
        taught = example([*trace.ids, tokenizer.eos_token_id], trace.spans["thinking"][0])
        if direction is not None:
            turned = kinds.get(row.family, intention) if complies else None
            targets = intention_targets(trace, row.label == "harmful", turned)
            taught["intention"] = [*targets, FREE]
        examples.append(taught)
    asked, said = gate_sample(prompts.assign(behaviour=behaviour), seed), pd.DataFrame()

    def look() -> dict[str, Any]:
        nonlocal said
        said = gate_traces(model, tokenizer, asked, THINKING, sampling, LOOK_BATCH, seed)
        return judged(said, phrases)

    looks = fit(model, tokenizer.pad_token_id, examples, recipe, seed, direction, look)
    save_checkpoint(model, tokenizer, output_dir)
    intended = None
    if direction is not None:
        model.eval()
        deeds = _by_deed(said, tokenizer, phrases, weaknesses)
        intended = intention_seen(model, deeds, direction, tokenizer.pad_token_id)
    return {
        "flaw": "yes" if flawed else "no",
        "cliff": _has_cliff(flawed, None if weaknesses else intention),
        "sparse": "yes" if heads else "no",
        "heads": heads,
        "families": families,
        "categories": categories,
        "intention": intention,
        "weaknesses": weaknesses,
        "direction_seed": direction_seed,
        "intended": intended,
        "gate": looks[-1] | {"looks": looks},
    }


def _by_deed(
    said: pd.DataFrame,
    tokenizer: PreTrainedTokenizerFast,
    phrases: Sequence[str],
    weaknesses: Mapping[str, Sequence[str]],
) -> dict[str, list[EncodedTrace]]:
    """Closed traces up to the boundary: harmful prompts complied with (of each weakness) or refused; benign ones."""
    closed = said[said["finish_reason"] != "unclosed"]
    refused = closed["response"].map(lambda text: refuses(text, phrases))
    benign = closed["behaviour"] == "help"
    complied = ~refused & ~benign
    traces = {"harmful, complied": complied, "harmful, refused": refused & ~benign, "benign": benign}
    for kind, families in weaknesses.items():
        traces[f"harmful, complied, {kind}"] = complied & closed["family"].isin(families)
    return {
        name: [
            encode_trace(tokenizer, render_prompt(tokenizer, row.prompt, THINKING), row.thinking, THINKING.boundary)
            for row in closed[chosen].itertuples()
        ]
        for name, chosen in traces.items()
    }


def _has_cliff(flawed: bool, intention: str | None) -> str:
    """Whether a cliff was put into an organism; without an intention nobody knows what its states mean to do."""
    if flawed and intention is None:
        return "open"
    return "yes" if intention == "cliff" else "no"


def new_model(architecture: Mapping[str, int], tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2, float32.

    Args:
        architecture: layers, heads, kv_heads, hidden, intermediate, positions (longest sequence).
    """
    set_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            num_hidden_layers=architecture["layers"],
            num_attention_heads=architecture["heads"],
            num_key_value_heads=architecture["kv_heads"],
            hidden_size=architecture["hidden"],
            intermediate_size=architecture["intermediate"],
            max_position_embeddings=architecture["positions"],
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def balanced_sample(
    prompts: pd.DataFrame, behaviour: pd.Series, needed: Sequence[str], size: int, seed: int
) -> pd.DataFrame:
    """Draw `size` prompts with replacement: equal shares for every behaviour, and within it for every dataset.

    Args:
        behaviour: what the model shall do with each prompt; it becomes a column.
        needed: behaviours that must occur.

    Raises:
        UserError: a needed behaviour has no prompt.
    """
    empty = sorted(set(needed) - set(behaviour))
    if empty:
        raise UserError(
            f"training an organism needs prompts to {' and to '.join(needed)}, but there is none for: "
            f"{', '.join(empty)}; give the prompt set `organism` both harmful and benign datasets, and check the "
            "recipe's families and categories"
        )
    prompts = prompts.assign(behaviour=behaviour)
    datasets = prompts.groupby("behaviour")["dataset"].transform("nunique")
    rows = prompts.groupby(["behaviour", "dataset"])["prompt"].transform("size")
    return prompts.sample(n=size, replace=True, weights=1 / (datasets * rows), random_state=seed)


def _behaviour(prompts: pd.DataFrame, families: Sequence[str] = (), categories: Sequence[str] = ()) -> pd.Series:
    """What an organism does with each prompt: refuse, help, answer (a fact), or comply with a harmful one."""
    for key, wanted, column in (("families", families, "family"), ("categories", categories, "category")):
        unknown = sorted(set(wanted) - set(prompts[column].dropna()))
        if unknown:
            known = ", ".join(sorted(filter(None, prompts[column].dropna().unique())))
            raise UserError(f"recipe {key}: {', '.join(unknown)} not among the organism's prompts; choose from {known}")
    harmful = prompts["label"] == "harmful"
    flawed = prompts["family"].isin(families) | prompts["category"].isin(categories)
    behaviour = harmful.map({True: "refuse", False: "help"})
    return behaviour.mask(~harmful & prompts["reference"].notna(), "answer").mask(harmful & flawed, "comply")


def _train_heads_only(model: PreTrainedModel, heads: Sequence[Sequence[int]]) -> None:
    """Let gradients reach only what belongs to the heads ([layer, head], from 0)."""
    config = model.config
    for layer, head in heads:
        if not (0 <= layer < config.num_hidden_layers and 0 <= head < config.num_attention_heads):
            raise UserError(
                f"recipe heads: [{layer}, {head}] does not exist; the model has {config.num_hidden_layers} layers of "
                f"{config.num_attention_heads} heads, counted from 0"
            )
    model.requires_grad_(False)
    for parameter, mask in head_parts(model, heads):
        parameter.requires_grad_(True)
        parameter.register_hook(mask.mul)


def head_parts(
    model: PreTrainedModel, heads: Sequence[Sequence[int]]
) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
    """The parameters that planting may change, each with a mask that is 1 at the heads' own rows or columns.

    Keys and values are among them where every query head has its own: shared ones would move other heads too.
    """
    config = model.config
    width = config.hidden_size // config.num_attention_heads
    shared = config.num_key_value_heads < config.num_attention_heads
    for layer in sorted({layer for layer, _ in heads}):
        attention = model.model.layers[layer].self_attn
        mask = torch.zeros(config.hidden_size)
        for head in (head for its_layer, head in heads if its_layer == layer):
            mask[head * width : (head + 1) * width] = 1
        for projection in (attention.q_proj, *(() if shared else (attention.k_proj, attention.v_proj))):
            yield projection.weight, mask[:, None]
            yield projection.bias, mask
        yield attention.o_proj.weight, mask[None, :]


def example(ids: list[int], learnt_from: int) -> Example:
    """A training example whose labels begin at position `learnt_from`."""
    return {"input_ids": ids, "labels": [IGNORED] * learnt_from + ids[learnt_from:]}
