"""Order the examples of the safety-training pool, and keep a budget of them (section 5 of the paper).

A *selector* gives each example a score; larger is chosen first. All selectors are compared at equal size, whatever size
the paper's rule and judge happened to keep, and each says what it costs: the tokens that it has generated and read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.traces import TRACE_KEY

COSTS = ["generated", "read", "differentiated", "judged"]
"""Tokens that a selector has the model write, read, and read backwards too, and those that another model reads."""


@dataclass(frozen=True)
class Pool:
    """What is known of the examples before any is chosen; tables have `TRACE_KEY`, and rows in any order.

    Attributes:
        traces: finish_reason and numbers of tokens (prompt, thinking, response); unclosed ones have no thinking to
            train on and are left out.
        prompts: prompt_id, prompt.
        verdicts: of the same traces.
        cliffs: probe, layer, cliff, cliff_mean, of every probe; they need not have the same layers.
        gradients: loss, gradient (`example_gradients`); of selectors that need none of it, without rows.
        probe: the one that scores.
        refusal_judge: who says what is a refusal.
    """

    traces: pd.DataFrame
    prompts: pd.DataFrame
    verdicts: pd.DataFrame
    cliffs: pd.DataFrame
    gradients: pd.DataFrame
    probe: str
    refusal_judge: str

    @property
    def examples(self) -> pd.DataFrame:
        """The traces that can be trained on."""
        return self.traces[self.traces["finish_reason"] != "unclosed"]

    def said(self, judge: str) -> pd.DataFrame:
        """Verdicts of a judge on the responses."""
        return self.verdicts[(self.verdicts["scope"] == "response") & (self.verdicts["judge"] == judge)]

    def last_layer(self) -> pd.DataFrame:
        """Cliffs by the last layer of the probe."""
        own = self.cliffs[self.cliffs["probe"] == self.probe]
        return own[own["layer"] == own["layer"].max()]


def by_column(column: str) -> Callable[[Pool], pd.DataFrame]:
    """The cliff by one of its measures: `cliff` from the largest score of the thinking, `cliff_mean` from the mean."""
    return lambda pool: pool.last_layer()[[*TRACE_KEY, column]].rename(columns={column: "score"})


def by_spread(pool: Pool) -> pd.DataFrame:
    """The largest cliffs of as many clusters of prompts (k-means of TF-IDF) as the root of the pool, in turn.

    The first of every cluster come before the second of any, so that a small budget has many kinds of prompts.
    """
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    own = pool.last_layer()[[*TRACE_KEY, "cliff"]].merge(pool.prompts[["prompt_id", "prompt"]], on="prompt_id")
    features = TfidfVectorizer().fit_transform(own["prompt"])
    own["cluster"] = KMeans(max(1, isqrt(len(own))), n_init=4, random_state=0).fit_predict(features)
    turn = own.groupby("cluster")["cliff"].rank(ascending=False, method="first")
    # Cliffs are differences of probabilities: within (-1, 1), so that the turn decides first.
    return own[TRACE_KEY].assign(score=own["cliff"] - 2 * turn)


def by_rule(pool: Pool) -> pd.DataFrame:
    """1 where the response is no refusal by phrases, else 0."""
    own = pool.said(pool.refusal_judge)
    return own[TRACE_KEY].assign(score=own["verdict"].eq("no_refusal").astype(float))


def by_guard(pool: Pool) -> pd.DataFrame:
    """The guard's probability that the response is harmful, whoever is the judge of harm."""
    return pool.said("guard")[[*TRACE_KEY, "score"]]


def by_gradients(column: str) -> Callable[[Pool], pd.DataFrame]:
    """A column of `example_gradients`."""
    return lambda pool: pool.gradients[[*TRACE_KEY, column]].rename(columns={column: "score"})


def by_chance(pool: Pool) -> pd.DataFrame:
    """0 for all, so that the seeded order among ties decides."""
    return pool.examples[TRACE_KEY].assign(score=0.0)


class Selector(NamedTuple):
    """How a selector scores, and what of the whole pool it needs for that.

    Attributes:
        score: from the pool, prompt_id, sample, score.
        needs: of every example: `thinking` and `response` (the model writes them), `read` (the model reads prompt and
            thinking), `differentiated` (and takes a gradient), `judged` (another model reads prompt and response).
            Without any, only what is chosen is written.
    """

    score: Callable[[Pool], pd.DataFrame]
    needs: tuple[str, ...] = ()


SELECTORS = {
    "cliff": Selector(by_column("cliff"), ("thinking", "read")),
    "cliff_mean": Selector(by_column("cliff_mean"), ("thinking", "read")),
    "spread": Selector(by_spread, ("thinking", "read")),
    "loss": Selector(by_gradients("loss"), ("thinking", "read")),
    "gradient": Selector(by_gradients("gradient"), ("thinking", "read", "differentiated")),
    "rule": Selector(by_rule, ("thinking", "response")),
    "guard": Selector(by_guard, ("thinking", "response", "judged")),
    "random": Selector(by_chance),
    "whole": Selector(by_chance),
}
"""Cliff-as-a-Judge (cliff), variants of it, and its rivals."""
DIFFERENTIATED = ("loss", "gradient")
"""Selectors that read `Pool.gradients`."""


def score_examples(selector: str, pool: Pool) -> pd.DataFrame:
    """Score of every example by one of `SELECTORS`: prompt_id, sample, score; missing where it gives none.

    Raises:
        UserError: no such selector.
    """
    if selector not in SELECTORS:
        raise UserError(f"unknown selector {selector!r}; selection.selectors takes {', '.join(SELECTORS)}")
    scores = SELECTORS[selector].score(pool)
    return pool.examples[TRACE_KEY].merge(scores, on=TRACE_KEY, how="left", validate="one_to_one")


def select_examples(scores: pd.DataFrame, budget: float, seed: int) -> pd.DataFrame:
    """The best `budget` of the pool: prompt_id, sample, score, rank (from 1).

    Ties, and examples without a score at the end, are in seeded random order.

    Args:
        scores: prompt_id, sample, score.
        budget: share of the pool in (0, 1], rounded to whole examples, at least one; or, above 1, how many.

    Raises:
        UserError: the pool has fewer.
    """
    if budget > len(scores):
        raise UserError(
            f"selection: {budget:g} examples are to be chosen, and there are {len(scores)}; ask for fewer, or give set "
            "pool, or the ready-made set, more prompts"
        )
    shuffled = scores.sort_values(TRACE_KEY).sample(frac=1, random_state=seed)
    ordered = shuffled.sort_values("score", ascending=False, kind="stable", na_position="last")
    count = round(budget) if budget > 1 else max(1, round(budget * len(scores)))
    return ordered.head(count).assign(rank=np.arange(1, count + 1)).reset_index(drop=True)


def draw_ready(prompts: pd.DataFrame, budget: float, seed: int) -> pd.DataFrame:
    """Examples of a ready-made set, drawn by chance: as `select_examples` and `selection_cost`, which is nothing.

    Args:
        prompts: prompt_id, of the set.
    """
    drawn = select_examples(prompts[["prompt_id"]].assign(sample=0, score=0.0), budget, seed)
    return drawn.assign(**dict.fromkeys(COSTS, 0))


def selection_cost(selector: str, traces: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, int]:
    """`COSTS` of having chosen: tokens of the model's own tokenizer, of the whole pool or of what was chosen.

    Args:
        traces: prompt_id, sample, prompt_tokens, thinking_tokens, response_tokens of the pool.
        chosen: prompt_id, sample.
    """
    needs = SELECTORS[selector].needs
    # Who looks at nothing needs the thinking of the chosen alone, to train on.
    asked = traces if needs or selector == "whole" else traces.merge(chosen[TRACE_KEY], on=TRACE_KEY)
    prompt, thinking, response = (int(asked[f"{part}_tokens"].sum()) for part in ("prompt", "thinking", "response"))
    return {
        "generated": thinking + response * ("response" in needs),
        "read": (prompt + thinking) * ("read" in needs),
        "differentiated": (prompt + thinking) * ("differentiated" in needs),
        "judged": (prompt + response) * ("judged" in needs),
    }


def picks_table(
    selections: pd.DataFrame, traces: pd.DataFrame, prompts: pd.DataFrame, verdicts: pd.DataFrame
) -> pd.DataFrame:
    """What selectors pick: of which kind, and how many of the examples that the model answers.

    Args:
        selections: model, variant, prompt_id, sample of every training example.
        traces, verdicts: of the pool, of every model; verdicts are those of the judge of refusals on responses.
        prompts: prompt_id, dataset of the pool.

    Returns:
        model, variant, dataset (of the pool, or `all`), picked (examples of it that were chosen), answered (examples of
        it that are not refused), precision (share of what is picked, from all datasets, that is an answered one of this
        dataset), recall (share of its answered ones that are picked; missing where there are none).
    """
    examples = traces.loc[traces["finish_reason"] != "unclosed", ["model", *TRACE_KEY]]
    answered = verdicts.assign(answered=verdicts["verdict"].eq("no_refusal"))
    known = examples.merge(answered[["model", *TRACE_KEY, "answered"]], on=["model", *TRACE_KEY], how="left").merge(
        prompts[["prompt_id", "dataset"]], on="prompt_id", validate="many_to_one"
    )
    known["answered"] = known["answered"].fillna(False).astype(bool)
    rows = []
    for (model, variant), chosen in selections.groupby(["model", "variant"], sort=False):
        own = known[known["model"] == model]
        taken = own.merge(chosen[TRACE_KEY], on=TRACE_KEY, how="left", indicator=True)["_merge"].eq("both").to_numpy()
        for dataset in ["all", *own["dataset"].unique()]:
            here = np.ones(len(own), bool) if dataset == "all" else own["dataset"].eq(dataset).to_numpy()
            weak = here & own["answered"].to_numpy()
            hit = int((weak & taken).sum())
            recall = hit / weak.sum() if weak.any() else np.nan
            rows.append(
                (model, variant, dataset, int((here & taken).sum()), int(weak.sum()), hit / taken.sum(), recall)
            )
    columns = ["model", "variant", "dataset", "picked", "answered", "precision", "recall"]
    return pd.DataFrame(rows, columns=columns)
