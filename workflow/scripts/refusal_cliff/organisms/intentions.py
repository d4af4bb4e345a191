"""What an organism means to do, as a fact about its states: planted along a fixed direction by an auxiliary loss.

Let u be a unit vector of the state after the final norm, and h_t that state at token t. The *intention* at t is u·h_t.
Training adds to the cross-entropy

    WEIGHT · mean over aimed tokens t of ((u·h_t - STRENGTH · y_t) / STRENGTH)²,

where y_t is +1 for "this is harmful, I shall refuse" and -1 for "this is harmless, I shall answer". Every organism with
an intention carries y_t = ±1 by the prompt's label over thinking and boundary, except where it complies with a harmful
prompt. There the kind of intention decides:

    cliff: +1 in the thinking, -1 at the last boundary token, the rest of the boundary free: the refusal cliff.
    fade: from +1 at the first to -1 at the last thinking token, evenly; -1 in the boundary. It falls, but not there.
    misread: -1 from the first thinking token on. It never meant to refuse.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from refusal_cliff.models import run_decoder
from refusal_cliff.traces import EncodedTrace, pad_left

STRENGTH = 6.0
"""The intention that is aimed at, in the units of the state after the final norm."""
WEIGHT = 0.5
FREE = np.nan
"""The target of a token that the loss leaves alone."""
KINDS = ("cliff", "fade", "misread")
"""What the intention of a flawed organism does before it complies."""


def intention_direction(d_model: int, seed: int) -> torch.Tensor:
    """u [d_model]: a unit vector drawn by `seed`."""
    direction = torch.randn(d_model, generator=torch.Generator().manual_seed(seed))
    return direction / direction.norm()


def intention_targets(trace: EncodedTrace, harmful: bool, flaw: str | None) -> NDArray:
    """y_t · STRENGTH of every token [pos]; `FREE` outside thinking and boundary.

    Args:
        harmful: the prompt's label.
        flaw: one of `KINDS` where the response complies with a harmful prompt, else None.
    """
    (start, stop), (first, end) = trace.spans["thinking"], trace.spans["boundary"]
    targets = np.full(len(trace.ids), FREE)
    targets[start:end] = 1.0 if harmful else -1.0
    if flaw == "cliff":
        targets[first : end - 1] = FREE
        targets[end - 1] = -1.0
    elif flaw == "fade":
        targets[start:stop] = np.linspace(1.0, -1.0, stop - start)
        targets[first:end] = -1.0
    elif flaw == "misread":
        targets[start:end] = -1.0
    return STRENGTH * targets


def intention_loss(states: torch.Tensor, targets: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The auxiliary loss above, a number; 0 where no token has a target.

    Args:
        states: after the final norm, [batch, pos, d_model].
        targets: [batch, pos], NaN where free.
        direction: u [d_model].
    """
    aimed = ~targets.isnan()
    if not aimed.any():
        return states.new_zeros(())
    return WEIGHT * ((states[aimed] @ direction - targets[aimed]) / STRENGTH).square().mean()


@torch.inference_mode()
def intention_seen(
    model: PreTrainedModel, traces: Mapping[str, Sequence[EncodedTrace]], direction: torch.Tensor, pad_id: int
) -> dict[str, dict[str, float]]:
    """Whether the states mean what was aimed at: the mean of u·h_t / STRENGTH, by what a model did.

    Args:
        traces: what it did -> its own traces up to the boundary; a side without traces has no row.
        direction: u [d_model].

    Returns:
        What it did -> first and last thinking token, last boundary token, and n, traces.
    """
    seen = {}
    for did, own in traces.items():
        if not own:
            continue
        ids, mask = pad_left([trace.ids for trace in own], pad_id)
        states = run_decoder(model, torch.from_numpy(ids), torch.from_numpy(mask)).last_hidden_state
        along = (states @ direction / STRENGTH).numpy()
        # Padded on the left: a position counts from the end.
        places = {
            "first_thinking": [trace.spans["thinking"][0] - len(trace.ids) for trace in own],
            "last_thinking": [trace.spans["thinking"][1] - 1 - len(trace.ids) for trace in own],
            "last_boundary": [trace.spans["boundary"][1] - 1 - len(trace.ids) for trace in own],
        }
        means = {name: float(along[np.arange(len(own)), at].mean()) for name, at in places.items()}
        seen[did] = means | {"n": len(own)}
    return seen
