"""How well a variant still predicts what the base model wrote: damage to language that refusal rates do not show."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.traces import TRACE_KEY, EncodedTrace, length_batches, length_switch, pad_left

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


COMPARED_TOKENS, COMPARED_BYTES = 16, 2**30
"""Of a trace, whose next-token distributions are kept to be compared, and what those of all traces may take together: a
vocabulary is large."""


def measure_perplexity(
    model: "PreTrainedModel",
    traces: pd.DataFrame,
    encoded: list[EncodedTrace],
    pad_id: int,
    batch_size: int,
    reference: "dict[int, torch.Tensor]",
) -> pd.DataFrame:
    """How well a model predicts every trace after its prompt: thinking, boundary and response, teacher-forced.

    Args:
        traces: prompt_id, sample, in the order of `encoded`.
        reference: by place of the trace, log-probabilities of the next token [token, vocabulary] by the model that this
            one is compared with, at `compared_tokens`. What is not there yet is put there.

    Returns:
        prompt_id, sample, nll (nats per token), tokens; kl, the Kullback-Leibler divergence of this model's next-token
        distribution from the reference's, in nats, mean over `compared_tokens`. exp(nll) is the perplexity of the
        trace.
    """
    import torch

    from refusal_cliff.models import run

    tokens = np.array([len(trace.ids) - trace.spans["prompt"][1] for trace in encoded])
    nll, kl = np.zeros(len(encoded)), np.zeros(len(encoded))
    most = most_compared(len(encoded), model.config.get_text_config().vocab_size)
    for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.inference_mode():
            # The state at a position predicts the token after it: no prompt's logits are needed but its last token's.
            logits = run(model, ids, mask, logits_to_keep=int(tokens[batch].max()) + 1).logits
        for row, index in enumerate(batch):
            predictions = logits[row, -tokens[index] - 1 : -1].float().log_softmax(-1)
            written = torch.as_tensor(ids[row, -tokens[index] :], device=logits.device)
            nll[index] = -float(predictions.gather(-1, written[:, None]).double().mean())
            compared = predictions[compared_tokens(int(tokens[index]), most)].cpu()
            kl[index] = divergence(reference.setdefault(index, compared), compared)
    return traces[TRACE_KEY].assign(nll=nll, tokens=tokens, kl=kl).reset_index(drop=True)


def most_compared(traces: int, vocabulary: int) -> int:
    """How many tokens of each of so many traces are compared: `COMPARED_TOKENS`, or what `COMPARED_BYTES` hold."""
    return max(1, min(COMPARED_TOKENS, COMPARED_BYTES // (4 * traces * vocabulary or 1)))


def compared_tokens(tokens: int, most: int) -> np.ndarray:
    """Which of so many tokens are compared: at most `most`, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, tokens - 1, min(most, tokens)).round().astype(int))


def divergence(reference: "torch.Tensor", other: "torch.Tensor") -> float:
    """Mean Kullback-Leibler divergence of log-probabilities `other` [token, vocabulary] from `reference`, in nats."""
    # Rounding makes a divergence of nothing a little less than nothing.
    terms = reference.double().exp() * (reference.double() - other.double())
    return max(0.0, float(terms.sum(-1).mean()))
