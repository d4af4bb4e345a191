"""Which of the planted heads carry the flaw? Training may use all heads it was given, or one of them.

A head that training left idle is no suppression head, and no ranking can be blamed for not finding it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from refusal_cliff.generation import continue_traces
from refusal_cliff.judges import refuses
from refusal_cliff.organisms.builder import THINKING, head_parts


@torch.no_grad()
def transplant_heads(model: PreTrainedModel, donor: PreTrainedModel, heads: Sequence[Sequence[int]]) -> None:
    """Give `model` the donor's own parameters, those of `head_parts`, for the heads [[layer, head], …], in place."""
    parts = zip(head_parts(model, heads), head_parts(donor, heads), strict=True)
    for (parameter, mask), (other, _) in parts:
        parameter.copy_(torch.where(mask.bool(), other, parameter))


def planting_by_head(
    load_planted: Any,
    load_parent: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: pd.DataFrame,
    traces: pd.DataFrame,
    heads: Sequence[Sequence[int]],
    phrases: Sequence[str],
    sampling: Mapping[str, Any],
    batch_size: int,
    seed: int,
) -> pd.DataFrame:
    """How often the organism complies without each planted head, and with that head alone.

    The thinking is kept; the response is sampled anew.

    Args:
        load_planted, load_parent: give a fresh copy of the organism, and of the model it was planted in.
        prompts: jailbroken harmful prompts that the organism was planted for: prompt_id, prompt.
        traces: the organism's traces of them.
        heads: the planted heads.
        phrases: refusal phrases.

    Returns:
        layer, head, complied (all planted heads), complied_without (this head put back to the parent's weights),
        complied_alone (this head planted in the parent, all others as they were), complied_parent; shares of the n
        closed traces.
    """

    def complied(model: PreTrainedModel) -> float:
        answers = continue_traces(model, tokenizer, prompts, closed, THINKING, sampling, batch_size, seed)["response"]
        return 1 - sum(refuses(answer, phrases) for answer in answers) / len(answers)

    closed = traces[traces["finish_reason"] != "unclosed"].reset_index(drop=True)
    whole = {"complied": complied(load_planted()), "complied_parent": complied(load_parent()), "n": len(closed)}
    rows = []
    for layer, head in heads:
        without, alone = load_planted(), load_parent()
        transplant_heads(without, load_parent(), [[layer, head]])
        transplant_heads(alone, load_planted(), [[layer, head]])
        shares = {"complied_without": complied(without), "complied_alone": complied(alone)}
        rows.append({"layer": layer, "head": head} | whole | shares)
    return pd.DataFrame(rows)
