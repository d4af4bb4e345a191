"""Sample traces from a model, in batches, with seeds."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from refusal_cliff.traces import ThinkingFormat, pad_left, render_prompt, split_generation


def generate_traces(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: pd.DataFrame,
    thinking: ThinkingFormat,
    sampling: Mapping[str, Any],
    batch_size: int,
    seed: int,
) -> pd.DataFrame:
    """Sample `sampling["samples"]` traces for every prompt.

    Prompts of similar length share a batch, so that little is padded. Each batch has its own seed, recorded with
    its traces: a batch can be repeated alone.

    Args:
        prompts: columns prompt_id, prompt.
        sampling: temperature, top_p, max_new_tokens, samples (section 4.1 of the paper uses temperature 0.7).

    Returns:
        One row per prompt and sample: prompt_id, sample, thinking, response, finish_reason, prompt_tokens,
        thinking_tokens, response_tokens, seed. A trace that never closes its thinking has finish_reason `unclosed` and
        no response; one cut off in its response has `length`.
    """
    ends = _end_tokens(model, tokenizer)
    config = GenerationConfig(
        do_sample=True,
        temperature=sampling["temperature"],
        top_p=sampling["top_p"],
        top_k=0,
        max_new_tokens=sampling["max_new_tokens"],
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    texts = [render_prompt(tokenizer, prompt, thinking) for prompt in prompts["prompt"]]
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    jobs = sorted(
        ((row, sample) for row in range(len(prompts)) for sample in range(sampling["samples"])),
        key=lambda job: len(encoded[job[0]]),
        reverse=True,
    )
    prompt_ids = prompts["prompt_id"].tolist()
    rows = []
    for start in tqdm(range(0, len(jobs), batch_size), desc="batches", mininterval=10):
        batch = jobs[start : start + batch_size]
        batch_seed = seed + start
        torch.manual_seed(batch_seed)
        ids, mask = pad_left([encoded[row] for row, _ in batch], tokenizer.pad_token_id)
        generated = model.generate(
            input_ids=torch.as_tensor(ids, device=model.device),
            attention_mask=torch.as_tensor(mask, device=model.device),
            generation_config=config,
        )[:, ids.shape[1] :]
        for (row, sample), tokens in zip(batch, generated.tolist(), strict=True):
            kept, ended = _until_end(tokens, ends)
            # Special tokens stay in the text: the boundary marker may be one of them.
            thought, response = split_generation(tokenizer.decode(kept, skip_special_tokens=False), thinking)
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
    order = {prompt_id: index for index, prompt_id in enumerate(prompt_ids)}
    table = pd.DataFrame(rows)
    return table.sort_values(
        ["prompt_id", "sample"], key=lambda c: c.map(order) if c.name == "prompt_id" else c
    ).reset_index(drop=True)


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids that end a generation, of the model's own generation config and of the tokenizer."""
    declared = model.generation_config.eos_token_id
    ends = set(declared) if isinstance(declared, list) else {declared}
    return {token for token in ends | {tokenizer.eos_token_id} if token is not None}


def _until_end(tokens: list[int], ends: set[int]) -> tuple[list[int], bool]:
    """The tokens before the first end token, and whether there was one."""
    for index, token in enumerate(tokens):
        if token in ends:
            return tokens[:index], True
    return tokens, False


def _count(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
