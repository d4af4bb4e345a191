"""What a head can act on: numbers that are read off the final state at the last boundary token.

A *readout* takes final states [..., d_model], after the final norm and in double precision, and gives a number for
each, [...]. A *target* says how a model's readout is made:

- `probe`: w·h, the logit of the refusal probe without its bias (paper, section 4);
- `openers`: the log-odds of opening with a refusal rather than with an answer,
  logsumexp of the next-token logits over R - logsumexp over C,
  where R and C are the tokens that the model's own refusals, or its other responses, open with more often. It is what
  the model does next, where the probe is what somebody can tell from its state: moving one need not move the other.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.checkpoints import first_tokens
from refusal_cliff.probes import opener_weights
from refusal_cliff.traces import TRACE_KEY

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Readout = Callable[["torch.Tensor"], "torch.Tensor"]


class NotMeasurableError(Exception):
    """A model has no such readout; the message says why. No fault of the user's: the run goes on without it."""


@dataclass(frozen=True)
class Source:
    """What readouts are made from.

    Attributes:
        model: the model.
        folder: its checkpoint, for the tokenizer.
        w: [d_model], the last layer's probe.
        traces: prompt_id, sample, response (missing in unclosed traces) of prompt set `fit`.
        behaviours: output of `judges.behaviour` on them.
    """

    model: "PreTrainedModel"
    folder: str
    w: np.ndarray
    traces: pd.DataFrame
    behaviours: pd.DataFrame


def make_readouts(targets: Iterable[str], source: Source) -> tuple[dict[str, "Readout"], dict[str, str]]:
    """The readouts of the targets, and, of those that the model does not have, why: each by target."""
    readouts, reasons = {}, {}
    for target in targets:
        try:
            readouts[target] = TARGETS[target](source)
        except NotMeasurableError as error:
            reasons[target] = str(error)
    return readouts, reasons


def probe_logit(source: Source) -> "Readout":
    """w·h. The bias of the probe belongs to no head and cancels in every difference."""
    import torch

    direction = torch.as_tensor(source.w, dtype=torch.float64)
    return lambda states: states @ direction


def opener_log_odds(source: Source) -> "Readout":
    """The log-odds of `choose_openers`' tokens as the next one.

    Their rows of the unembedding are all that is read: logits over the vocabulary would take more memory than all else.

    Raises:
        NotMeasurableError: as `choose_openers`.
    """
    from refusal_cliff.models import unembedding_rows

    responses = source.traces.dropna(subset="response")
    refusals, answers = choose_openers(responses, source.behaviours, first_tokens(source.folder, responses["response"]))
    return log_odds(unembedding_rows(source.model, refusals), unembedding_rows(source.model, answers))


def log_odds(refusals: "torch.Tensor", answers: "torch.Tensor") -> "Readout":
    """The readout logsumexp(h · refusals) - logsumexp(h · answers), of unembedding rows [token, d_model] in float64."""
    return lambda states: (states @ refusals.T).logsumexp(-1) - (states @ answers.T).logsumexp(-1)


def choose_openers(
    traces: pd.DataFrame, behaviours: pd.DataFrame, tokens: dict[str, int]
) -> tuple[list[int], list[int]]:
    """The first tokens that speak for a refusal, R, and for an answer, C: ascending, no token in both.

    A token is in R if its share among the first tokens of refused responses is larger than among those of the others,
    in C if it is smaller, and in neither if the shares are equal.

    Args:
        traces: prompt_id, sample, response; those without a verdict or with an empty response do not count.
        behaviours: output of `judges.behaviour`.
        tokens: first token of each response.

    Raises:
        NotMeasurableError: nothing was refused, everything was, or both open with the same tokens equally often.
    """
    judged = traces[traces["response"].isin(tokens)].merge(behaviours, on=TRACE_KEY, validate="one_to_one")
    refused = int(judged["refused"].sum())
    if refused in (0, len(judged)):
        word = "all" if refused else "none"
        raise NotMeasurableError(f"the model refused {word} of {len(judged)} responses of set fit")
    weights = opener_weights(traces, behaviours, tokens)
    refusals, answers = (sorted(token for token, weight in weights.items() if sign * weight > 0) for sign in (1, -1))
    if not refusals:
        raise NotMeasurableError("the model's refusals of set fit open with the same tokens as its other responses")
    return refusals, answers


def slope(readout: "Readout", states: "torch.Tensor") -> "torch.Tensor":
    """The gradient of a readout at each of `states` [batch, d_model], where they are: [batch, d_model] in float32."""
    import torch

    with torch.inference_mode(mode=False), torch.enable_grad():
        # A copy, because what a pass in inference mode leaves can take no part in a graph.
        at = states.detach().cpu().to(torch.float64, copy=True).requires_grad_()
        (gradient,) = torch.autograd.grad(readout(at).sum(), at)
    return gradient.float().to(states.device)


TARGETS: dict[str, Callable[[Source], "Readout"]] = {"probe": probe_logit, "openers": opener_log_odds}
"""The targets of head rankings, and how the readout of each is made."""
