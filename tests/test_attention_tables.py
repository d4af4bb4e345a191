"""Attention of the top heads beside that of the rest."""

import pandas as pd
import pytest

from refusal_cliff.attention import QUERIES, SPANS
from refusal_cliff.attention_tables import attention_by_group


def test_groups_are_compared_by_prompt():
    rows = [
        ("m", f"p{prompt}", 0, f"r{prompt}", 0, head, query, span, mass, uniform)
        for prompt in range(20)
        for head in range(4)
        for query in QUERIES
        for span in SPANS
        for mass, uniform in [
            (0.6 + 0.01 * (prompt % 3), 0.2)
            if (head, span) == (1, "wrapper")
            else (0.1 if span != "refusal" else 0.0, 0.2 if span != "refusal" else 0.0)
        ]
    ]
    columns = ["model", "prompt_id", "sample", "request_id", "layer", "head", "query", "span", "mass", "uniform"]
    attention = pd.DataFrame(rows, columns=columns)
    ranking = pd.DataFrame({"model": "m", "layer": 0, "head": range(4), "rank": [3, 1, 2, 4]})
    table = attention_by_group(attention, ranking, 0.25, seed=0)
    assert len(table) == 3 * len(QUERIES) * len(SPANS) * 2
    found = table[table["query"] == "last_boundary"].set_index(["group", "span", "quantity"])
    difference = found.loc[("top minus rest", "wrapper", "mass")]
    assert difference["value"] == pytest.approx(0.5095)
    assert 0.5 <= difference["low"] < difference["high"] <= 0.52
    assert difference["n"] == 20
    assert found.loc[("rest", "wrapper", "relative"), "value"] == pytest.approx(0.5)
    # No trace has such a span: there is nothing to relate the mass to.
    assert found.loc[("top", "refusal", "relative"), "n"] == 0
    # Nor are there first heads by what could not be measured.
    unknown = attention_by_group(attention, ranking.assign(rank=float("nan")), 0.25, seed=0)
    assert unknown.empty
    assert unknown.columns.tolist() == table.columns.tolist()
