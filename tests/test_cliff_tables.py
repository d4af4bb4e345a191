"""Tables and figures of cliffs, from made-up outcomes of a flawed and an aligned model."""

import numpy as np
import pandas as pd
import pytest
import synthetic
from joblib import parallel_config
from scipy.stats import spearmanr

from refusal_cliff.cliff_tables import (
    cliff_table,
    curve_table,
    difference_table,
    kept_thinking_table,
    layer_table,
    length_table,
    prompt_cliffs,
    rank_correlations,
    refit_table,
)
from refusal_cliff.cliffs import HEIGHTS
from refusal_cliff.plots.cliffs import plot_cliff_length, plot_cliffs, plot_families
from refusal_cliff.plots.rates import plot_kept_thinking
from refusal_cliff.plots.style import save
from refusal_cliff.plots.traces import plot_curves, plot_layers
from refusal_cliff.stats import resampled_ranks
from refusal_cliff.tables import by_model


@pytest.fixture(scope="module")
def outcomes():
    """Of a flawed and of an aligned model."""
    flawed = synthetic.outcomes("planted", {"base": 0.8}, ["base"])
    return pd.concat([flawed, synthetic.outcomes("aligned", {"base": 0})], ignore_index=True)


@pytest.fixture(scope="module")
def measured(outcomes):
    """Their prompt cliffs."""
    return prompt_cliffs(synthetic.cliffs(outcomes), outcomes)


def of(model, table):
    return table[table["model"] == model]


def rows(table, **wanted):
    return table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def test_cliffs_are_those_of_the_last_layer_by_what_became_of_a_trace(measured):
    assert list(measured["model"].unique()) == ["planted", "aligned"]
    cliffs = of("planted", measured)
    assert cliffs.groupby("group")["prompt_id"].nunique().to_dict() == {
        "benign": 60,
        "harmful": 60,
        "harmful, complied": 24,
        "harmful, refused": 36,
        "recognised, not refused": 24,
        "recognised, refused": 36,
    }
    table = cliff_table(cliffs, seed=0)
    (complied,) = rows(table, probe="paper", group="harmful, complied", family="all", quantity="cliff").itertuples()
    own = cliffs[(cliffs["probe"] == "paper") & (cliffs["group"] == "harmful, complied")]
    assert complied.value == pytest.approx(own["cliff"].mean())
    assert complied.low < complied.value < complied.high
    assert complied.value > 0.6
    assert complied.n == 24


def test_places_are_shares_and_the_share_of_the_fall_is_a_ratio_of_means(measured):
    planted = of("planted", measured)
    table = rows(cliff_table(planted, seed=0), probe="paper", family="all").set_index("quantity")
    complied, refused = (table[table["group"] == f"harmful, {what}"] for what in ("complied", "refused"))
    assert complied.loc["steepest_in_boundary", ["value", "high"]].tolist() == [1, 1]
    assert 0.8 < complied.loc["steepest_in_boundary", "low"] < 1  # 24 of 24 are no certainty
    mean = planted.query("probe == 'paper' and group == 'harmful, complied'").mean(numeric_only=True)
    assert complied.loc["boundary_share", "value"] == pytest.approx(mean["boundary_drop"] / mean["cliff"])
    assert complied.loc["boundary_share", "low"] < complied.loc["boundary_share", "value"]
    assert np.isnan(refused.loc["boundary_share", "value"])  # nothing falls


def test_a_family_has_its_own_rows_and_one_prompt_no_interval(measured):
    cliffs = of("planted", measured)
    keep = (cliffs["group"] != "harmful, refused") | (cliffs["prompt_id"] == cliffs["prompt_id"][0])
    table = cliff_table(cliffs[keep], seed=0)
    assert set(rows(table, group="harmful")["family"]) == {"all", "plain", "roleplay"}
    (single,) = rows(table, probe="paper", group="harmful, refused", family="plain", quantity="cliff").itertuples()
    assert single.n == 1
    assert np.isnan([single.low, single.high]).all()


def test_deeper_layers_are_compared_by_thirds_of_all_layers(outcomes):
    cliffs = synthetic.cliffs(outcomes, layers=7)
    deeper = rows(cliff_table(prompt_cliffs(cliffs, outcomes), seed=0), quantity="cliff_deeper")
    assert set(deeper["family"]) == {"all"}
    complied = deeper.set_index(["model", "probe", "group"]).loc[("planted", "thinking", "harmful, complied")]
    own = cliffs[(cliffs["model"] == "planted") & (cliffs["probe"] == "thinking")]
    traces = of("planted", outcomes).query("variant == 'base' and label == 'harmful' and harmful")["prompt_id"]
    by_layer = own[own["prompt_id"].isin(traces)].groupby("layer")["cliff"].mean()
    assert complied["value"] == pytest.approx(by_layer[[5, 6]].mean() - by_layer[[0, 1]].mean())
    assert complied["low"] < complied["value"] < complied["high"]
    assert complied["n"] == 24
    few = cliff_table(prompt_cliffs(cliffs[cliffs["layer"] < 2], outcomes), seed=0)
    assert rows(few, quantity="cliff_deeper")["value"].isna().all()


def test_a_model_among_others_has_the_numbers_it_has_alone(outcomes, measured):
    alone = of("aligned", outcomes)
    cliffs = synthetic.cliffs(outcomes)
    for found, expected in (
        (measured, prompt_cliffs(of("aligned", cliffs), alone)),
        (cliff_table(measured, seed=0), cliff_table(of("aligned", measured), seed=0)),
        (length_table(measured, seed=0), length_table(of("aligned", measured), seed=0)),
    ):
        pd.testing.assert_frame_equal(of("aligned", found).reset_index(drop=True), expected)


def test_no_model_is_an_empty_table(outcomes, measured):
    none = measured.head(0)
    for table in (
        prompt_cliffs(synthetic.cliffs(outcomes).head(0), outcomes),
        cliff_table(none, seed=0),
        length_table(none, seed=0),
        difference_table(none, seed=0),
        kept_thinking_table(synthetic.cliffs(outcomes).head(0).assign(variant="base"), outcomes, seed=0),
    ):
        assert table.empty
        assert {"model", "probe"} & set(table.columns)


def test_refits_show_how_far_the_cliff_belongs_to_the_probes_sample():
    outcomes = synthetic.outcomes("planted", {"base": 0.8}, ["base"])
    table = refit_table(synthetic.refits(outcomes, {0: 0.9, 1: 0.1}), outcomes, seed=0)
    complied = table.set_index(["probe", "group", "quantity"]).loc[("paper", "harmful, complied", "cliff")]
    assert complied[["n", "refits"]].tolist() == [24, 2]
    # Prompts do not differ, refits do: the interval is as wide as they are.
    assert complied[["value", "low", "high"]].tolist() == pytest.approx([0.5, 0.1, 0.9])
    assert set(table["group"]) == {"harmful, complied", "harmful, refused", "benign"}


def test_differences_have_a_sign_a_test_and_one_correction(measured):
    table = difference_table(measured, seed=0)
    within = rows(table, kind="within", probe="paper", quantity="cliff").set_index("other")
    assert (within["model"] == "planted").all()  # the aligned model complied with nothing
    assert within.loc["harmful, refused", "low"] > 0.5
    assert within.loc["benign", "p"] < 0.001
    (between,) = rows(table, kind="between", probe="paper", quantity="cliff").itertuples()
    assert (between.model, between.other, between.n) == ("planted", "aligned", 60)
    assert between.low < between.value < between.high
    assert between.p_holm >= between.p
    np.testing.assert_allclose(table["p_holm"].min(), min(1, table["p"].min() * len(table)))


def test_wrappings_of_one_request_are_resampled_and_permuted_together(measured):
    alone = rows(measured, model="planted", probe="paper")
    together = alone.assign(request_id=alone["prompt_id"].str[:-1])  # ten prompts of each request
    wide, narrow = (difference_table(table, seed=0).set_index(["other", "quantity"]) for table in (together, alone))
    key = ("benign", "cliff")
    assert wide.loc[key, ["value", "n"]].tolist() == narrow.loc[key, ["value", "n"]].tolist()
    assert wide.loc[key, "p"] > 10 * narrow.loc[key, "p"], "three requests against six"
    constant = alone.assign(cliff=alone["request_id"].str[-1].astype(float))
    by_request = constant.assign(request_id=constant["request_id"].str[-1])
    tables = [cliff_table(table, seed=0).set_index(["group", "family", "quantity"]) for table in (by_request, constant)]
    wide, narrow = (table.loc[("harmful", "all", "cliff")] for table in tables)
    assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])


def test_ranks_of_a_resample_are_those_of_its_members():
    values, counts = np.array([3.0, 1.0, 3.0, 2.0]), np.array([[1, 1, 1, 1], [2, 0, 1, 3]])
    ranks = resampled_ranks(values, counts)
    assert ranks[0].tolist() == [3.5, 1, 3.5, 2]
    assert ranks[1, [0, 2, 3]].tolist() == [5, 5, 2]  # of 3, 3, 3, 2, 2, 2


def test_equal_groups_do_not_differ(measured):
    planted = of("planted", measured)
    same = pd.concat([planted.assign(model=model) for model in "ab"])
    between = rows(difference_table(same, seed=0), kind="between")
    assert (between["value"] == 0).all()
    assert (between["p"] == 1).all()


def test_length_goes_with_height_within_families_too(measured):
    rng = np.random.default_rng(0)
    n = 80
    family = np.repeat(["plain", "roleplay"], n // 2)
    # Within a family height falls with length; roleplay is longer and higher.
    length = rng.integers(10, 20, n) + np.where(family == "roleplay", 30, 0)
    height = np.where(family == "roleplay", 0.8, 0.2) - 0.01 * (length % 10) + rng.normal(0, 0.01, n)
    cliffs = pd.DataFrame({"probe": "p", "group": "harmful", "family": family, "prompt_id": range(n)})
    cliffs = cliffs.assign(request_id=range(n), model="m", thinking_tokens=length, **dict.fromkeys(HEIGHTS, height))
    table = length_table(cliffs, seed=0).set_index("quantity")
    assert table.loc["spearman_cliff", "value"] == pytest.approx(spearmanr(length, height).statistic)
    assert table.loc["spearman_cliff", "low"] > 0
    assert table.loc["within_family_cliff", "high"] < 0
    assert table["n"].eq(n).all()
    # The same prompts twice over, as wrappings of one request, say no more.
    twice = pd.concat([cliffs, cliffs.assign(prompt_id=cliffs["prompt_id"] + n)])
    again = length_table(twice, seed=0).set_index("quantity")
    assert again.loc["spearman_cliff", "low"] == pytest.approx(table.loc["spearman_cliff", "low"], abs=0.01)
    assert again["n"].eq(2 * n).all()


def test_a_side_without_variation_has_no_correlation():
    plain, within = rank_correlations([np.ones(9), np.arange(9.0)], np.zeros(9, int), range(9), seed=0)
    assert np.isnan([plain[0].value, within[0].value]).all()
    assert plain[0].n == 9


def test_kept_thinking_has_rates_and_final_scores_by_label():
    outcomes = synthetic.outcomes("m", {"base": 0.8, "keep-0": 0.2}, ["base", "keep-0"])
    base = synthetic.cliffs(outcomes).assign(variant="base")
    emptied = base.assign(variant="keep-0", plateau=np.nan, cliff=np.nan, final=0.9)
    plain = (outcomes["variant"] == "keep-0") & (outcomes["dataset"] == "plain")
    outcomes.loc[plain, "harmful"] = outcomes.loc[plain, "harmful"].where(outcomes["prompt_id"] != "plain000")
    table = kept_thinking_table(pd.concat([base, emptied]), outcomes, seed=0)
    asr = rows(table, quantity="asr").set_index("kept")
    assert asr["value"].to_dict() == pytest.approx({0: 6 / 59, 1: 0.4})
    assert asr["lowest"].to_dict() == pytest.approx({0: 6 / 60, 1: 0.4})
    assert asr["highest"].to_dict() == pytest.approx({0: 7 / 60, 1: 0.4})
    final = rows(table, quantity="final_paper", variant="keep-0").set_index("label")
    assert final["value"].to_dict() == pytest.approx({"harmful": 0.9, "benign": 0.9})
    assert final["n"].to_dict() == {"harmful": 60, "benign": 60}


def test_curves_say_where_each_score_was_read(outcomes):
    cliffs = synthetic.cliffs(of("planted", outcomes))
    boundary = ["↵", "</think>", "↵↵"]
    table = curve_table(cliffs, outcomes, {"planted": boundary}, seed=0)
    own = rows(table, probe="paper", group="harmful, complied")
    thinking, end = (rows(own, part=part) for part in ("thinking", "end"))
    assert thinking["layer"].unique().tolist() == [3] and thinking["last_layer"].all()
    assert thinking["position"].tolist() == np.linspace(0, 1, 20).tolist()
    assert end.groupby("layer").size().tolist() == [9] * 4
    last = rows(end, last_layer=True)
    assert last["position"].tolist() == list(range(-8, 1))
    assert last["token"].fillna("").tolist() == [""] * 6 + boundary
    # The mean over prompts, and the fall of `synthetic.cliffs` from 0.8 to 0.1.
    complied = outcomes.loc[outcomes["harmful"], "prompt_id"]
    read = cliffs[(cliffs["probe"] == "paper") & (cliffs["layer"] == 3) & cliffs["prompt_id"].isin(complied)]
    assert last["value"].iloc[-1] == pytest.approx(read["final"].mean())
    assert last["value"].tolist()[-3:] == pytest.approx([0.8, 0.45, 0.1], abs=0.03)
    assert (last["low"] <= last["value"]).all() and (last["value"] <= last["high"]).all()
    # Of every third trace the first token of the tail is missing, and of another the second too.
    assert last["n"].tolist()[0] < last["n"].tolist()[-1] == len(complied)


def test_samples_of_a_prompt_count_once_in_a_curve(outcomes):
    cliffs = synthetic.cliffs(of("planted", outcomes))
    again = pd.concat([cliffs, cliffs.assign(sample=1)])
    twice = pd.concat([outcomes, outcomes.assign(sample=1)])
    boundaries = {"planted": list("abc")}
    one, two = (curve_table(*pair, boundaries, seed=0) for pair in ((cliffs, outcomes), (again, twice)))
    pd.testing.assert_frame_equal(one, two)


def test_cliffs_by_layer_end_in_those_of_the_last(outcomes, measured):
    table = layer_table(synthetic.cliffs(outcomes), outcomes, seed=0)
    known = cliff_table(measured, seed=0).query("family == 'all'")
    keys = ["model", "probe", "group", "quantity"]
    both = table[table["layer"] == 3].merge(known, on=keys, suffixes=("", "_known"))
    assert len(both) == len(table[table["layer"] == 3]) == 2 * 5 * len(HEIGHTS)
    for column in ("value", "low", "high", "n"):
        assert both[column].tolist() == pytest.approx(both[f"{column}_known"].tolist())


def test_figures_say_n_and_survive_missing_parts(measured, tmp_path):
    flawed = synthetic.outcomes("planted", {"base": 0.8, "keep-0": 0.2}, ["base", "keep-0"])
    runs = [synthetic.cliffs(flawed).assign(variant=variant) for variant in ("base", "keep-0")]
    kept = kept_thinking_table(pd.concat(runs), flawed, seed=0)
    refits = refit_table(synthetic.refits(flawed, {0: 0.9, 1: 0.1}), flawed, seed=0)
    varied = measured.assign(thinking_tokens=range(len(measured)))
    texts = {}
    for name, figure in (
        ("cliffs", plot_cliffs(cliff_table(measured, seed=0), refits)),
        ("families", plot_families(cliff_table(measured, seed=0), "paper")),
        ("cliff_length", plot_cliff_length(length_table(varied, seed=0))),
        ("kept_thinking", plot_kept_thinking(kept)),
        ("none", plot_kept_thinking(kept.head(0))),
    ):
        save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.pdf")
        texts[name] = (tmp_path / f"{name}.svg").read_text()
    assert "harmful, complied (n=24)" in texts["cliffs"]
    assert "n=36" in texts["cliff_length"]
    assert "roleplay" in texts["families"]
    assert all(f"{word}</text>" in texts["kept_thinking"] for word in ("own run", "ASR", "paper"))


def test_curves_and_layers_can_be_drawn_without_thinking(measured, tmp_path):
    outcomes = synthetic.outcomes("m", {"base": 0.5}, ["base"])
    cliffs = synthetic.cliffs(outcomes)
    cliffs["curve"] = [np.full_like(curve, np.nan) for curve in cliffs["curve"]]
    curves, layers = curve_table(cliffs, outcomes, {"m": list("abc")}, seed=0), layer_table(cliffs, outcomes, seed=0)
    heights = cliff_table(prompt_cliffs(cliffs, outcomes), seed=0)
    for name, figure in (
        ("curves", plot_curves(curves, heights, row="probe")),
        ("layers", plot_layers(*(table[table["probe"] == "paper"] for table in (layers, curves)))),
    ):
        save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.pdf")
    text = (tmp_path / "curves.svg").read_text()
    assert all(f"{words}</text>" in text for words in ("n=15", "paper", "thinking"))


def test_models_are_tabulated_alike_one_by_one_and_side_by_side():
    rows = pd.DataFrame({"model": ["b", "a", "b"], "value": [1.0, 2.0, 3.0]})
    total = by_model(_total)
    with parallel_config(n_jobs=2):
        side_by_side = total(rows, 10)
    pd.testing.assert_frame_equal(side_by_side, total(rows, 10))
    assert side_by_side.to_dict("list") == {"model": ["b", "a"], "total": [14.0, 12.0]}


def _total(rows, added):
    return pd.DataFrame({"total": [rows["value"].sum() + added]})
