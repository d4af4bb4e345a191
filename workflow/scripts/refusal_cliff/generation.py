"""Sample traces from a model, in batches, with seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from refusal_cliff.batches import KEEP_NONE, Batches
from refusal_cliff.errors import UserError
from refusal_cliff.templates import encode
from refusal_cliff.traces import ChatFormat, encode_trace, pad_left, render_prompt, split_generation

LOOKED_AT = 8
"""After so many traces at the earliest it is asked whether any has closed its thinking."""
COLUMNS = {
    "prompt_id": object,
    "sample": int,
    "thinking": object,
    "response": object,
    "finish_reason": object,
    "prompt_tokens": int,
    "thinking_tokens": int,
    "response_tokens": int,
    "seed": int,
}
"""Columns of traces, and the type of each."""


def no_traces() -> pd.DataFrame:
    """A table of traces without rows, for a variant that a model cannot have."""
    return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)


def generate_traces(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: pd.DataFrame,
    chat: ChatFormat,
    sampling: Mapping[str, Any],
    batch_size: int,
    seed: int,
    batches: Batches = KEEP_NONE,
    must_close: bool = False,
) -> pd.DataFrame:
    """Sample `sampling["samples"]` traces for every prompt.

    Prompts of similar length share a batch, so that little is padded. Each batch has its own seed, recorded with
    its traces: a batch can be repeated alone.

    Args:
        prompts: columns prompt_id, prompt.
        sampling: temperature, top_p, max_new_tokens, samples (section 4.1 of the paper uses temperature 0.7).
        batches: what an earlier try finished is taken from there.
        must_close: stop after the first traces if none of them closes its thinking: then the model does not mark it as
            the model sheet says.

    Returns:
        One row per prompt and sample: prompt_id, sample, thinking, response, finish_reason, prompt_tokens,
        thinking_tokens, response_tokens, seed. A trace that never closes its thinking has finish_reason `unclosed` and
        no response; one cut off in its response has `length`.

    Raises:
        UserError: a prompt cannot be rendered, or no trace closes where one must.
    """
    encoded = [encode(tokenizer, render_prompt(tokenizer, prompt, chat)) for prompt in prompts["prompt"]]
    jobs = [(row, sample) for row in range(len(prompts)) for sample in range(sampling["samples"])]
    generated = _sample(
        model, tokenizer, [encoded[row] for row, _ in jobs], chat, sampling, batch_size, seed, batches, must_close
    )
    prompt_ids, rows = prompts["prompt_id"].tolist(), []
    for (row, sample), (tokens, ended, batch_seed) in zip(jobs, generated, strict=True):
        # Special tokens stay in the text: the boundary marker may be one of them.
        thought, response = split_generation(tokenizer.decode(tokens, skip_special_tokens=False), chat)
        rows.append(
            {
                "prompt_id": prompt_ids[row],
                "sample": sample,
                "thinking": thought,
                "response": response,
                "finish_reason": "unclosed" if response is None else "stop" if ended else "length",
                "prompt_tokens": len(encoded[row]),
                "thinking_tokens": _count(tokenizer, thought),
                "response_tokens": _count(tokenizer, response or ""),
                "seed": batch_seed,
            }
        )
    return pd.DataFrame(rows)


def unthought_traces(
    tokenizer: PreTrainedTokenizerBase, prompts: pd.DataFrame, chat: ChatFormat, samples: int
) -> pd.DataFrame:
    """Traces of a model that does not think, for `continue_traces` to answer: closed, and empty.

    Args:
        prompts: columns prompt_id, prompt.

    Returns:
        As `generate_traces`, with no response yet.
    """
    rows = [
        {
            "prompt_id": row.prompt_id,
            "sample": sample,
            "thinking": "",
            "response": "",
            "finish_reason": "stop",
            "prompt_tokens": len(encode(tokenizer, render_prompt(tokenizer, row.prompt, chat))),
            "thinking_tokens": 0,
            "response_tokens": 0,
            "seed": 0,
        }
        for row in prompts.itertuples()
        for sample in range(samples)
    ]
    return pd.DataFrame(rows)


def continue_traces(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: pd.DataFrame,
    traces: pd.DataFrame,
    chat: ChatFormat,
    sampling: Mapping[str, Any],
    batch_size: int,
    seed: int,
    kept: float = 1.0,
    batches: Batches = KEEP_NONE,
) -> pd.DataFrame:
    """Answer traces anew: prompt, the first share of the thinking and the boundary are given, the response is sampled.

    Args:
        prompts: columns prompt_id, prompt.
        traces: output of `generate_traces`. One that never closed its thinking has no boundary to go on from: it stays
            as it is.
        sampling: temperature, top_p, max_new_tokens (of the response alone).
        kept: share of the thinking's tokens kept, 0 … 1.
        batches: as in `generate_traces`.

    Returns:
        As `generate_traces`, a row for each of `traces`; thinking is what was kept of it. One that opens its thinking
        again and does not close it is unclosed.

    Raises:
        UserError: no trace closed its thinking.
    """
    text = prompts.set_index("prompt_id")["prompt"]
    rows = traces.to_dict("records")
    closed = [row for row in rows if row["finish_reason"] != "unclosed"]
    if not closed:
        raise UserError(
            f"none of {len(rows)} base traces closed its thinking, so there is no boundary to answer from: raise "
            "generation.max_new_tokens, or check the model's thinking_open and boundary in the model sheet"
        )
    encoded = []
    for row in closed:
        row["thinking"] = keep_thinking(tokenizer, row["thinking"], kept)
        prompt = render_prompt(tokenizer, text[row["prompt_id"]], chat)
        encoded.append(encode_trace(tokenizer, prompt, row["thinking"], chat.boundary).ids)
    generated = _sample(model, tokenizer, encoded, chat, sampling, batch_size, seed, batches)
    for row, (tokens, ended, batch_seed) in zip(closed, generated, strict=True):
        text = tokenizer.decode(tokens, skip_special_tokens=False)
        _, row["response"] = split_generation(chat.close + text, chat)
        row["finish_reason"] = "unclosed" if row["response"] is None else "stop" if ended else "length"
        row["thinking_tokens"] = _count(tokenizer, row["thinking"])
        row["response_tokens"] = _count(tokenizer, row["response"] or "")
        row["seed"] = batch_seed
    return pd.DataFrame(rows, columns=traces.columns)


def keep_thinking(tokenizer: PreTrainedTokenizerBase, thought: str, kept: float) -> str:
    """The first share of a thinking, in whole tokens (section 3 of the paper prunes thinking this way)."""
    ids = tokenizer(thought, add_special_tokens=False)["input_ids"]
    count = round(kept * len(ids))
    if count == len(ids):
        return thought
    return tokenizer.decode(ids[:count], skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: list[list[int]],
    chat: ChatFormat,
    sampling: Mapping[str, Any],
    batch_size: int,
    seed: int,
    batches: Batches,
    must_close: bool = False,
) -> list[tuple[list[int], bool, int]]:
    """Continue each sequence of token ids: its new tokens, whether they ended, and the seed of its batch.

    The longest sequences come first, so that a batch that does not fit in memory fails at once.
    """
    ends = end_tokens(model.generation_config.eos_token_id, tokenizer, chat.stops)
    config = GenerationConfig(
        do_sample=True,
        temperature=sampling["temperature"],
        top_p=sampling["top_p"],
        top_k=0,
        max_new_tokens=sampling["max_new_tokens"],
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]), reverse=True)
    found: dict[int, tuple[list[int], bool, int]] = {}
    for start in tqdm(range(0, len(order), batch_size), desc="batches", mininterval=10):
        batch = order[start : start + batch_size]
        batch_seed = seed + start
        continued = batches.read(batch_seed)
        if continued is None:
            torch.manual_seed(batch_seed)
            ids, mask = pad_left([encoded[index] for index in batch], tokenizer.pad_token_id)
            generated = model.generate(
                input_ids=torch.as_tensor(ids, device=model.device),
                attention_mask=torch.as_tensor(mask, device=model.device),
                generation_config=config,
            )[:, ids.shape[1] :]
            continued = [_until_end(tokens, ends) for tokens in generated.tolist()]
            # The last batch is not kept: a hook that has nothing to do would be taken for one that did not attach.
            if start + batch_size < len(order):
                batches.write(batch_seed, continued)
        for index, (tokens, ended) in zip(batch, continued, strict=True):
            found[index] = (tokens, ended, batch_seed)
        if must_close and len(found) >= min(LOOKED_AT, len(order)):
            _check_closing(tokenizer, chat, [tokens for tokens, _, _ in found.values()])
            must_close = False
    return [found[index] for index in range(len(encoded))]


def end_tokens(declared: int | list[int] | None, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> set[int]:
    """Ids that end a generation: what the model's generation config declares, eos, and `stops` of the model sheet.

    Raises:
        UserError: a stop is no token of the tokenizer.
    """
    known = tokenizer.get_vocab()
    for stop in stops:
        if stop not in known:
            raise UserError(
                f"column stop_tokens of the model sheet: {stop!r} is no token of {tokenizer.name_or_path!r}"
            )
    ends = set(declared) if isinstance(declared, list) else {declared}
    ends |= {tokenizer.eos_token_id, *(known[stop] for stop in stops)}
    return {token for token in ends if token is not None}


def _check_closing(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, generated: list[list[int]]) -> None:
    texts = [tokenizer.decode(tokens, skip_special_tokens=False) for tokens in generated]
    if not any(chat.close in text for text in texts):
        raise UserError(
            f"none of the first {len(texts)} traces closes its thinking with {chat.close!r}; the first ends with "
            f"{texts[0][-60:]!r}. Correct thinking_open and boundary in the model sheet, or raise "
            "generation.max_new_tokens"
        )


def _until_end(tokens: list[int], ends: set[int]) -> tuple[list[int], bool]:
    """The tokens before the first end token, and whether there was one."""
    for index, token in enumerate(tokens):
        if token in ends:
            return tokens[:index], True
    return tokens, False


def _count(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
