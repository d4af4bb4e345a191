"""Cliffs of single curves and of traces of a tiny model, and the tables made of them."""

import numpy as np
import pandas as pd
import pytest
import synthetic
import torch
from scipy.special import expit
from scipy.stats import spearmanr

from refusal_cliff.cliff_tables import (
    by_model,
    cliff_table,
    difference_table,
    kept_thinking_table,
    length_table,
    prompt_cliffs,
    rank_correlations,
    refit_table,
)
from refusal_cliff.cliffs import HEIGHTS, MEASURES, measure_cliffs, resample, score_traces
from refusal_cliff.plots.cliffs import plot_cliff_length, plot_cliffs, plot_kept_thinking
from refusal_cliff.plots.style import save
from refusal_cliff.plots.traces import plot_curves, plot_family_curves, plot_layers
from refusal_cliff.traces import encode_trace


def measure(scores, thinking, boundary):
    """The numbers of one curve."""
    cliff = measure_cliffs(np.array([scores]), thinking, boundary)
    assert tuple(cliff) == MEASURES
    return {name: float(value[0]) for name, value in cliff.items()}


def test_a_cliff_has_its_place_in_tokens():
    cliff = measure([0.0, 0.0, 0.6, 0.9, 0.8, 0.8, 0.3, 0.2], thinking=(2, 6), boundary=(6, 8))
    assert cliff["cliff_mean"] == pytest.approx(0.6)
    assert cliff["steepest_offset"] == -1
    assert cliff["steepest"] == pytest.approx(4 / 5)
    assert cliff["steepest_in_boundary"] == 1
    assert cliff["boundary_drop"] == pytest.approx(0.6)
    assert cliff["boundary_share"] == pytest.approx(0.6 / 0.7)


def test_a_cliff_is_measured_from_the_plateau_to_the_last_boundary_token():
    cliff = measure([0.0, 0.0, 0.5, 0.9, 0.7, 0.8, 0.6, 0.1], thinking=(2, 6), boundary=(6, 8))
    assert cliff["plateau"] == 0.9
    assert cliff["plateau_mean"] == pytest.approx(0.75)
    assert cliff["final"] == 0.1
    assert cliff["cliff"] == pytest.approx(0.8)
    assert cliff["steepest"] == 1.0
    assert cliff["boundary_share"] == pytest.approx(0.7 / 0.8)


def test_a_fall_within_the_thinking_is_not_in_the_boundary():
    cliff = measure([0.9, 0.2, 0.2, 0.1], thinking=(0, 3), boundary=(3, 4))
    assert cliff["steepest_in_boundary"] == 0
    assert cliff["steepest_offset"] == -2


def test_a_rising_curve_has_no_share_in_a_fall():
    cliff = measure([0.2, 0.4, 0.9], thinking=(0, 2), boundary=(2, 3))
    assert cliff["cliff"] < 0
    assert np.isnan(cliff["boundary_share"])


def test_without_thinking_there_is_a_final_score_alone():
    cliff = measure([0.5, 0.4, 0.1], thinking=(1, 1), boundary=(1, 3))
    assert cliff.pop("final") == 0.1
    assert np.isnan(list(cliff.values())).all()


def test_curves_are_measured_each_by_itself():
    curves = np.random.default_rng(0).uniform(size=(5, 9))
    together = measure_cliffs(curves, (2, 6), (6, 9))
    for row, curve in enumerate(curves):
        expected = {name: values[row] for name, values in together.items()}
        assert measure(curve, (2, 6), (6, 9)) == pytest.approx(expected, nan_ok=True)


def test_resampling_keeps_ends_and_is_linear():
    curves = np.array([[0.0, 1.0, 0.0], [3.0, 2.0, 1.0]])
    np.testing.assert_allclose(resample(curves, 5), [[0, 0.5, 1, 0.5, 0], [3, 2.5, 2, 1.5, 1]])
    np.testing.assert_allclose(resample(np.array([[0.4]]), 3), [[0.4, 0.4, 0.4]])
    assert np.isnan(resample(np.empty((2, 0)), 3)).all()


def test_scores_are_the_sigmoid_of_each_layers_own_probe(tiny_model, tiny_tokenizer):
    """Within 1e-4 of products of all hidden states in double precision, in a batch of traces of any length."""
    thoughts = ("let us see", "", "a longer thought, which goes on for some time")
    encoded = [encode_trace(tiny_tokenizer, "Hello", thought, "</think>") for thought in thoughts]
    traces = pd.DataFrame({"prompt_id": list("abc"), "sample": 0})
    rng, width = np.random.default_rng(0), tiny_model.config.hidden_size
    probes = {
        "all": (rng.normal(size=(3, width)) / 5, np.array([0.3, -1, 0]), np.array([0, 1, 2])),
        "early": (rng.normal(size=(1, width)) / 5, np.array([0.5]), np.array([1])),
    }
    refits = {"all": (rng.normal(size=(4, width)) / 5, rng.normal(size=4), 2)}
    table, refitted = score_traces(
        tiny_model, traces, encoded, probes, refits, tiny_tokenizer.pad_token_id, 2, grid=5, tail=4
    )
    assert len(table) == 3 * 4
    assert len(refitted) == 3 * 4
    assert refitted["refit"].tolist() == np.repeat(range(4), 3).tolist()
    rows, refit_rows = table.set_index(["prompt_id", "probe", "layer"]), refitted.set_index(["prompt_id", "refit"])
    for name, trace in zip("abc", encoded, strict=True):
        with torch.inference_mode():
            states = tiny_model(torch.tensor([trace.ids]), output_hidden_states=True).hidden_states[1:]
        states = torch.cat(states).double().numpy()
        (start, stop), boundary = trace.spans["thinking"], trace.spans["boundary"]
        for probe, (w, b, layers) in probes.items():
            for number, layer in enumerate(layers):
                scores, found = expit(states[layer] @ w[number] + b[number]), rows.loc[(name, probe, layer)]
                expected = {
                    key: values[0] for key, values in measure_cliffs(scores[None], (start, stop), boundary).items()
                }
                assert found[list(HEIGHTS)].to_numpy(float) == pytest.approx(
                    [expected[key] for key in HEIGHTS], abs=1e-4, nan_ok=True
                )
                assert found["final"] == pytest.approx(expected["final"], abs=1e-4)
                tail = scores[max(start, stop - 4) : boundary[1]]
                np.testing.assert_allclose(found["boundary_curve"][-len(tail) :], tail, atol=1e-4)
                assert np.isnan(found["boundary_curve"][: -len(tail)]).all()
                np.testing.assert_allclose(found["curve"], resample(scores[None, start:stop], 5)[0], atol=1e-4)
        for number, (w, b) in enumerate(zip(*refits["all"][:2], strict=True)):
            expected = measure_cliffs(expit(states[2] @ w + b)[None], (start, stop), boundary)
            assert refit_rows.loc[(name, number), "cliff"] == pytest.approx(expected["cliff"][0], abs=1e-4, nan_ok=True)


def test_a_trace_without_thinking_keeps_its_final_score(tiny_model, tiny_tokenizer):
    traces = pd.DataFrame({"prompt_id": ["a", "b"], "sample": 0})
    encoded = [encode_trace(tiny_tokenizer, "Hello", thought, "\n</think>\n\n") for thought in ("", "let us see")]
    width, layers = tiny_model.config.hidden_size, tiny_model.config.num_hidden_layers
    probes = {"p": (np.random.default_rng(0).normal(size=(layers, width)), np.zeros(layers), np.arange(layers))}
    w = probes["p"][0]
    refits = {"p": (np.stack([w[-1], -w[-1]]), np.zeros(2), layers - 1)}
    table, refitted = score_traces(
        tiny_model, traces, encoded, probes, refits, tiny_tokenizer.pad_token_id, 2, grid=5, tail=3
    )
    last = table[table["layer"] == table["layer"].max()].set_index("prompt_id")
    assert 0 < last.loc["a", "final"] < 1
    assert pd.isna(last.loc["a", ["plateau", "cliff", "steepest_in_boundary"]]).all()
    assert np.isnan(last.loc["a", "curve"]).all()
    assert len(last.loc["a", "boundary_curve"]) == len(last.loc["b", "boundary_curve"])
    assert last.loc["a", "boundary_curve"][-1] == pytest.approx(last.loc["a", "final"])
    assert last.loc["b", MEASURES[0]] == pytest.approx(last.loc["b", "final"] + last.loc["b", "cliff"])
    # The first refit is the probe itself, the second is its opposite.
    again = refitted.set_index(["prompt_id", "refit"])
    assert again.loc[("b", 0), "cliff"] == pytest.approx(last.loc["b", "cliff"])
    assert again.loc[("b", 0), "cliff_mean"] == pytest.approx(-again.loc[("b", 1), "cliff_mean"])
    assert again.loc["a", ["cliff", "cliff_mean"]].isna().all(axis=None)


@pytest.fixture(scope="module")
def measured():
    """Outcomes and prompt cliffs of a flawed and an aligned model."""
    flawed, aligned = synthetic.outcomes("planted", {"base": 0.8}, ["base"]), synthetic.outcomes("aligned", {"base": 0})
    tables = {"planted": flawed, "aligned": aligned}
    return {model: prompt_cliffs(synthetic.cliffs(table), table) for model, table in tables.items()}


def rows(table, **wanted):
    return table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def test_cliffs_are_those_of_the_last_layer_by_what_became_of_a_trace(measured):
    cliffs = measured["planted"]
    assert cliffs.groupby("group")["prompt_id"].nunique().to_dict() == {
        "benign": 60,
        "harmful": 60,
        "harmful, complied": 24,
        "harmful, refused": 36,
    }
    table = cliff_table(cliffs, seed=0)
    (complied,) = rows(table, probe="boundary", group="harmful, complied", family="all", quantity="cliff").itertuples()
    own = cliffs[(cliffs["probe"] == "boundary") & (cliffs["group"] == "harmful, complied")]
    assert complied.value == pytest.approx(own["cliff"].mean())
    assert complied.low < complied.value < complied.high
    assert complied.value > 0.6
    assert complied.n == 24


def test_places_are_shares_and_the_share_of_the_fall_is_a_ratio_of_means(measured):
    table = rows(cliff_table(measured["planted"], seed=0), probe="boundary", family="all").set_index("quantity")
    complied, refused = (table[table["group"] == f"harmful, {what}"] for what in ("complied", "refused"))
    assert complied.loc["steepest_in_boundary", ["value", "high"]].tolist() == [1, 1]
    assert 0.8 < complied.loc["steepest_in_boundary", "low"] < 1  # 24 of 24 are no certainty
    mean = measured["planted"].query("probe == 'boundary' and group == 'harmful, complied'").mean(numeric_only=True)
    assert complied.loc["boundary_share", "value"] == pytest.approx(mean["boundary_drop"] / mean["cliff"])
    assert complied.loc["boundary_share", "low"] < complied.loc["boundary_share", "value"]
    assert np.isnan(refused.loc["boundary_share", "value"])  # nothing falls


def test_a_family_has_its_own_rows_and_one_prompt_no_interval(measured):
    cliffs = measured["planted"]
    keep = (cliffs["group"] != "harmful, refused") | (cliffs["prompt_id"] == cliffs["prompt_id"][0])
    table = cliff_table(cliffs[keep], seed=0)
    assert set(rows(table, group="harmful")["family"]) == {"all", "plain", "roleplay"}
    (single,) = rows(table, probe="boundary", group="harmful, refused", family="plain", quantity="cliff").itertuples()
    assert single.n == 1
    assert np.isnan([single.low, single.high]).all()


def test_refits_show_how_far_the_cliff_belongs_to_the_probes_sample():
    outcomes = synthetic.outcomes("planted", {"base": 0.8}, ["base"])
    table = refit_table(synthetic.refits(outcomes, {0: 0.9, 1: 0.1}), outcomes, seed=0)
    complied = table.set_index(["probe", "group", "quantity"]).loc[("boundary", "harmful, complied", "cliff")]
    assert complied[["n", "refits"]].tolist() == [24, 2]
    # Prompts do not differ, refits do: the interval is as wide as they are.
    assert complied[["value", "low", "high"]].tolist() == pytest.approx([0.5, 0.1, 0.9])
    assert set(table["group"]) == {"harmful, complied", "harmful, refused", "benign"}


def test_differences_have_a_sign_a_test_and_one_correction(measured):
    table = difference_table(measured, seed=0)
    within = rows(table, kind="within", probe="boundary", quantity="cliff").set_index("other")
    assert (within["model"] == "planted").all()  # the aligned model complied with nothing
    assert within.loc["harmful, refused", "low"] > 0.5
    assert within.loc["benign", "p"] < 0.001
    (between,) = rows(table, kind="between", probe="boundary", quantity="cliff").itertuples()
    assert (between.model, between.other, between.n) == ("planted", "aligned", 60)
    assert between.low < between.difference < between.high
    assert between.p_holm >= between.p
    np.testing.assert_allclose(table["p_holm"].min(), min(1, table["p"].min() * len(table)))


def test_equal_groups_do_not_differ(measured):
    same = {"a": measured["planted"], "b": measured["planted"]}
    between = rows(difference_table(same, seed=0), kind="between")
    assert (between["difference"] == 0).all()
    assert (between["p"] == 1).all()


def test_length_goes_with_height_within_families_too(measured):
    rng = np.random.default_rng(0)
    n = 80
    family = np.repeat(["plain", "roleplay"], n // 2)
    # Within a family height falls with length; roleplay is longer and higher.
    length = rng.integers(10, 20, n) + np.where(family == "roleplay", 30, 0)
    height = np.where(family == "roleplay", 0.8, 0.2) - 0.01 * (length % 10) + rng.normal(0, 0.01, n)
    cliffs = pd.DataFrame({"probe": "p", "group": "harmful", "family": family, "prompt_id": [f"{i}" for i in range(n)]})
    cliffs = cliffs.assign(thinking_tokens=length, cliff=height, cliff_mean=height)
    table = length_table(cliffs, seed=0).set_index("quantity")
    assert table.loc["spearman_cliff", "value"] == pytest.approx(spearmanr(length, height).statistic)
    assert table.loc["spearman_cliff", "low"] > 0
    assert table.loc["within_family_cliff", "high"] < 0
    assert table["n"].eq(n).all()


def test_a_side_without_variation_has_no_correlation():
    plain, within = rank_correlations([np.ones(9), np.arange(9.0)], np.zeros(9, int), seed=0)
    assert np.isnan([plain[0].value, within[0].value]).all()
    assert plain[0].n == 9


def test_kept_thinking_has_rates_and_final_scores_by_label():
    outcomes = synthetic.outcomes("m", {"base": 0.8, "keep-0": 0.2}, ["base", "keep-0"])
    base = synthetic.cliffs(outcomes)
    emptied = base.assign(plateau=np.nan, cliff=np.nan, final=0.9)
    table = kept_thinking_table(outcomes, {"base": base, "keep-0": emptied}, seed=0)
    asr = rows(table, quantity="asr").set_index("kept")
    assert asr["value"].to_dict() == pytest.approx({0: 0.1, 1: 0.4})
    final = rows(table, quantity="final_boundary", variant="keep-0").set_index("label")
    assert final["value"].to_dict() == pytest.approx({"harmful": 0.9, "benign": 0.9})
    assert final["n"].to_dict() == {"harmful": 60, "benign": 60}


def test_figures_say_n_and_survive_missing_parts(measured, tmp_path):
    cliffs, lengths = by_model(cliff_table, measured, 0), by_model(length_table, measured, 0)
    outcomes = synthetic.outcomes("planted", {"base": 0.8, "keep-0": 0.2}, ["base", "keep-0"])
    base = synthetic.cliffs(outcomes)
    kept = kept_thinking_table(outcomes, {"base": base, "keep-0": base}, seed=0).assign(model="planted")
    flawed = synthetic.outcomes("planted", {"base": 0.8}, ["base"])
    refits = refit_table(synthetic.refits(flawed, {0: 0.9, 1: 0.1}), flawed, seed=0).assign(model="planted")
    texts = {}
    for name, figure in (
        ("cliffs", plot_cliffs(cliffs, refits)),
        ("cliff_length", plot_cliff_length(measured, lengths)),
        ("kept_thinking", plot_kept_thinking(kept)),
        ("none", plot_kept_thinking(kept.head(0))),
    ):
        save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.pdf")
        texts[name] = (tmp_path / f"{name}.svg").read_text()
    assert "harmful, complied (n=24)" in texts["cliffs"]
    assert "n=36" in texts["cliff_length"]
    assert "harmful n=60" in texts["kept_thinking"]


def test_curves_and_layers_can_be_drawn_without_thinking(measured, tmp_path):
    outcomes = synthetic.outcomes("m", {"base": 0.5}, ["base"])
    cliffs = synthetic.cliffs(outcomes)
    cliffs["curve"] = [np.full_like(curve, np.nan) for curve in cliffs["curve"]]
    for name, figure in (
        ("curves", plot_curves({"m": cliffs}, outcomes, tail=6, seed=0)),
        ("layers", plot_layers({"m": cliffs}, outcomes, tail=6)),
        ("families", plot_family_curves({"m": cliffs}, outcomes, "boundary", tail=6, seed=0)),
    ):
        save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.pdf")
    text = (tmp_path / "families.svg").read_text()
    assert "harmful, complied (n=15)" in text  # of the wrapped prompts
    assert "roleplay" in text
