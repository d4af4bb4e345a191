"""Cliffs of single curves and of traces of a tiny model."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from refusal_cliff.cliffs import FALLS, HEIGHTS, MEASURES, measure_cliffs, resample, score_traces
from refusal_cliff.probes import SWEEP
from refusal_cliff.templates import Rendered
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


@pytest.mark.parametrize("thinking", [(2, 6), (6, 6)])
def test_what_is_kept_of_a_trace_does_not_keep_its_scores(thinking):
    scores = np.random.default_rng(0).random((3, 8))
    kept = measure_cliffs(scores, thinking, (6, 8)).values()
    assert not any(np.shares_memory(value, scores) for value in kept)


def test_a_cliff_is_measured_from_the_plateau_to_the_last_boundary_token():
    cliff = measure([0.0, 0.0, 0.5, 0.9, 0.7, 0.8, 0.6, 0.1], thinking=(2, 6), boundary=(6, 8))
    assert cliff["plateau"] == 0.9
    assert cliff["plateau_p90"] == pytest.approx(0.87)  # 0.7 of the way from 0.8 to 0.9
    assert cliff["cliff_p90"] == pytest.approx(0.77)
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
    encoded = [encode_trace(tiny_tokenizer, Rendered("Hello"), thought, "</think>") for thought in thoughts]
    traces = pd.DataFrame({"prompt_id": list("abc"), "sample": 0})
    rng, width = np.random.default_rng(0), tiny_model.config.hidden_size
    probes = {
        "all": (rng.normal(size=(3, width)) / 5, np.array([0.3, -1, 0]), np.array([0, 1, 2])),
        "early": (rng.normal(size=(1, width)) / 5, np.array([0.5]), np.array([1])),
    }
    refits = {"all": (rng.normal(size=(4, width)) / 5, rng.normal(size=4), 2)}
    sweeps = {"all": (rng.normal(size=(len(SWEEP), width)) / 5, rng.normal(size=len(SWEEP)), 2)}
    table, refitted, swept = score_traces(
        tiny_model, traces, encoded, probes, refits, sweeps, tiny_tokenizer.pad_token_id, 2, grid=5, tail=4
    )
    assert swept.columns.tolist() == ["prompt_id", "sample", "probe", "setting", *FALLS]
    assert swept["setting"].tolist() == np.repeat(SWEEP, 3).tolist()
    swept_rows = swept.set_index(["prompt_id", "setting"])
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
        for setting, w, b in zip(SWEEP, *sweeps["all"][:2], strict=True):
            expected = measure_cliffs(expit(states[2] @ w + b)[None], (start, stop), boundary)
            for measure_name in FALLS:
                assert swept_rows.loc[(name, setting), measure_name] == pytest.approx(
                    expected[measure_name][0], abs=1e-4, nan_ok=True
                )


def test_a_trace_without_thinking_keeps_its_final_score(tiny_model, tiny_tokenizer):
    traces = pd.DataFrame({"prompt_id": ["a", "b"], "sample": 0})
    encoded = [
        encode_trace(tiny_tokenizer, Rendered("Hello"), thought, "\n</think>\n\n") for thought in ("", "let us see")
    ]
    width, layers = tiny_model.config.hidden_size, tiny_model.config.num_hidden_layers
    probes = {"p": (np.random.default_rng(0).normal(size=(layers, width)), np.zeros(layers), np.arange(layers))}
    w = probes["p"][0]
    refits = {"p": (np.stack([w[-1], -w[-1]]), np.zeros(2), layers - 1)}
    table, refitted, swept = score_traces(
        tiny_model, traces, encoded, probes, refits, {}, tiny_tokenizer.pad_token_id, 2, grid=5, tail=3
    )
    assert swept.empty
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
