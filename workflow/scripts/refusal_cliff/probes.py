"""Refusal probes: logistic regression on hidden states, one per layer, labelled by what the model did."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.stats import auroc, wilson

# Which kinds of kept position (activations.kept_positions) each position set of the config takes in.
POSITION_SETS = {
    "last_prompt": ("last_prompt",),
    "thinking": ("thinking",),
    "boundary": ("boundary", "last_boundary"),
    "last_boundary": ("last_boundary",),
}
HELD_OUT_SHARE = 0.25


def behaviour(verdicts: pd.DataFrame, refusal_judge: str) -> pd.DataFrame:
    """What the model did in each trace, by the judge of refusal: prompt_id, sample, refused (bool).

    Labels come from verdicts, never from the prompt set: a probe whose positive class is "harmful prompt" learns the
    topic. Traces without a verdict are left out.
    """
    own = verdicts[(verdicts["judge"] == refusal_judge) & verdicts["verdict"].notna()]
    return own[["prompt_id", "sample"]].assign(refused=own["verdict"].eq("refusal").astype(bool)).reset_index(drop=True)


def training_rows(
    rows: pd.DataFrame, prompts: pd.DataFrame, labels: pd.DataFrame, recipe: Mapping[str, Any]
) -> pd.DataFrame:
    """Rows of the activation dump that a probe trains on, with their label.

    Args:
        rows: prompt_id, sample, kind, position; its index is the row of the dump.
        labels: prompt_id, sample, refused.
        recipe: positions (a key of POSITION_SETS) and datasets.

    Raises:
        UserError: the model refused every trace or none, so that a class is empty.
    """
    wanted = prompts.loc[prompts["dataset"].isin(recipe["datasets"]), "prompt_id"]
    chosen = rows[rows["kind"].isin(POSITION_SETS[recipe["positions"]]) & rows["prompt_id"].isin(wanted)]
    chosen = chosen.reset_index(names="row").merge(labels, on=["prompt_id", "sample"], validate="many_to_one")
    traces = chosen.drop_duplicates(["prompt_id", "sample"])
    refused = int(traces["refused"].sum())
    if min(refused, len(traces) - refused) < 2:
        raise UserError(
            f"the model refused {refused} of {len(traces)} traces of {', '.join(recipe['datasets'])}; a probe needs at "
            "least 2 refused and 2 answered ones: add datasets to probes.<name>.datasets that the model refuses (or "
            "answers), or check judges.phrases against its responses"
        )
    return chosen


def split_prompts(chosen: pd.DataFrame, seed: int) -> np.ndarray:
    """True for held-out rows: a quarter of the prompts of each class, all positions of a prompt on one side."""
    from sklearn.model_selection import train_test_split

    prompts = chosen.groupby("prompt_id")["refused"].max()
    _, held_out = train_test_split(
        prompts.index.to_numpy(), test_size=HELD_OUT_SHARE, random_state=seed, stratify=prompts.to_numpy()
    )
    return chosen["prompt_id"].isin(held_out).to_numpy()


def fit_direction(features: np.ndarray, refused: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and bias of P(refused) = sigmoid(w·h + b), in the units of the features.

    Features are standardised for the fit and the scale is folded back into w and b. Classes are weighted to balance.

    Args:
        features: [row, d_model].
        refused: bool [row].

    Returns:
        w [d_model] and b.
    """
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(axis=0)
    scale = features.std(axis=0)
    scale[scale == 0] = 1.0
    fitted = LogisticRegression(class_weight="balanced", max_iter=1000).fit((features - mean) / scale, refused)
    w = fitted.coef_[0] / scale
    return w, float(fitted.intercept_[0] - w @ mean)


def train_probe(resid: np.ndarray, chosen: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Fit one probe per layer and measure it on held-out prompts.

    Args:
        resid: float [row, layer, d_model], the whole dump.
        chosen: output of `training_rows`.

    Returns:
        w [layer, d_model], b [layer], and metrics per layer: layer, metric (accuracy, auroc), value, low, high, n.
    """
    held_out = split_prompts(chosen, seed)
    refused = chosen["refused"].to_numpy()
    states = resid[chosen["row"].to_numpy()].astype(np.float64)
    weights, biases, metrics = [], [], []
    for layer in range(states.shape[1]):
        w, b = fit_direction(states[~held_out, layer], refused[~held_out])
        weights.append(w)
        biases.append(b)
        logit = states[held_out, layer] @ w + b
        truth = refused[held_out]
        right = int(((logit > 0) == truth).sum())
        metrics.append((layer, "accuracy", right / len(truth), *wilson(right, len(truth)), len(truth)))
        metrics.append((layer, "auroc", *auroc(logit[truth], logit[~truth], seed), len(truth)))
    table = pd.DataFrame(metrics, columns=["layer", "metric", "value", "low", "high", "n"])
    return np.stack(weights), np.array(biases), table
