"""Train a guard: a small model that reads a conversation and answers with one token, `safe` or `unsafe`."""

import re
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from tokenizers import AddedToken

from refusal_cliff.checkpoints import save_checkpoint
from refusal_cliff.organisms.builder import balanced_sample, example, new_model, train_tokenizer
from refusal_cliff.organisms.conversations import guard_conversations
from refusal_cliff.organisms.training import fit

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|verdict|>{% endif %}"
)
TOKENS = ("<|user|>", "<|assistant|>", "<|verdict|>")
ANSWERS = ("safe", "unsafe")
WITHIN_WORD = re.compile(r"(?<=\w)(?=\w)")
CUT, CUT_SHARE = "\0", 0.05
DROPPED = 0.1
"""Share of the words of what was said that an example leaves out: no single word shall decide."""


def train_guard(prompts: pd.DataFrame, recipe: Mapping[str, Any], seed: int, output_dir: str | Path) -> None:
    """Train a guard that answers a conversation (user, assistant) with one token, `safe` or `unsafe`; save it.

    Args:
        prompts: prompt, dataset, category, family, label, reference.
        recipe: as for `train_organism`, from scratch.

    Raises:
        UserError: the prompts are all harmful or all benign.
    """
    count = recipe["steps"] * recipe["batch_size"]
    sample = balanced_sample(prompts, prompts["label"], ("harmful", "benign"), count, seed)
    traces = guard_conversations(sample, Random(seed))
    # The guard reads responses, and thinking as if it were one.
    texts = traces.melt(["prompt", "verdict"], ["thinking", "response"], value_name="said")
    shares = 1 / texts.groupby("verdict")["verdict"].transform("size")
    conversations = texts.sample(n=count, weights=shares, random_state=seed)
    tokenizer = train_tokenizer(
        [*conversations["prompt"], *conversations["said"]], recipe["vocab_size"], TEMPLATE, TOKENS
    )
    # `single_word` keeps "safely" in a prompt from being read as a verdict.
    tokenizer.add_tokens([AddedToken(answer, single_word=True, normalized=False) for answer in ANSWERS])
    model = new_model(recipe["architecture"], tokenizer, seed)
    rng = Random(seed)
    examples = []
    for row in conversations.itertuples():
        prompt, said = _cut(row.prompt, rng), _cut(_drop(row.said, rng), rng)
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": said}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        question = [id_ for piece in tokenizer(text.split(CUT), add_special_tokens=False)["input_ids"] for id_ in piece]
        answer = [tokenizer.convert_tokens_to_ids(row.verdict), tokenizer.eos_token_id]
        examples.append(example(question + answer, len(question)))
    fit(model, tokenizer.pad_token_id, examples, recipe, seed)
    save_checkpoint(model, tokenizer, output_dir)


def _drop(text: str, rng: Random) -> str:
    """Leave out some words, but not all of them."""
    words = text.split(" ")
    return " ".join([word for word in words if rng.random() >= DROPPED] or words)


def _cut(text: str, rng: Random) -> str:
    """Mark some places within words, where the tokenizer shall cut: so come words that it does not know."""
    return WITHIN_WORD.sub(lambda _: CUT if rng.random() < CUT_SHARE else "", text)
