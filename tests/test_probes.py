import numpy as np
import pandas as pd
import pytest

from refusal_cliff.cliffs import measure_cliff, refusal_scores, resample
from refusal_cliff.errors import UserError
from refusal_cliff.probes import behaviour, split_prompts, train_probe, training_rows

RECIPE = {"positions": "last_boundary", "datasets": ["harmful", "benign"]}


@pytest.fixture
def tables():
    """80 traces of three positions each; the harmful ones are refused by half."""
    ids = [f"p{i:02d}" for i in range(80)]
    prompts = pd.DataFrame({"prompt_id": ids, "dataset": ["harmful"] * 40 + ["benign"] * 40})
    kinds = ["last_prompt", "thinking", "last_boundary"]
    rows = pd.DataFrame([(i, 0, kind, n) for i in ids for n, kind in enumerate(kinds)])
    rows.columns = ["prompt_id", "sample", "kind", "position"]
    verdict = ["refusal"] * 20 + ["no_refusal"] * 60
    verdicts = pd.DataFrame({"prompt_id": ids, "sample": 0, "judge": "phrases", "verdict": verdict})
    return prompts, rows, verdicts


def states(rows, labels, strength, rng):
    """Noise, plus a direction that carries the label in layer 1 alone."""
    resid = rng.normal(size=(len(rows), 2, 6))
    refused = rows.merge(labels, on=["prompt_id", "sample"])["refused"].to_numpy()
    resid[:, 1, 2] += strength * (2 * refused - 1)
    return resid


def test_a_probe_finds_the_direction_and_only_in_its_layer(tables):
    prompts, rows, verdicts = tables
    labels = behaviour(verdicts, "phrases")
    chosen = training_rows(rows, prompts, labels, RECIPE)
    resid = states(rows, labels, 4.0, np.random.default_rng(0))
    w, b, metrics = train_probe(resid, chosen, seed=0)
    assert w.shape == (2, 6)
    assert b.shape == (2,)
    assert np.abs(w[1]).argmax() == 2
    assert w[1, 2] > 0
    accuracy = metrics[metrics["metric"] == "accuracy"].set_index("layer")["value"]
    assert accuracy[1] == 1.0
    assert accuracy[0] < 0.8
    assert (metrics["low"] <= metrics["value"]).all()
    assert (metrics["value"] <= metrics["high"]).all()


def test_labels_follow_behaviour_not_the_prompt_set(tables):
    prompts, rows, verdicts = tables
    chosen = training_rows(rows, prompts, behaviour(verdicts, "phrases"), RECIPE)
    assert chosen["refused"].sum() == 20
    assert set(chosen["kind"]) == {"last_boundary"}
    assert (rows.loc[chosen["row"], "kind"] == "last_boundary").all()


def test_no_prompt_is_on_both_sides_of_the_split(tables):
    prompts, rows, verdicts = tables
    chosen = training_rows(rows, prompts, behaviour(verdicts, "phrases"), RECIPE | {"positions": "thinking"})
    held_out = split_prompts(chosen, seed=1)
    assert not set(chosen.loc[held_out, "prompt_id"]) & set(chosen.loc[~held_out, "prompt_id"])
    assert 0.2 < held_out.mean() < 0.3


@pytest.mark.parametrize("verdict", ["refusal", "no_refusal"])
def test_an_empty_class_is_an_error_that_names_the_key(tables, verdict):
    prompts, rows, verdicts = tables
    labels = behaviour(verdicts.assign(verdict=verdict), "phrases")
    with pytest.raises(UserError, match=r"refused (0|80) of 80 traces of harmful, benign.*probes\.<name>\.datasets"):
        training_rows(rows, prompts, labels, RECIPE)


def test_missing_verdicts_label_nothing(tables):
    verdicts = tables[2]
    verdicts.loc[:9, "verdict"] = None
    assert len(behaviour(verdicts, "phrases")) == 70


def test_scores_are_the_sigmoid_of_each_layers_own_probe():
    resid = np.arange(12.0).reshape(2, 3, 2) / 10
    w, b = np.array([[1.0, -1.0], [2.0, 0.5]]), np.array([0.3, -1.0])
    expected = 1 / (1 + np.exp(-(resid[1, 2] @ w[1] + b[1])))
    scores = refusal_scores(resid, w, b)
    assert scores.shape == (2, 3)
    assert scores[1, 2] == pytest.approx(expected)


def test_a_cliff_is_measured_from_the_plateau_to_the_last_boundary_token():
    scores = np.array([0.0, 0.0, 0.5, 0.9, 0.7, 0.8, 0.6, 0.1])
    cliff = measure_cliff(scores, thinking=(2, 6), boundary=(6, 8))
    assert cliff["plateau"] == 0.9
    assert cliff["plateau_mean"] == pytest.approx(0.75)
    assert cliff["final"] == 0.1
    assert cliff["cliff"] == pytest.approx(0.8)
    assert cliff["steepest"] == 1.0
    assert cliff["boundary_share"] == pytest.approx(0.7 / 0.8)


def test_a_rising_curve_has_no_share_in_a_fall():
    cliff = measure_cliff(np.array([0.2, 0.4, 0.9]), thinking=(0, 2), boundary=(2, 3))
    assert cliff["cliff"] < 0
    assert np.isnan(cliff["boundary_share"])


def test_resampling_keeps_ends_and_is_linear():
    np.testing.assert_allclose(resample(np.array([0.0, 1.0, 0.0]), 5), [0, 0.5, 1, 0.5, 0])
    np.testing.assert_allclose(resample(np.array([0.4]), 3), [0.4, 0.4, 0.4])
