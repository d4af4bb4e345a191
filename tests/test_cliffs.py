"""Cliffs of single curves and of traces of a tiny model."""

import numpy as np
import pandas as pd
import pytest

from refusal_cliff.cliffs import MEASURES, measure_cliff, score_traces


def test_a_cliff_has_its_place_in_tokens():
    scores = np.array([0.0, 0.0, 0.6, 0.9, 0.8, 0.8, 0.3, 0.2])
    cliff = measure_cliff(scores, thinking=(2, 6), boundary=(6, 8))
    assert tuple(cliff) == MEASURES
    assert cliff["cliff_mean"] == pytest.approx(0.6)
    assert cliff["steepest_offset"] == -1
    assert cliff["steepest"] == pytest.approx(4 / 5)
    assert cliff["steepest_in_boundary"] is True
    assert cliff["boundary_drop"] == pytest.approx(0.6)
    assert cliff["boundary_share"] == pytest.approx(0.6 / 0.7)


def test_a_fall_within_the_thinking_is_not_in_the_boundary():
    cliff = measure_cliff(np.array([0.9, 0.2, 0.2, 0.1]), thinking=(0, 3), boundary=(3, 4))
    assert cliff["steepest_in_boundary"] is False
    assert cliff["steepest_offset"] == -2


def test_without_thinking_there_is_a_final_score_alone():
    cliff = measure_cliff(np.array([0.5, 0.4, 0.1]), thinking=(1, 1), boundary=(1, 3))
    assert tuple(cliff) == MEASURES
    assert cliff.pop("final") == 0.1
    assert pd.isna(list(cliff.values())).all()


def test_a_trace_without_thinking_keeps_its_final_score(tiny_model, tiny_tokenizer):
    from refusal_cliff.traces import encode_trace

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
