"""How well a variant still predicts what the base model wrote: damage to language that refusal rates do not show."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.traces import TRACE_KEY, EncodedTrace, length_batches, length_switch, pad_left

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def measure_perplexity(
    model: "PreTrainedModel", traces: pd.DataFrame, encoded: list[EncodedTrace], pad_id: int, batch_size: int
) -> pd.DataFrame:
    """Mean negative log-likelihood of every trace after its prompt: thinking, boundary and response, teacher-forced.

    Args:
        traces: prompt_id, sample, in the order of `encoded`.

    Returns:
        prompt_id, sample, nll (nats per token), tokens. exp(nll) is the perplexity of the trace.
    """
    import torch

    from refusal_cliff.models import run

    tokens = np.array([len(trace.ids) - trace.spans["prompt"][1] for trace in encoded])
    nll = np.zeros(len(encoded))
    for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
        ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
        with torch.inference_mode():
            # The state at a position predicts the token after it: no prompt's logits are needed but its last token's.
            logits = run(model, ids, mask, logits_to_keep=int(tokens[batch].max()) + 1).logits
        for row, index in enumerate(batch):
            predictions = logits[row, -tokens[index] - 1 : -1].float().log_softmax(-1)
            written = torch.as_tensor(ids[row, -tokens[index] :], device=logits.device)
            nll[index] = -float(predictions.gather(-1, written[:, None]).double().mean())
    return traces[TRACE_KEY].assign(nll=nll, tokens=tokens).reset_index(drop=True)
