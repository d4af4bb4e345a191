"""Order the examples of the safety-training pool, and keep a budget of them (section 5 of the paper).

Every selector gives each example a score; larger is chosen first. All selectors are compared at equal size, whatever
size the paper's rule and judge happened to keep.
"""

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.traces import TRACE_KEY


def score_examples(
    selector: str,
    traces: pd.DataFrame,
    verdicts: pd.DataFrame,
    cliffs: pd.DataFrame,
    probe: str,
    refusal_judge: str,
) -> pd.DataFrame:
    """Score of every example by one selector: prompt_id, sample, score.

    Selectors:
        cliff: the misalignment score, plateau - final, at the last layer of the probe (Cliff-as-a-Judge).
        rule: 1 where the response is no refusal by phrases, else 0.
        guard: the guard's probability that the response is harmful, whoever is the judge of harm.
        random, whole: 0 for all, so that the seeded order among ties decides.

    Args:
        traces: the pool's traces; unclosed ones have no thinking to train on and are left out.
        verdicts: of the same traces.
        cliffs: prompt_id, sample, probe, layer, cliff, of every probe; they need not have the same layers.
        probe: the one that scores.
    """
    pool = traces.loc[traces["finish_reason"] != "unclosed", TRACE_KEY]
    verdicts = verdicts[verdicts["scope"] == "response"]
    if selector == "cliff":
        own = cliffs[cliffs["probe"] == probe]
        scores = own.loc[own["layer"] == own["layer"].max(), [*TRACE_KEY, "cliff"]].rename(columns={"cliff": "score"})
    elif selector == "rule":
        own = verdicts[verdicts["judge"] == refusal_judge]
        scores = own[TRACE_KEY].assign(score=own["verdict"].eq("no_refusal").astype(float))
    elif selector == "guard":
        scores = verdicts.loc[verdicts["judge"] == "guard", [*TRACE_KEY, "score"]]
    elif selector in ("random", "whole"):
        scores = pool.assign(score=0.0)
    else:
        raise UserError(f"unknown selector {selector!r}; selection.selectors takes cliff, random, rule, guard, whole")
    return pool.merge(scores, on=TRACE_KEY, how="left", validate="one_to_one")


def select_examples(scores: pd.DataFrame, budget: float, seed: int) -> pd.DataFrame:
    """The best `budget` of the pool: prompt_id, sample, score, rank (from 1).

    Ties, and examples without a score at the end, are in seeded random order.

    Args:
        scores: prompt_id, sample, score.
        budget: share of the pool in (0, 1]; rounded to whole examples, at least one.
    """
    shuffled = scores.sort_values(TRACE_KEY).sample(frac=1, random_state=seed)
    ordered = shuffled.sort_values("score", ascending=False, kind="stable", na_position="last")
    kept = ordered.head(max(1, round(budget * len(scores))))
    return kept.assign(rank=np.arange(1, len(kept) + 1)).reset_index(drop=True)
