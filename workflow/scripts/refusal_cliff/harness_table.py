"""What models and their variants get right of the tasks of lm-evaluation-harness, side by side."""

import pandas as pd

from refusal_cliff.stats import bootstrap_mean, grouped_share, paired_difference

TABLE_COLUMNS = ["model", "variant", "task", "filter", "metric", "value", "low", "high", "n"]
TABLE_COLUMNS += ["change", "change_low", "change_high"]


def tabulate(items: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What each variant gets right, and what a variant changes, item by item.

    Args:
        items: model, variant, and `harness.ITEM_COLUMNS`; every model has the variant `base`.

    Returns:
        `TABLE_COLUMNS`: a share with its Wilson interval where all values are 0 or 1, else a mean with a bootstrap
        interval; change is variant minus base, paired, with a bootstrap interval over items.
    """
    rows = []
    for (model, *measured), of in items.groupby(["model", "task", "filter", "metric"], sort=False):
        base = of[of["variant"] == "base"].set_index("doc")["value"]
        for variant, own in of.groupby("variant", sort=False):
            values = own.set_index("doc")["value"]
            whole = values.isin([0, 1]).all()
            found = grouped_share(values, values.index) if whole else bootstrap_mean(values, seed)
            change = [None] * 3
            if variant != "base":
                change = list(paired_difference(base.reindex(values.index), values, seed)[:3])
            rows.append([model, variant, *measured, *found, *change])
    return pd.DataFrame(rows, columns=TABLE_COLUMNS).astype(
        {"change": float, "change_low": float, "change_high": float}
    )
