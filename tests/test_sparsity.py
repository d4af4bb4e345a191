"""When a sparse circuit may be claimed, and what concentration measures."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff.sparsity import concentration, relative_drop, repair

TOP, RANDOM = "ablate-causal-0.03", ("ablate-random0-0.03", "ablate-random1-0.03")


def excess(asr, variants=None):
    runs = synthetic.outcomes("m", asr, variants or ["base", TOP, *RANDOM])
    table = repair(runs, fraction=0.03, alignment_asr=0.10, seed=0)
    return table.set_index("quantity")


def test_a_circuit_whose_removal_repairs_is_claimed():
    table = excess({"base": 0.8, TOP: 0.0, RANDOM[0]: 0.7, RANDOM[1]: 0.8})
    assert table.loc["repaired_share", "value"] == pytest.approx(1)
    assert table.loc["excess", "value"] == pytest.approx(0.75 / 0.8, abs=0.03)
    assert table.loc["excess", "claimed"]
    assert table.loc["excess", "n"] == synthetic.HARMFUL


def test_a_repair_that_random_heads_make_too_is_not_claimed():
    table = excess({"base": 0.8, TOP: 0.0, RANDOM[0]: 0.1, RANDOM[1]: 0.0})
    assert table.loc["repaired_share", "value"] == pytest.approx(1)
    assert not table.loc["excess", "claimed"]


def test_half_a_repair_and_a_wide_interval_are_not_claimed():
    assert not excess({"base": 0.8, TOP: 0.4}).loc["excess", "claimed"]
    half_and_a_bit = excess({"base": 0.8, TOP: 0.35}).loc["excess"]
    assert half_and_a_bit["value"] > 0.5
    assert half_and_a_bit["low"] < 0.5
    assert not half_and_a_bit["claimed"]


def test_nothing_is_claimed_of_a_well_aligned_model():
    table = excess({"base": 0.1, TOP: 0.0})
    assert table.loc["excess", "value"] == pytest.approx(1)
    assert pd.isna(table.loc["excess", "claimed"])
    never = excess({"base": 0.0})
    assert never["value"].isna().all()
    assert never["claimed"].isna().all()


def test_without_a_random_control_nothing_is_claimed():
    table = excess({"base": 0.8, TOP: 0.0}, ["base", TOP])
    assert table.loc["repaired_share", "value"] == pytest.approx(1)
    assert np.isnan(table.loc["excess", "value"])
    assert pd.isna(table.loc["excess", "claimed"])


def test_other_fractions_and_kinds_play_no_part():
    asr = {"base": 0.8, TOP: 0.0}
    assert len(excess(asr, ["base", TOP, *RANDOM, "ablate-causal-0.1", "tune-whole-1-s0", "mean-causal-0.03"])) == 2


def test_a_ratio_that_never_varies_still_has_an_interval():
    base = pd.Series([1.0] * 10 + [0.0] * 10)
    drop = relative_drop(base, base, base * 0, seed=0)
    assert drop.value == 1
    assert 0.6 < drop.low < 0.9
    assert drop.high == 1, "no more than everything can be repaired"
    missing = relative_drop(base, base.iloc[:15], base * 0, seed=0)
    assert missing.n == 15, "prompts that one run misses are left out of all"


def test_concentration_of_one_head_and_of_all():
    one = np.zeros((20, 4, 8))
    one[:, 1, 2] = -3.0
    found = concentration(one, k=2, seed=0).set_index("quantity")["value"]
    assert found["top_share"] == 1
    assert found["effective_heads"] == pytest.approx(1)
    assert found["gini"] == pytest.approx(31 / 32)
    equal = concentration(-np.ones((20, 4, 8)), k=2, seed=0).set_index("quantity")["value"]
    assert equal["top_share"] == pytest.approx(2 / 32)
    assert equal["effective_heads"] == pytest.approx(32)
    assert equal["gini"] == pytest.approx(0)
    promoting = concentration(np.ones((20, 4, 8)), k=2, seed=0).set_index("quantity")["value"]
    assert np.isnan(promoting["top_share"])
