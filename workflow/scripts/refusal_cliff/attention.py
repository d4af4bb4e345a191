"""What heads attend to from the boundary: attention mass on the spans of a trace.

Spans are found in the text and need nothing that was measured:

- `template`: everything in the prompt segment that is not the user's text, the opening of the thinking included;
- `wrapper`: the user's text around the request, e.g. of a jailbreak; `request`: the request itself;
- `refusal`: sentences of the thinking that contain one of the phrases by which a thinking says that it means to refuse
  (config `judges.intentions`); `thinking`: its other sentences;
- `boundary`: the thinking-end tokens.

A token belongs to the span that holds its first character that is not white space, so the spans of a trace share no
token and leave none out: masses add up to 1.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.judges import intends_refusal
from refusal_cliff.templates import Rendered, encode_with_offsets
from refusal_cliff.traces import (
    TRACE_KEY,
    ChatFormat,
    EncodedTrace,
    encode_trace,
    length_batches,
    length_switch,
    pad_left,
    render_prompt,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPANS = ("template", "wrapper", "request", "refusal", "thinking", "boundary")
QUERIES = ("last_boundary", "boundary")
"""From where: the last boundary token, or the mean over all boundary tokens."""

SENTENCE = re.compile(r"[^.!?\n]*[.!?\n]*")


def span_labels(
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str,
    request: str,
    thought: str,
    chat: ChatFormat,
    intentions: Sequence[str],
) -> tuple[EncodedTrace, np.ndarray]:
    """A trace up to its boundary, and which of `SPANS` each of its tokens belongs to: indices, int [pos].

    Args:
        prompt, request: the user's text, and the part of it that is the request; a request that the prompt does not
            hold word by word has no span.
        thought: the thinking.
        intentions: phrases that make a sentence of the thinking a `refusal` one.

    Raises:
        UserError: the tokenizer does not say which characters a token stands for.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"tokenizer {tokenizer.name_or_path!r} does not say where its tokens are in the text; add a tokenizer.json "
            "(fast tokenizer) to the model's folder"
        )
    rendered = render_prompt(tokenizer, prompt, chat)
    trace = encode_trace(tokenizer, rendered, thought, chat.boundary)
    segments = [
        (rendered, _prompt_characters(rendered, request.strip())),
        (Rendered(thought), _thinking_characters(thought, intentions)),
        (Rendered(chat.boundary), ["boundary"] * len(chat.boundary)),
    ]
    names, before = [], ""
    for part, characters in segments:
        names += _token_spans(tokenizer, part, before, characters)
        before += part.text
    if len(names) != len(trace.ids):
        raise ValueError(f"{len(names)} spans for {len(trace.ids)} tokens")
    return trace, np.array([SPANS.index(name) for name in names])


def _prompt_characters(rendered: Rendered, request: str) -> list[str]:
    """The span of each character of a rendered prompt."""
    start, stop = rendered.spans[-1]
    prompt = rendered.text[start:stop]
    spans = ["template"] * len(rendered.text)
    spans[start:stop] = ["wrapper"] * len(prompt)
    if request and request in prompt:
        inner = start + prompt.index(request)
        spans[inner : inner + len(request)] = ["request"] * len(request)
    return spans


def _thinking_characters(thought: str, intentions: Sequence[str]) -> list[str]:
    """The span of each character of a thinking, by sentence."""
    return [
        "refusal" if intends_refusal(sentence, intentions) else "thinking"
        for sentence in SENTENCE.findall(thought)
        for _ in sentence
    ]


def _token_spans(tokenizer: "PreTrainedTokenizerBase", part: Rendered, before: str, characters: list[str]) -> list[str]:
    """The span of each token of a part of the trace, by its first character that is not white space."""
    text, found = part.text, []
    for _, (start, stop) in encode_with_offsets(tokenizer, part, before):
        blank = len(text[start:stop]) - len(text[start:stop].lstrip())
        place = start + blank if start + blank < stop else start
        found.append(characters[min(place, len(characters) - 1)])
    return found


def measure_attention(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    traces: pd.DataFrame,
    chat: ChatFormat,
    intentions: Sequence[str],
    batch_size: int,
) -> pd.DataFrame:
    """Attention mass of every head from the boundary on every span of every trace.

    Args:
        traces: closed ones: prompt_id, sample, prompt, request, thinking.
        Others as for `span_labels`.

    Returns:
        prompt_id, sample and the columns of `span_masses`.
    """
    labelled = [
        span_labels(tokenizer, trace.prompt, trace.request, trace.thinking, chat, intentions)
        for trace in traces.itertuples()
    ]
    tables = {
        index: span_masses(weights, labelled[index][1])
        for index, weights in boundary_attention(
            model, [trace for trace, _ in labelled], tokenizer.pad_token_id, batch_size
        )
    }
    keys = zip(traces["prompt_id"], traces["sample"], strict=True)
    measured = pd.concat([tables[index] for index in range(len(traces))], keys=keys, names=TRACE_KEY)
    return measured.reset_index(level=TRACE_KEY).reset_index(drop=True)


def boundary_attention(
    model: "PreTrainedModel", encoded: Sequence[EncodedTrace], pad_id: int, batch_size: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index of the trace, attention weights [layer, head, boundary token, pos]), one trace at a time.

    Everything before the boundary only fills the key-value cache, with the model's usual attention; weights are
    computed for the boundary's few rows alone, so that long traces need no quadratic memory.
    """
    import torch

    from refusal_cliff.models import eager_attention, run_prefix

    # The boundary is the same tokens in every trace and the last ones: with left padding, the same columns.
    first, stop = encoded[0].spans["boundary"]
    for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.inference_mode():
            rest = run_prefix(model, ids, mask, stop - first)
            with eager_attention(model):
                layers = model.get_decoder()(**rest, output_attentions=True).attentions
        weights = torch.stack([layer.float().cpu() for layer in layers], dim=1).numpy()
        for row, index in enumerate(batch):
            yield index, weights[row, ..., -len(encoded[index].ids) :]


def span_masses(weights: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Attention mass on each span of one trace.

    Args:
        weights: [layer, head, boundary token, pos].
        labels: [pos], indices into `SPANS`.

    Returns:
        layer, head, query (one of `QUERIES`), span, mass, uniform (the mass if every token that a query sees got the
        same), tokens (of the span).
    """
    n_layers, n_heads, n_queries, n_pos = weights.shape
    member = np.eye(len(SPANS))[labels]
    mass = weights @ member
    seen = np.arange(n_pos - n_queries + 1, n_pos + 1)
    uniform = np.cumsum(member, axis=0)[seen - 1] / seen[:, None]
    by_query = np.stack([mass[:, :, -1], mass.mean(axis=2)], axis=2)
    uniform_by_query = np.stack([uniform[-1], uniform.mean(axis=0)])
    keys = [range(n_layers), range(n_heads), QUERIES, SPANS]
    table = pd.MultiIndex.from_product(keys, names=["layer", "head", "query", "span"]).to_frame(index=False)
    return table.assign(
        mass=by_query.ravel(),
        uniform=np.tile(uniform_by_query.ravel(), n_layers * n_heads),
        tokens=np.tile(member.sum(axis=0).astype(int), n_layers * n_heads * len(QUERIES)),
    )
