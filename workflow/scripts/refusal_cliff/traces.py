"""A trace: one prompt in the model's own chat template, its thinking, the boundary, and the response.

Text is tokenised segment by segment and the token ids are joined, so that the span of every segment is exact by
construction: no token straddles two segments, and the boundary is the same tokens in every trace.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from refusal_cliff.errors import UserError
from refusal_cliff.templates import Rendered, encode, render, visible

TRACE_KEY = ["prompt_id", "sample"]
"""Columns that name a trace in every table."""
BOUNDARY_TOKENS = "boundary_tokens"
"""Setting of what scores traces: the text of each boundary token, so that tables and figures need no tokenizer."""
SEGMENTS = ("prompt", "thinking", "boundary", "response")
MAX_TOKENS = 32768
"""Of a batch, padding included: few long sequences fill the memory that many short ones leave free."""


@dataclass(frozen=True)
class ChatFormat:
    """How a model is spoken to, and how it marks its thinking, e.g. `<think>\\n` … `\\n</think>\\n\\n`.

    Attributes:
        opening, boundary: the text that opens the thinking, and the text that ends it.
        system: the system prompt; without one the template says what it says.
        arguments: what else the chat template is told, such as `enable_thinking`.
        stops: tokens that end a response, beside those that the model declares.
    """

    opening: str
    boundary: str
    system: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    stops: tuple[str, ...] = ()

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """That of a row of the model sheet."""
        return cls(
            row["thinking_open"],
            row["boundary"],
            row["system_prompt"],
            row["template_arguments"],
            tuple(row["stop_tokens"]),
        )

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


def render_prompt(tokenizer: Any, prompt: str, chat: ChatFormat) -> Rendered:
    """The user prompt in the chat template, up to and including the opening of the thinking; one span, the user's text.

    Some templates open the thinking themselves and some leave it to the model; both give the same text here.

    Raises:
        UserError: the template cannot be used, or closes the thinking before it has begun.
    """
    messages = [{"role": "system", "content": chat.system}] if chat.system else []
    rendered = render(tokenizer, [*messages, {"role": "user", "content": prompt}], arguments=chat.arguments)
    end = rendered.spans[-1][1]
    user, text = rendered.text[:end], rendered.text[end:]
    if chat.close in text:
        raise UserError(
            f"tokenizer {tokenizer.name_or_path!r}: its chat template ends the prompt with a closed thinking "
            f"({text.strip()!r}); turn thinking on in column template_arguments of the model sheet, as "
            '{"enable_thinking": true}, or in system_prompt'
        )
    if text.rstrip().endswith(chat.opening.strip()):
        text = text.rstrip().removesuffix(chat.opening.strip())
    return Rendered(user + text + chat.opening, rendered.spans[-1:])


def split_generation(text: str, chat: ChatFormat) -> tuple[str, str | None]:
    """Split generated text at the model's closing marker into thinking and response.

    The response is what the model answers, and nothing that it thinks. A thinking that is closed and at once opened
    again goes on to its last closing; what is thought further on in a response, between both markers, is left out, and
    so is a closing in front of it that closes nothing. A text that never closes its thinking has no response: `None`.
    """
    opening, close = chat.opening.strip(), chat.close
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
    tokenizer: Any, prompt: Rendered, thought: str, boundary: str = "", response: str = ""
) -> EncodedTrace:
    """Token ids and spans of a trace.

    Control tokens in the user's text are split; those in thinking and response are what the model itself wrote.

    Args:
        prompt: the output of `render_prompt`.
        thought, boundary, response: the text of each segment; an empty one has an empty span.
    """
    ids: list[int] = []
    spans, before = {}, ""
    for segment, part in zip(SEGMENTS, (prompt, *map(Rendered, (thought, boundary, response))), strict=True):
        start = len(ids)
        ids += encode(tokenizer, part, before)
        spans[segment] = (start, len(ids))
        before += part.text
    return EncodedTrace(ids, spans)


def boundary_tokens(tokenizer: Any, trace: EncodedTrace) -> list[str]:
    """The text of each boundary token, in which spaces and line breaks can be seen; every trace has the same."""
    ids = trace.ids[slice(*trace.spans["boundary"])]
    return [visible(tokenizer.decode([token], clean_up_tokenization_spaces=False)) for token in ids]


def length_switch(model: Any) -> int | None:
    """Sequences above this length are seen with other rotary frequencies (longrope, as Phi-4-mini); None: all alike.

    The longest sequence of a batch decides for all of it, so no batch may hold both sides (`length_batches`).
    A generation that grows across it goes on with the cache of the other side, as it does in any engine.
    """
    rope = getattr(model.config, "rope_parameters", None) or {}
    return rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None


def length_batches(
    sequences: Sequence[Sequence[int]], batch_size: int, max_tokens: int = MAX_TOKENS, switch: int | None = None
) -> Iterator[list[int]]:
    """Yield batches as indices into `sequences`, shortest first, so that little is padded.

    Args:
        batch_size: most sequences of a batch.
        max_tokens: most tokens of a batch, padding included; a longer sequence is a batch of its own.
        switch: no batch holds sequences up to this length and longer ones (`length_switch`).
    """
    batch: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda index: len(sequences[index])):
        length = len(sequences[index])
        full = len(batch) == batch_size or (len(batch) + 1) * length > max_tokens
        switched = switch is not None and batch and len(sequences[batch[0]]) <= switch < length
        if batch and (full or switched):
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
