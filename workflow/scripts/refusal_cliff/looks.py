"""What a model does with prompts of its training along it: looks, and whether they are good enough."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

LOOK_COLUMNS = ["step", "prompt_id", "request_id", "dataset", "label", "closed", "recognised", "refused"]
GATED = {
    "refused": ("harmful", "refused"),
    "answered": ("harmful", "helped"),
    "helped": ("benign", "helped"),
    "closed": (None, "closed"),
}
"""What a recipe's gate may ask for: of prompts of which label, and what of them."""


def watched_prompts(prompts: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`count` prompts of each label, or all there are: the same at every look.

    Args:
        prompts: prompt_id, prompt, label.
    """
    chosen = prompts.groupby("label").sample(frac=1, random_state=seed).groupby("label").head(count)
    return chosen.reset_index(drop=True)


def gate(looks: pd.DataFrame, bounds: Mapping[str, float]) -> dict[str, Any]:
    """Whether the last look meets the recipe's bounds.

    Args:
        looks: `LOOK_COLUMNS`.
        bounds: least shares: refused and answered (of harmful prompts; answered is closed and not refused), helped
            (benign ones answered), closed (of all).

    Returns:
        step, the shares that are bounded, n (prompts of each label), met.

    Raises:
        ValueError: no prompt of a label that is bounded.
    """
    last = looks[looks["step"] == looks["step"].max()].astype({"refused": "boolean"})
    refused = last["refused"].fillna(False).astype(bool)
    last = last.assign(helped=last["closed"] & ~refused, refused=refused)
    shares = {}
    for name in bounds:
        label, column = GATED[name]
        asked = last if label is None else last[last["label"] == label]
        if asked.empty:
            raise ValueError(f"no {label} prompt is watched, and the gate bounds {name}")
        shares[name] = float(asked[column].mean())
    met = all(share >= bounds[name] for name, share in shares.items())
    return {"step": int(last["step"].iloc[0]), **shares, "n": last["label"].value_counts().to_dict(), "met": met}
