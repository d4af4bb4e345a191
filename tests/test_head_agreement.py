"""Agreement and stability of rankings, tests of single heads: known answers on made-up effects."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff.errors import UserError
from refusal_cliff.head_agreement import agreement, head_table, stability, target_table

TRACES, LAYERS, HEADS = 30, 4, 8


def effects(noise=0.1, seed=0):
    """Mean effects -16 … 15 in order of the head, with noise between traces."""
    mean = np.arange(LAYERS * HEADS).reshape(LAYERS, HEADS) - 16.0
    return mean + np.random.default_rng(seed).normal(0, noise, (TRACES, LAYERS, HEADS))


def table_of(model="m", **rankings):
    """Effects [trace, layer, head] by ranking as the table that a run leaves."""
    return synthetic.effects(rankings, model)


def one(table, quantity, k=None):
    rows = table[(table["quantity"] == quantity) & (table["k"].isna() if k is None else table["k"] == k)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_agreement_of_equal_and_of_opposite_rankings():
    measured = table_of(causal=effects(), gradient=2 * effects(seed=1), direct=-effects())
    table = agreement(measured, 1 / 16, seed=0)
    assert set(zip(table["ranking"], table["other"], strict=True)) == {
        ("causal", "gradient"),
        ("causal", "direct"),
        ("gradient", "direct"),
    }
    equal, opposite = (table[table["ranking"] == "causal"].query(f"other == '{o}'") for o in ("gradient", "direct"))
    assert one(equal, "spearman")["value"] == pytest.approx(1)
    assert one(opposite, "spearman")["value"] == pytest.approx(-1)
    assert one(equal, "overlap", 2)["value"] == 1
    assert one(opposite, "overlap", 3)["value"] == 0
    assert 0 < one(opposite, "overlap", 3)["high"] < 0.2
    assert (table["n"] == TRACES).all()
    # The operating point, and what has no k, are marked; a tenth of the heads is beside them.
    assert equal.set_index("quantity")["point"].to_dict() == {"spearman": True, "overlap": False}
    assert equal.loc[equal["point"], "k"].dropna().tolist() == [2]


def test_agreement_is_scipys_spearman_and_its_bootstrap_is_paired():
    rng = np.random.default_rng(0)
    noisy = effects(noise=30)
    other = noisy + rng.normal(0, 1e-6, noisy.shape)
    from scipy.stats import spearmanr

    unrelated = rng.normal(size=noisy.shape)
    table = agreement(table_of(a=noisy, b=unrelated), 0.1, seed=0)
    expected = spearmanr(noisy.mean(axis=0).ravel(), unrelated.mean(axis=0).ravel()).statistic
    assert one(table, "spearman")["value"] == pytest.approx(expected)
    # Noise that both share cancels when they are resampled together, however large it is.
    assert one(agreement(table_of(a=noisy, b=other), 0.1, seed=0), "spearman")["low"] > 0.999


def test_stability_tells_a_clear_order_from_noise():
    clear, noise = (stability(table_of(a=values), 1 / 16, seed=0) for values in (effects(), effects(noise=200)))
    assert one(clear, "split_half_spearman")["value"] > 0.99
    assert one(clear, "overlap", 2)["value"] == 1
    assert 0.8 < one(clear, "overlap", 2)["low"] < 1  # the same in every resample, but of 30 traces alone
    assert one(noise, "split_half_spearman")["value"] < 0.3
    # A resample shares traces with the full sample; halves share none.
    assert one(noise, "spearman")["value"] > one(noise, "split_half_spearman")["value"] + 0.2
    assert (noise["low"] <= noise["value"]).all()
    assert (noise["value"] <= noise["high"]).all()
    assert one(clear, "split_half_overlap", 2)["point"]
    assert not one(clear, "split_half_overlap", 3)["point"]


def test_one_trace_has_no_halves():
    assert set(stability(table_of(a=effects()[:1]), 0.1, seed=0)["quantity"]) == {"spearman", "overlap"}


def test_head_table_tests_every_head_with_holm_over_all():
    values = np.random.default_rng(0).normal(0, 1, (TRACES, LAYERS, HEADS))
    values[:, 2, 5] -= 5
    values[:, 0, 0] = 0
    table = head_table(table_of(a=values, b=-values), [{"model": "m", "heads": [[2, 5]]}], seed=0)
    assert table["ranking"].value_counts().to_dict() == {"a": LAYERS * HEADS, "b": LAYERS * HEADS}
    table = table[table["ranking"] == "a"]
    strong = table[table["planted"]].iloc[0]
    assert (strong["layer"], strong["head"], strong["rank"]) == (2, 5, 1)
    assert strong["effect"] == pytest.approx(values[:, 2, 5].mean())
    assert strong["low"] < strong["effect"] < strong["high"] < -4
    assert strong["p_holm"] < 1e-6
    silent = table.query("layer == 0 and head == 0").iloc[0]
    assert silent["p"] == silent["p_holm"] == 1
    assert (table["p_holm"] >= table["p"]).all()
    rest = table[~table["planted"]]
    assert (rest["p"] < 0.05).any(), "some head passes by chance: the seed makes it so"
    assert (rest["p_holm"] > 0.05).all()


def test_planted_heads_of_a_model_nobody_planted_are_missing():
    measured = pd.concat([table_of("wild", a=effects()), table_of("sound", a=effects())])
    planted = head_table(measured, [{"model": "sound", "heads": []}], seed=0).groupby("model")["planted"]
    assert planted.count().to_dict() == {"wild": 0, "sound": LAYERS * HEADS}
    assert planted.sum()["sound"] == 0


def test_traces_of_one_request_are_no_further_evidence():
    once = table_of(causal=effects(noise=5), direct=effects(noise=5, seed=1))
    again = once.assign(prompt_id=once["prompt_id"] + " in other words")
    twice = pd.concat([once, again], ignore_index=True)
    for measure in (lambda table: agreement(table, 0.1, seed=0), lambda table: stability(table, 0.1, seed=0)):
        pd.testing.assert_frame_equal(measure(twice), measure(once))
    columns = ["layer", "head", "effect", "low", "high", "n", "p"]
    one_by_one, by_request = (head_table(table, [], seed=0)[columns] for table in (once, twice))
    pd.testing.assert_frame_equal(by_request, one_by_one)


def test_rankings_of_other_traces_are_an_error():
    measured = table_of("m", causal=effects(), direct=effects())
    elsewhere = measured.assign(prompt_id=measured["prompt_id"].where(measured["ranking"] == "causal", "other"))
    for broken in (elsewhere.drop_duplicates(["ranking", "prompt_id", "layer", "head"]), measured.iloc[1:]):
        with pytest.raises(UserError, match="m: its rankings were measured on different traces"):
            agreement(broken, 0.1, seed=0)


def test_order_of_rows_does_not_matter_but_that_of_rankings_is_kept():
    measured = table_of(b=effects(noise=9), a=effects(noise=9, seed=1))
    mixed = pd.concat([measured.iloc[:1], measured.iloc[1:].sample(frac=1, random_state=0)])
    first, second = (head_table(table, [], seed=0) for table in (measured, mixed))
    assert list(first["ranking"].unique()) == list(second["ranking"].unique()) == ["b", "a"]
    pd.testing.assert_frame_equal(first.drop(columns=["low", "high"]), second.drop(columns=["low", "high"]))


def test_agreement_needs_whole_numbers_of_heads():
    table = agreement(table_of(a=effects(), b=effects()), 0.1, seed=0)
    assert table["k"].dtype == pd.Int64Dtype()
    empty = table_of(a=effects()).head(0)
    assert agreement(empty, 0.1, seed=0).columns.tolist() == table.columns.tolist()
    assert head_table(empty, [], seed=0).empty


BOTH = {
    "causal": ("causal", "probe"),
    "gradient": ("gradient", "probe"),
    "openers_causal": ("causal", "openers"),
    "openers_gradient": ("gradient", "openers"),
}


def test_targets_are_compared_measure_by_measure():
    probe, behaviour = effects(), -effects(seed=1)
    measured = table_of(causal=probe, gradient=probe, openers_causal=3 * probe, openers_gradient=behaviour)
    table = target_table(measured, BOTH, {}, 1 / 16, seed=0)
    assert set(table["reason"]) == {""}
    assert set(table["n"]) == {TRACES}
    causal, gradient = (table[table["measure"] == measure] for measure in ("causal", "gradient"))
    assert len(causal) == len(gradient) == 1 + 2 + 4 * 2
    assert one(causal, "spearman")["value"] == pytest.approx(1)
    assert one(gradient, "spearman")["value"] == pytest.approx(-1)
    assert (one(causal, "overlap", 2)["value"], one(gradient, "overlap", 2)["value"]) == (1, 0)
    change = table[(table["quantity"] == "change") & table["point"]].set_index(["measure", "target", "other"])["value"]
    # Ablating either of the first two heads by the probe, which suppress with -16 and -15.
    assert change["causal", "probe", "probe"] == pytest.approx(15.5, abs=0.1)
    assert change["causal", "probe", "openers"] == pytest.approx(46.5, abs=0.3)
    assert change["gradient", "probe", "openers"] == pytest.approx(-15.5, abs=0.1)
    assert change["gradient", "openers", "openers"] == pytest.approx(14.5, abs=0.1)
    assert change["gradient", "openers", "probe"] == pytest.approx(-14.5, abs=0.1)


def test_agreement_of_targets_is_that_of_their_rankings():
    measured = table_of(causal=effects(noise=9), openers_causal=effects(noise=9, seed=1))
    rankings = {name: BOTH[name] for name in ("causal", "openers_causal")}
    table = target_table(measured, rankings, {}, 0.1, seed=0)
    columns = ["k", "point", "quantity", "value", "low", "high", "n"]
    expected = agreement(measured, 0.1, seed=0)[columns]
    pd.testing.assert_frame_equal(table.loc[table["quantity"] != "change", columns], expected)
    # Differences that all requests share are certain, however far traces are apart.
    change = table[table["quantity"] == "change"]
    assert ((change["low"] < change["value"]) & (change["value"] < change["high"])).all()


def test_a_target_that_could_not_be_measured_has_the_same_rows_without_numbers():
    whole = table_of("a", causal=effects(), openers_causal=effects())
    rankings = {name: BOTH[name] for name in ("causal", "openers_causal")}
    lacking = {"b": {"openers": "the model refused none of 9 responses of set fit"}}
    table = target_table(pd.concat([whole, table_of("b", causal=effects())]), rankings, lacking, 0.1, seed=0)
    a, b = (table[table["model"] == model].reset_index(drop=True) for model in "ab")
    keys = ["measure", "target", "other", "k", "point", "quantity"]
    pd.testing.assert_frame_equal(a[keys], b[keys])
    assert b[["value", "low", "high"]].isna().all(axis=None)
    assert set(b["n"]) == {0}
    assert set(b["reason"]) == {"the model refused none of 9 responses of set fit"}
    empty = target_table(whole.head(0), rankings, {}, 0.1, seed=0)
    assert empty.columns.tolist() == table.columns.tolist()
