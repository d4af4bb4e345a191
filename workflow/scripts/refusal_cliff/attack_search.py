"""Which neutral wrappers make a model give in, by two objectives that ask the same number of queries.

A *query* is one forward pass over a wrapped request of set `fit`, the thinking that the model itself wrote about the
plain request, and the boundary. Nothing is generated: the thinking is held fixed, so that an objective sees what the
words of the wrapper change at the boundary, at a fiftieth of the cost. What they change in the thinking it does not
see; whether a chosen wrapper works is measured on test requests, with a thinking that is sampled anew.

- `circuit`: minus the summed direct effects of the first heads of a ranking on the probe's logit: how much those heads
  write against refusal. It looks at the heads alone, and never at what the model would say.
- `output`: minus the log-odds of the model's own refusal openers: log probability of opening with an answer rather than
  with a refusal. It looks at what the model would say, and never at a head.
- `random`: nothing is asked, and nothing chosen. As many queries would make no difference to a choice by chance.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.datasets import PLAIN, PROMPT_COLUMNS, prompt_id, wrap
from refusal_cliff.errors import UserError
from refusal_cliff.head_effects import direct_contributions
from refusal_cliff.traces import (
    TRACE_KEY,
    ChatFormat,
    encode_trace,
    length_batches,
    length_switch,
    pad_left,
    render_prompt,
)
from refusal_cliff.wrappers import HOLE, compose, random_wrappers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from refusal_cliff.readouts import Readout
    from refusal_cliff.traces import EncodedTrace

    Objective = Callable[[list[EncodedTrace]], np.ndarray]

SEARCHED = ("circuit", "output")
OBJECTIVES = (*SEARCHED, "random")
ATTACK, PREFILL = ATTACK_SETS = ("attack", "prefill")
"""Prompt sets of test requests under attack."""
PLAIN_SET = "plain"
"""Dataset of the same requests without a wrapper. Those of set `prefill` have none either: their thinking is given."""


def attack_name(source: str, objective: str) -> str:
    """What a dataset of wrapped requests, and its family, are called."""
    return f"attack:{source}:{objective}"


def circuit_objective(
    model: "PreTrainedModel", readout: "Readout", heads: Collection[tuple[int, int]], pad_id: int, batch_size: int
) -> "Objective":
    """Minus the summed direct effects of `heads` on a readout, of every trace: [trace], in logits."""
    layers, places = np.array(sorted(heads)).T

    def objective(encoded: list["EncodedTrace"]) -> np.ndarray:
        effects = direct_contributions(model, encoded, [readout], pad_id, batch_size)[0]
        return -effects[:, layers, places].sum(axis=1)

    return objective


def output_objective(model: "PreTrainedModel", readout: "Readout", pad_id: int, batch_size: int) -> "Objective":
    """Minus a readout of the final state at the last boundary token, of every trace: [trace], in logits."""
    import torch

    from refusal_cliff.models import run_decoder

    def objective(encoded: list["EncodedTrace"]) -> np.ndarray:
        values = np.empty(len(encoded))
        for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
            ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
            with torch.inference_mode():
                last = run_decoder(model, ids, mask).last_hidden_state[:, -1]
            values[batch] = -readout(last.cpu().double()).numpy()
        return values

    return objective


def searched_traces(
    traces: pd.DataFrame, prompts: pd.DataFrame, behaviours: pd.DataFrame, datasets: Collection[str], limit: int
) -> pd.DataFrame:
    """What wrappers are searched on: plain requests that the model thought about, and refused; at most `limit`.

    Args:
        traces: prompt_id, sample, thinking, finish_reason, of set `fit`.
        prompts: prompt_id, dataset, prompt.
        behaviours: output of `judges.behaviour`.

    Returns:
        prompt and thinking of each, in the order of their ids.

    Raises:
        UserError: the model refused none of them.
    """
    wanted = prompts.loc[prompts["dataset"].isin(datasets), ["prompt_id", "prompt"]]
    closed = traces[(traces["finish_reason"] != "unclosed")].merge(behaviours, on=TRACE_KEY, validate="one_to_one")
    refused = closed[closed["refused"].astype(bool)].drop_duplicates("prompt_id")
    found = wanted.merge(refused[["prompt_id", "thinking"]], on="prompt_id").sort_values("prompt_id").head(limit)
    if found.empty:
        raise UserError(
            f"transfer.fit: the model refused no request of {', '.join(datasets)}, so no wrapper could undo a refusal; "
            "take it out of transfer.sources, or name other datasets"
        )
    return found[["prompt", "thinking"]].reset_index(drop=True)


@dataclass(frozen=True)
class Asker:
    """Asks a model about wrapped requests.

    Attributes:
        tokenizer, chat: the model's.
        asked: prompt, thinking; output of `searched_traces`.
    """

    tokenizer: "PreTrainedTokenizerBase"
    chat: ChatFormat
    asked: pd.DataFrame

    def mean(self, objective: "Objective", wrappers: Sequence[str]) -> np.ndarray:
        """Mean of an objective over the requests, of each wrapper: [wrapper]."""
        encoded = [
            encode_trace(
                self.tokenizer,
                render_prompt(self.tokenizer, wrapper.replace(HOLE, row.prompt), self.chat),
                row.thinking,
                self.chat.boundary,
            )
            for wrapper in wrappers
            for row in self.asked.itertuples()
        ]
        return objective(encoded).reshape(len(wrappers), len(self.asked)).mean(axis=1)


def search(score: Callable[[Sequence[str]], np.ndarray], wrappers: Sequence[str], rounds: int) -> pd.DataFrame:
    """Greedy search: in every round all wrappers are put around the best that was found, at first around nothing.

    Args:
        score: takes wrappers and gives a number for each; more is better.

    Returns:
        round (from 1), wrapper, score: everything that was asked, best first; of equal ones, the first asked.
    """
    best, rows = HOLE, []
    for turn in range(1, rounds + 1):
        tried = [compose(wrapper, best) for wrapper in wrappers]
        rows += zip([turn] * len(tried), tried, score(tried), strict=True)
        best = max(rows, key=lambda row: row[2])[1]
    table = pd.DataFrame(rows, columns=["round", "wrapper", "score"])
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def search_attacks(
    objectives: Mapping[str, "Objective"], asker: Asker, wrappers: Sequence[str], rounds: int, kept: int
) -> pd.DataFrame:
    """What each objective asked and chose: objective, round, wrapper, score, queries (of the objective), chosen."""
    tables = []
    for name, objective in objectives.items():
        found = search(lambda tried, objective=objective: asker.mean(objective, tried), wrappers, rounds)
        found = found.assign(objective=name, queries=len(found) * len(asker.asked), chosen=found.index < kept)
        tables.append(found)
    return pd.concat(tables, ignore_index=True)[["objective", "round", "wrapper", "score", "queries", "chosen"]]


def attacked_requests(prompts: pd.DataFrame, datasets: Collection[str]) -> pd.DataFrame:
    """The plain requests of set `test` that are attacked, as `datasets.select_rows` gives them."""
    own = prompts[prompts["dataset"].isin(datasets) & (prompts["family"] == PLAIN)]
    return own[["prompt", "category", "reference", "match", "label"]].reset_index(drop=True)


def attack_datasets(
    found: pd.DataFrame, requests: pd.DataFrame, wrappers: list[str], source: str, rounds: int, seed: int
) -> dict[str, pd.DataFrame]:
    """A dataset for each of `OBJECTIVES`, as `datasets.wrap` makes them: every request in one wrapper.

    What an objective chose is dealt in turn; every request has a random wrapper of its own.

    Args:
        found: output of `search_attacks`.
        requests: output of `attacked_requests`.
        wrappers: what was searched.
        seed: of the random wrappers, beside the source.
    """
    chosen = {name: found.loc[(found["objective"] == name) & found["chosen"], "wrapper"].tolist() for name in SEARCHED}
    chosen["random"] = random_wrappers(wrappers, rounds, len(requests), f"{source} {seed}")
    return {name: wrap(requests, {attack_name(source, name): texts}) for name, texts in chosen.items()}


def with_ids(datasets: Mapping[str, pd.DataFrame], prompt_set: str) -> pd.DataFrame:
    """The datasets of attacks as one table with `PROMPT_COLUMNS`: a row for every prompt of every dataset.

    Two searches may choose the same wrapper: then one prompt is in two datasets.
    """
    table = pd.concat(
        [rows.assign(dataset=name, prompt_set=prompt_set) for name, rows in datasets.items()], ignore_index=True
    )
    table["prompt_id"] = table["prompt"].map(prompt_id)
    table["request_id"] = table["request"].map(prompt_id)
    return table[list(PROMPT_COLUMNS)]


def prefilled_traces(own: pd.DataFrame, benign: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Traces of harmful requests with the thinking of benign ones: what an attacker writes in front of the boundary.

    Args:
        own: the model's own traces of the requests, of which all but the thinking is kept.
        benign: thinking of closed traces of benign prompts that the same model answered.
        seed: of which thinking goes with which request.

    Returns:
        As `own`, closed and without a response, for `generation.continue_traces`.

    Raises:
        UserError: the model answered no benign prompt.
    """
    if benign.empty:
        raise UserError(
            "heads.benign: the model answered no prompt of these datasets, so there is no benign thinking to prefill; "
            "name others of set fit, or take the model out of transfer"
        )
    drawn = benign["thinking"].sample(len(own), replace=len(benign) < len(own), random_state=seed)
    return own.assign(thinking=drawn.to_numpy(), response="", finish_reason="stop")
