"""Tables of attention: what the top heads look at from the boundary, beside all other heads."""

from itertools import product

import numpy as np
import pandas as pd

from refusal_cliff.attention import QUERIES, SPANS
from refusal_cliff.rankings import top_heads
from refusal_cliff.stats import bootstrap_mean
from refusal_cliff.tables import by_model


@by_model
def attention_by_group(attention: pd.DataFrame, ranking: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Where the top heads look, the rest, and the difference, paired by prompt.

    Heads of a group, and the traces of one prompt, are averaged first; requests are what is resampled.

    Args:
        attention: model, prompt_id, sample, request_id, layer, head, query, span, mass, uniform.
        ranking: model, layer, head, rank, of one ranking.
        fraction: share of all heads that are its top ones.

    Returns:
        model, group (top, rest, or top minus rest), query, span, quantity, value, low, high, n (prompts): `mass`, which
        adds up to 1 over spans, and `relative`, mass over what uniform attention would put there, over the prompts that
        have such a span. No rows where the ranking could not be measured.
    """
    columns = ["group", "query", "span", "quantity", "value", "low", "high", "n"]
    top = top_heads(ranking, fraction)
    if not top:
        return pd.DataFrame(columns=columns)
    chosen = pd.MultiIndex.from_frame(attention[["layer", "head"]]).isin(top)
    values = attention.assign(group=np.where(chosen, "top", "rest"))
    means = values.pivot_table(
        index=["query", "span", "prompt_id", "request_id"], columns="group", values=["mass", "uniform"]
    )
    quantities = {"mass": means["mass"], "relative": means["mass"] / means["uniform"].where(means["uniform"] > 0)}
    rows = []
    for query, span, (quantity, table) in product(QUERIES, SPANS, quantities.items()):
        by_prompt = table.loc[(query, span)].dropna()
        difference = by_prompt["top"] - by_prompt["rest"]
        for group, found in {"top": by_prompt["top"], "rest": by_prompt["rest"], "top minus rest": difference}.items():
            requests = found.index.get_level_values("request_id")
            rows.append((group, query, span, quantity, *bootstrap_mean(found, seed, requests)))
    return pd.DataFrame(rows, columns=columns)
