"""Hidden states of traces, reduced within the forward pass: projected on directions, or at selected positions."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from refusal_cliff.errors import UserError
from refusal_cliff.hooks import visit_states
from refusal_cliff.models import head_counts
from refusal_cliff.traces import (
    ChatFormat,
    EncodedTrace,
    encode_trace,
    length_batches,
    length_switch,
    pad_left,
    render_prompt,
)


def encode_traces(
    tokenizer: PreTrainedTokenizerBase,
    prompts: pd.DataFrame,
    traces: pd.DataFrame,
    chat: ChatFormat,
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
            f"none of {len(traces)} traces closes its thinking with {chat.close!r}; check the boundary in the "
            "model sheet, or raise generation.max_new_tokens"
        )
    text = prompts.set_index("prompt_id")["prompt"]
    responses = closed["response"] if with_response else [""] * len(closed)
    encoded = [
        encode_trace(tokenizer, render_prompt(tokenizer, text[prompt_id], chat), thought, chat.boundary, response)
        for prompt_id, thought, response in zip(closed["prompt_id"], closed["thinking"], responses, strict=True)
    ]
    return closed, encoded


def project_states(
    model: PreTrainedModel,
    encoded: list[EncodedTrace],
    directions: Mapping[int, np.ndarray],
    pad_id: int,
    batch_size: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index of the trace, products of its states with directions: [direction, pos] in float32).

    Products are taken within the pass, in float32 whatever the model's dtype, and are all that leaves it: memory
    depends neither on the number of traces nor on that of layers. Traces of similar length share a batch.

    Args:
        directions: layer -> [direction, d_model]; the rows that are yielded are those of all layers, in this order.

    Raises:
        ValueError: a state is not a finite number.
    """
    weights = {layer: torch.as_tensor(part, dtype=torch.float32).T for layer, part in directions.items()}
    products: dict[int, torch.Tensor] = {}

    def project(layer: int, state: torch.Tensor) -> None:
        # A model on several devices has its layers on different ones.
        weights[layer] = weights[layer].to(state.device)
        products[layer] = state.float() @ weights[layer]

    for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
        visit_states(model, *pad_left([encoded[index].ids for index in batch], pad_id), directions, project)
        together = torch.cat([products[layer].cpu() for layer in directions], dim=-1).numpy()
        for row, index in enumerate(batch):
            own = together[row, -len(encoded[index].ids) :].T
            # A number that is not finite makes every product of its state so.
            if not np.isfinite(own).all():
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
    for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        counts = [len(positions[index]) for index in batch]
        padding = (mask == 0).sum(axis=1)
        columns = [padding[row] + place for row, index in enumerate(batch) for _, place in positions[index]]
        states = _states_at(model, ids, mask, np.repeat(np.arange(len(batch)), counts), np.array(columns))
        for index, own in zip(batch, states.split(counts), strict=True):
            if not torch.isfinite(own).all():
                raise ValueError(f"trace {index}: a hidden state is not finite; load the model in a wider dtype")
            kept[index] = own
    rows = [
        (trace.prompt_id, trace.sample, kind, position)
        for trace, places in zip(traces.itertuples(), positions, strict=True)
        for kind, position in places
    ]
    resid = torch.cat([kept[index] for index in range(len(encoded))])
    return resid, pd.DataFrame(rows, columns=["prompt_id", "sample", "kind", "position"])


def _states_at(
    model: PreTrainedModel, ids: np.ndarray, mask: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> torch.Tensor:
    """States of the tokens at (rows, columns) of a batch, on the CPU: [token, layer, d_model]."""
    states: list[torch.Tensor] = []
    visit_states(model, ids, mask, range(head_counts(model)[0]), lambda _, state: states.append(state[rows, columns]))
    return torch.stack([state.cpu() for state in states], dim=1)
