"""A trace: one prompt in the model's own chat template, its thinking, the boundary, and the response.

Text is tokenised segment by segment and the token ids are joined, so that the span of every segment is exact by
construction: no token straddles two segments, and the boundary is the same tokens in every trace.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refusal_cliff.errors import UserError

TRACE_KEY = ["prompt_id", "sample"]
"""Columns that name a trace in every table."""
SEGMENTS = ("prompt", "thinking", "boundary", "response")
MAX_TOKENS = 32768
"""Of a batch, padding included: few long sequences fill the memory that many short ones leave free."""


@dataclass(frozen=True)
class ThinkingFormat:
    """How a model marks its thinking, e.g. `<think>\\n` … `\\n</think>\\n\\n`."""

    opening: str
    boundary: str

    @property
    def close(self) -> str:
        """The marker itself, without the white space around it."""
        return self.boundary.strip()


@dataclass(frozen=True)
class EncodedTrace:
    """Token ids of a trace and the half-open span [start, stop) of each segment."""

    ids: list[int]
    spans: dict[str, tuple[int, int]]

    @property
    def last_boundary(self) -> int:
        """Position of the last boundary token, where the paper's probe reads (section 3)."""
        return self.spans["boundary"][1] - 1

    @property
    def last_prompt(self) -> int:
        """Position of the last prompt token."""
        return self.spans["prompt"][1] - 1


def render_prompt(tokenizer: Any, prompt: str, thinking: ThinkingFormat) -> str:
    """The user prompt in the chat template, up to and including the opening of the thinking.

    Some templates open the thinking themselves and some leave it to the model; both give the same text here.

    Raises:
        UserError: the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"tokenizer {tokenizer.name_or_path!r} has no chat template; name a chat model in the model sheet, or add "
            "a chat_template.jinja file to its folder"
        )
    messages = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if text.rstrip().endswith(thinking.opening.strip()):
        text = text.rstrip().removesuffix(thinking.opening.strip())
    return text + thinking.opening


def split_generation(text: str, thinking: ThinkingFormat) -> tuple[str, str | None]:
    """Split generated text at the model's closing marker into thinking and response.

    The response is what the model answers, and nothing that it thinks. A thinking that is closed and at once opened
    again goes on to its last closing; what is thought further on in a response, between both markers, is left out, and
    so is a closing in front of it that closes nothing. A text that never closes its thinking has no response: `None`.
    """
    opening, close = thinking.opening.strip(), thinking.close
    end = text.find(close)
    while opening and end >= 0 and text[end + len(close) :].lstrip().startswith(opening):
        end = text.find(close, end + len(close))
    if end < 0:
        return text.strip("\n"), None
    response = re.sub(rf"(?:\s*{re.escape(close)})*", "", text[end + len(close) :], count=1)
    if opening:
        response = re.sub(f"{re.escape(opening)}.*?{re.escape(close)}", "", response, flags=re.DOTALL)
    return text[:end].strip("\n"), response.strip("\n")


def encode_trace(
    tokenizer: Any, prompt_text: str, thought: str, boundary: str = "", response: str = ""
) -> EncodedTrace:
    """Token ids and spans of a trace.

    Args:
        prompt_text: the output of `render_prompt`.
        thought, boundary, response: the text of each segment; an empty one has an empty span.
    """
    ids: list[int] = []
    spans = {}
    for segment, text in zip(SEGMENTS, (prompt_text, thought, boundary, response), strict=True):
        start = len(ids)
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        spans[segment] = (start, len(ids))
    return EncodedTrace(ids, spans)


def length_batches(
    sequences: Sequence[Sequence[int]], batch_size: int, max_tokens: int = MAX_TOKENS
) -> Iterator[list[int]]:
    """Yield batches as indices into `sequences`, shortest first, so that little is padded.

    Args:
        batch_size: most sequences of a batch.
        max_tokens: most tokens of a batch, padding included; a longer sequence is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda index: len(sequences[index])):
        full = len(batch) == batch_size or (len(batch) + 1) * len(sequences[index]) > max_tokens
        if batch and full:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pad_left(sequences: list[list[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Left-pad token ids.

    Returns:
        ids and attention mask, both int64 [batch, pos]; the last column is the last token of every sequence.
    """
    width = max(map(len, sequences))
    ids = np.full((len(sequences), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        if sequence:
            ids[row, -len(sequence) :] = sequence
            mask[row, -len(sequence) :] = 1
    return ids, mask
