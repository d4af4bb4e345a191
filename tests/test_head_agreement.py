"""Agreement and stability of rankings, tests of single heads: known answers on made-up effects."""

import numpy as np
import pandas as pd
import pytest

from refusal_cliff.errors import UserError
from refusal_cliff.head_agreement import agreement, check_same_traces, head_table, stability
from refusal_cliff.rankings import rank_heads

TRACES, LAYERS, HEADS = 30, 4, 8


def effects(noise=0.1, seed=0):
    """Mean effects -16 … 15 in order of the head, with noise between traces."""
    mean = np.arange(LAYERS * HEADS).reshape(LAYERS, HEADS) - 16.0
    return mean + np.random.default_rng(seed).normal(0, noise, (TRACES, LAYERS, HEADS))


def one(table, quantity, k=None):
    rows = table[(table["quantity"] == quantity) & (table["k"].isna() if k is None else table["k"] == k)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_agreement_of_equal_and_of_opposite_rankings():
    table = agreement({"causal": effects(), "gradient": 2 * effects(seed=1), "direct": -effects()}, [2, 4], seed=0)
    assert set(zip(table["ranking"], table["other"], strict=True)) == {
        ("causal", "gradient"),
        ("causal", "direct"),
        ("gradient", "direct"),
    }
    equal, opposite = (table[table["ranking"] == "causal"].query(f"other == '{o}'") for o in ("gradient", "direct"))
    assert one(equal, "spearman")["value"] == pytest.approx(1)
    assert one(opposite, "spearman")["value"] == pytest.approx(-1)
    assert one(equal, "overlap", 2)["value"] == 1
    assert one(opposite, "overlap", 4)["value"] == 0
    assert 0 < one(opposite, "overlap", 4)["high"] < 0.2
    assert (table["n"] == TRACES).all()


def test_agreement_is_scipys_spearman_and_its_bootstrap_is_paired():
    rng = np.random.default_rng(0)
    noisy = effects(noise=30)
    other = noisy + rng.normal(0, 1e-6, noisy.shape)
    from scipy.stats import spearmanr

    unrelated = rng.normal(size=noisy.shape)
    table = agreement({"a": noisy, "b": unrelated}, [3], seed=0)
    expected = spearmanr(noisy.mean(axis=0).ravel(), unrelated.mean(axis=0).ravel()).statistic
    assert one(table, "spearman")["value"] == pytest.approx(expected)
    # Noise that both share cancels when they are resampled together, however large it is.
    assert one(agreement({"a": noisy, "b": other}, [3], seed=0), "spearman")["low"] > 0.999


def test_stability_tells_a_clear_order_from_noise():
    clear, noise = stability(effects(), [2], seed=0), stability(effects(noise=200), [2], seed=0)
    assert one(clear, "split_half_spearman")["value"] > 0.99
    assert one(clear, "overlap", 2)["value"] == 1
    assert 0.8 < one(clear, "overlap", 2)["low"] < 1  # the same in every resample, but of 30 traces alone
    assert one(noise, "split_half_spearman")["value"] < 0.3
    # A resample shares traces with the full sample; halves share none.
    assert one(noise, "spearman")["value"] > one(noise, "split_half_spearman")["value"] + 0.2
    assert (noise["low"] <= noise["value"]).all()
    assert (noise["value"] <= noise["high"]).all()


def test_one_trace_has_no_halves():
    assert set(stability(effects()[:1], [2], seed=0)["quantity"]) == {"spearman", "overlap"}


def test_head_table_tests_every_head_with_holm_over_all():
    values = np.random.default_rng(0).normal(0, 1, (TRACES, LAYERS, HEADS))
    values[:, 2, 5] -= 5
    values[:, 0, 0] = 0
    table = head_table(rank_heads(values, seed=0), values, planted=[[2, 5]])
    strong = table[table["planted"]].iloc[0]
    assert (strong["layer"], strong["head"], strong["rank"]) == (2, 5, 1)
    assert strong["p_holm"] < 1e-6
    silent = table.query("layer == 0 and head == 0").iloc[0]
    assert silent["p"] == silent["p_holm"] == 1
    assert (table["p_holm"] >= table["p"]).all()
    rest = table[~table["planted"]]
    assert (rest["p"] < 0.05).any(), "some head passes by chance: the seed makes it so"
    assert (rest["p_holm"] > 0.05).all()


def test_planted_heads_of_a_model_nobody_planted_are_missing():
    table = head_table(rank_heads(effects(), seed=0), effects())
    assert table["planted"].isna().all()
    assert not head_table(rank_heads(effects(), seed=0), effects(), planted=[])["planted"].any()


def test_rankings_of_other_traces_are_an_error():
    check_same_traces({"causal": [["a", 0], ["b", 0]], "direct": [["a", 0], ["b", 0]]}, "m")
    with pytest.raises(UserError, match="rankings causal and direct were measured on different traces"):
        check_same_traces({"causal": [["a", 0], ["b", 0]], "direct": [["b", 0], ["a", 0]]}, "m")


def test_agreement_needs_whole_numbers_of_heads():
    assert agreement({"a": effects(), "b": effects()}, [2], seed=0)["k"].dtype == pd.Int64Dtype()
