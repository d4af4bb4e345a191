"""What a model learns or loses first, look by look."""

from collections.abc import Mapping

import pandas as pd

from refusal_cliff.stats import Estimate, share


def looks_table(looks: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """What is learnt or lost first: shares of the watched prompts at every look.

    Args:
        looks: `looks.LOOK_COLUMNS` and model.
        families: the family of each model.

    Returns:
        family, model, step, last (whether it is the model's last), label, quantity (closed; recognised: the thinking
        means to refuse; refused; gap: recognised and not refused), value, low, high (Wilson), n (prompts).
    """
    # What never closes its thinking has refused nothing.
    refused = looks["refused"].astype("boolean").fillna(False).astype(bool)
    said = looks.assign(refused=refused, gap=looks["recognised"] & ~refused)
    last = looks.groupby("model")["step"].max()
    rows = [
        (families[model], model, step, step == last[model], label, quantity, *share(int(own[quantity].sum()), len(own)))
        for (model, step, label), own in said.groupby(["model", "step", "label"], sort=True)
        for quantity in ("closed", "recognised", "refused", "gap")
    ]
    return pd.DataFrame(rows, columns=["family", "model", "step", "last", "label", "quantity", *Estimate._fields])
