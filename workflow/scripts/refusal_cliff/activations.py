"""Hidden states of traces: whole traces as a stream, or selected positions as an array."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from refusal_cliff.errors import UserError
from refusal_cliff.models import run
from refusal_cliff.traces import EncodedTrace, ThinkingFormat, encode_trace, length_batches, pad_left, render_prompt


def encode_traces(
    tokenizer: PreTrainedTokenizerBase,
    prompts: pd.DataFrame,
    traces: pd.DataFrame,
    thinking: ThinkingFormat,
    *,
    with_response: bool = False,
) -> tuple[pd.DataFrame, list[EncodedTrace]]:
    """Token ids of every closed trace up to its boundary, with the traces' rows in the same order.

    The response is left out unless asked for: states before it cannot depend on it.

    Args:
        prompts: columns prompt_id, prompt.
        traces: columns prompt_id, sample, thinking, finish_reason (and response, if asked for); unclosed traces have
            no boundary and are left out.

    Raises:
        UserError: no trace is closed.
    """
    closed = traces[traces["finish_reason"] != "unclosed"].reset_index(drop=True)
    if closed.empty:
        raise UserError(
            f"none of {len(traces)} traces closes its thinking with {thinking.close!r}; check the boundary in the "
            "model sheet, or raise generation.max_new_tokens"
        )
    text = prompts.set_index("prompt_id")["prompt"]
    responses = closed["response"] if with_response else [""] * len(closed)
    encoded = [
        encode_trace(
            tokenizer, render_prompt(tokenizer, text[prompt_id], thinking), thought, thinking.boundary, response
        )
        for prompt_id, thought, response in zip(closed["prompt_id"], closed["thinking"], responses, strict=True)
    ]
    return closed, encoded


def stream_states(
    model: PreTrainedModel, encoded: list[EncodedTrace], pad_id: int, batch_size: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (index of the trace, resid [layer, pos, d_model] in float32 on the CPU), one trace at a time.

    Traces of similar length share a batch. The states of a batch stay where the model is; one trace's are copied.

    Raises:
        ValueError: a hidden state is not a finite number.
    """
    for batch in length_batches([trace.ids for trace in encoded], batch_size):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.inference_mode():
            states = run(model, ids, mask, output_hidden_states=True).hidden_states[1:]
        for row, index in enumerate(batch):
            own = torch.stack([state[row, ids.shape[1] - len(encoded[index].ids) :].cpu() for state in states]).float()
            if not torch.isfinite(own).all():
                raise ValueError(f"trace {index}: a hidden state is not finite; load the model in a wider dtype")
            yield index, own


def kept_positions(trace: EncodedTrace, thinking_positions: int) -> list[tuple[str, int]]:
    """Positions whose states probes train on, as (kind, position).

    Kinds: `last_prompt`; `thinking`, evenly spaced over the thinking; `boundary`, all but the last; `last_boundary`.
    """
    start, stop = trace.spans["thinking"]
    count = min(thinking_positions, stop - start)
    spaced = np.unique(np.linspace(start, stop - 1, count).round().astype(int)) if count else []
    first = trace.spans["boundary"][0]
    return (
        [("last_prompt", trace.last_prompt)]
        + [("thinking", int(position)) for position in spaced]
        + [("boundary", position) for position in range(first, trace.last_boundary)]
        + [("last_boundary", trace.last_boundary)]
    )


def extract_positions(
    model: PreTrainedModel,
    traces: pd.DataFrame,
    encoded: list[EncodedTrace],
    pad_id: int,
    batch_size: int,
    thinking_positions: int,
) -> tuple[torch.Tensor, pd.DataFrame]:
    """States at the kept positions of every trace.

    Returns:
        resid [row, layer, d_model] in the dtype of the model; and the rows:
        prompt_id, sample, kind, position.
    """
    kept: dict[int, torch.Tensor] = {}
    positions = [kept_positions(trace, thinking_positions) for trace in encoded]
    for index, resid in stream_states(model, encoded, pad_id, batch_size):
        kept[index] = resid[:, [position for _, position in positions[index]]].transpose(0, 1).to(model.dtype)
    rows = [
        (trace.prompt_id, trace.sample, kind, position)
        for trace, places in zip(traces.itertuples(), positions, strict=True)
        for kind, position in places
    ]
    resid = torch.cat([kept[index] for index in range(len(encoded))])
    return resid, pd.DataFrame(rows, columns=["prompt_id", "sample", "kind", "position"])
