"""When a sparse circuit may be claimed, and what concentration measures."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff.sparsity import concentration, planted_recall, relative_drop, repair, sparsity_table
from refusal_cliff.stats import wilson

TOP, RANDOM = "ablate-causal-0.03", ("ablate-random0-0.03", "ablate-random1-0.03")


def excess(asr, variants=None):
    runs = synthetic.outcomes("m", asr, variants or ["base", TOP, *RANDOM])
    table = repair(runs, fraction=0.03, seed=0)
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


def by_prompt(shares, prompts_of_request=1):
    """Shares by prompt, of which so many have a request in common."""
    prompts = range(len(shares))
    requests = [prompt // prompts_of_request for prompt in prompts]
    return pd.Series(shares, pd.MultiIndex.from_arrays([requests, prompts], names=["request_id", "prompt_id"]))


def test_a_ratio_that_never_varies_still_has_an_interval():
    base = by_prompt([1.0] * 10 + [0.0] * 10)
    drop = relative_drop(base, base.to_frame(), base * 0, seed=0)
    assert drop.value == 1
    assert 0.6 < drop.low < 0.9
    assert drop.high == 1, "no more than everything can be repaired"
    assert drop.low == pytest.approx(1 - wilson(0, 10)[1])
    wrapped = by_prompt([1.0] * 10 + [0.0] * 10, 5)
    assert relative_drop(wrapped, wrapped.to_frame(), wrapped * 0, seed=0).low == pytest.approx(1 - wilson(0, 2)[1])
    missing = relative_drop(base, base.iloc[:15].to_frame(), base * 0, seed=0)
    assert missing.n == 15, "prompts that one run misses are left out of all"


def test_a_repair_is_not_surer_for_being_incomplete():
    base = by_prompt([1.0] * 20)
    found = []
    for left in np.linspace(0, 1, 21):  # of one response, in samples
        found.append(relative_drop(base, base.to_frame(), by_prompt([left] + [0.0] * 19), seed=0))
    value, low, high, _ = np.transpose(found)
    assert value[0] == 1
    assert (np.diff(value) < 0).all()
    assert (np.diff(low) <= 0).all()
    assert (np.diff(high) <= 0).all()


def effects(by_head, ranking="causal", traces=20):
    """The same effects [layer, head] on every trace."""
    return synthetic.effects({ranking: np.tile(by_head, (traces, 1, 1))}, "m")


def test_concentration_of_one_head_and_of_all():
    def found(by_head):
        return concentration(effects(by_head), 0.06, seed=0).set_index("quantity")["value"]  # 2 of 32 heads

    one = np.zeros((4, 8))
    one[1, 2] = -3.0
    assert found(one)["top_share"] == 1
    assert found(one)["effective_heads"] == pytest.approx(1)
    assert found(one)["gini"] == pytest.approx(31 / 32)
    equal = found(-np.ones((4, 8)))
    assert equal["top_share"] == pytest.approx(2 / 32)
    assert equal["effective_heads"] == pytest.approx(32)
    assert equal["gini"] == pytest.approx(0)
    assert np.isnan(found(np.ones((4, 8)))["top_share"])


def test_concentration_is_of_each_model_and_ranking():
    both = pd.concat([effects(-np.eye(4)), effects(-np.eye(4), "direct").assign(model="n")])
    table = concentration(both.sample(frac=1, random_state=0), 0.1, seed=0)
    assert set(zip(table["model"], table["ranking"], strict=True)) == {("m", "causal"), ("n", "direct")}
    assert set(table["n"]) == {20}
    assert table.query("quantity == 'effective_heads'")["value"].tolist() == pytest.approx([4, 4])


def test_recall_is_of_the_heads_set_to_zero_at_the_operating_point():
    heads = {
        "ablate-causal-0.03": {(2, 1), (3, 2)},
        "ablate-direct-0.03": {(2, 1), (0, 0)},
        "ablate-causal-0.1": set(),
        "ablate-openers_causal-0.03": set(),  # could not be measured
        "mean-causal-0.03": set(),
        "keep-0.5": set(),
    }
    ablated = {(model, name): frozenset(found) for model in ("m", "none", "unknown") for name, found in heads.items()}
    table = planted_recall(ablated, {"m": frozenset({(2, 1), (3, 2)}), "none": frozenset()}, 0.03)
    assert table[["model", "ranking", "value", "n"]].to_numpy().tolist() == [
        ["m", "causal", 1.0, 2],
        ["m", "direct", 0.5, 2],
    ]
    assert (table["low"] < table["value"]).all()


def test_the_table_says_whose_heads_are_known():
    runs = pd.concat([synthetic.outcomes(model, {"base": 0.8, TOP: 0.0}, ["base", TOP]) for model in "abc"])
    planted = {"a": frozenset({(2, 1)}), "b": frozenset()}
    heads = {("a", TOP): frozenset({(2, 1)})}
    table = sparsity_table(runs, effects(-np.eye(4)).assign(model="a"), heads, planted, 0.03, seed=0)
    assert table.groupby("model")["planted"].agg(set).to_dict() == {"a": {"yes"}, "b": {"no"}, "c": {"unknown"}}
    assert set(table["quantity"]) == {
        *("repaired_share", "excess", "planted_recall"),
        *("top_share", "effective_heads", "gini"),
    }
    well = sparsity_table(synthetic.outcomes("m", {"base": 0.0}, ["base"]), table.iloc[:0], {}, {}, 0.03, seed=0)
    assert list(well) == list(table)
    base = runs[runs["variant"] == "base"]
    unablated = sparsity_table(base, effects(-np.eye(4)).assign(model="a"), {}, planted, 0.03, seed=0)
    assert list(unablated) == list(table) and unablated["claimed"].isna().all()


def test_draws_that_differ_are_part_of_the_interval():
    base, after = by_prompt([1.0] * 40), by_prompt([0.0] * 40)
    alike = pd.DataFrame({"random0": by_prompt([0.5] * 40), "random1": by_prompt([0.5] * 40)})
    apart = pd.DataFrame({"random0": by_prompt([0.1] * 40), "random1": by_prompt([0.9] * 40)})
    same, different = (relative_drop(base, draws, after, seed=0) for draws in (alike, apart))
    assert (same.value, different.value) == pytest.approx((0.5, 0.5))
    assert different.low == pytest.approx(0.1) and different.low < same.low
