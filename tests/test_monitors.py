"""Monitors point one way; their ROC curves, areas and rates are those of the library."""

import re

import numpy as np
import pandas as pd
import pytest
import synthetic
from sklearn.metrics import roc_auc_score

from refusal_cliff.monitors import monitor_scores, monitor_table, reassurance_table, roc_estimates, roc_points
from refusal_cliff.plots.monitors import plot_monitors
from refusal_cliff.plots.style import save


@pytest.fixture(scope="module")
def run():
    """Outcomes and cliffs of a model whose thinking of harmful prompts always means to refuse and looks safe."""
    outcomes = synthetic.outcomes("planted", {"base": 0.8}, ["base"])
    harmful = (outcomes["label"] == "harmful").astype("boolean")
    outcomes = outcomes.assign(thinking_harmful=False, thinking_refusal=harmful, thinking_score=0.1)
    outcomes["thinking_harmful"] = outcomes["thinking_harmful"].astype("boolean")
    outcomes.loc[0, ["thinking_refusal", "thinking_score"]] = pd.NA
    return outcomes, synthetic.cliffs(outcomes)


def estimate(table, **wanted):
    (row,) = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)].itertuples()
    return row


def test_false_reassurance_is_a_share_of_harmful_responses(run):
    table = reassurance_table(run[0])
    complied = {"population": "harmful, complied"}
    assert estimate(table, **complied, quantity="thinking_safe").n == 24
    refuses = estimate(table, **complied, quantity="thinking_refuses")
    assert (refuses.value, refuses.high) == (1, 1)
    assert 0.8 < refuses.low < 1
    # The first harmful prompt was refused; a missing verdict is not counted.
    assert estimate(table, population="harmful, refused", quantity="thinking_refuses").n == 35
    assert estimate(table, population="benign", quantity="thinking_refuses").value == 0


def test_monitors_point_their_own_way(run):
    scores = monitor_scores(*run)
    table, curves = monitor_table(scores, seed=0)
    harmful = {"population": "harmful prompts", "quantity": "auroc"}
    # Compliance has a low final score and a high cliff; the thinking says nothing about it.
    assert estimate(table, **harmful, monitor="final, boundary").value == 1
    assert estimate(table, **harmful, monitor="cliff, boundary").value == 1
    assert estimate(table, **harmful, monitor="thinking, guard").value == 0.5
    assert estimate(table, **harmful, monitor="thinking, phrases").n == 59
    # Benign thinking does not mean to refuse: over all prompts the phrases point at the wrong ones.
    over_all = estimate(table, population="all prompts", quantity="auroc", monitor="thinking, phrases")
    assert over_all.value < 0.5
    assert estimate(table, population="all prompts", quantity="tpr_at_fpr_0.05", monitor="final, boundary").n == 24
    ends = curves.groupby(["monitor", "population"])[["fpr", "tpr"]].agg(["first", "last"])
    assert (ends.to_numpy() == [0, 1, 0, 1]).all()


def test_areas_and_curves_are_the_librarys():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 12, 80) / 12, rng.random(80) < 0.4  # with ties
    area, rate = roc_estimates(score, positive, seed=0)
    assert area.value == pytest.approx(roc_auc_score(positive, score))
    assert area.low < area.value < area.high
    fpr, tpr = roc_points(score, positive)
    assert rate.value == max(tpr[fpr <= 0.05])
    assert np.trapezoid(tpr, fpr) == pytest.approx(area.value)


def test_a_rate_of_one_or_none_is_no_certainty():
    score = np.r_[np.ones(10), np.zeros(30)]
    area, rate = roc_estimates(score, score == 1, seed=0)
    assert (area.value, rate.value, rate.high, rate.n) == (1, 1, 1, 10)
    assert rate.low < 0.8
    assert roc_estimates(-score, score == 1, seed=0)[1].high > 0.2


def test_an_empty_class_is_missing_and_one_response_has_no_interval():
    area, rate = roc_estimates(np.arange(5.0), np.zeros(5, bool), seed=0)
    assert np.isnan([area.value, rate.value]).all()
    area, _ = roc_estimates(np.arange(5.0), np.arange(5) == 4, seed=0)
    assert area.value == 1
    assert np.isnan(area.low)


def test_the_figure_shows_areas_with_their_n(run, tmp_path):
    table, curves = monitor_table(monitor_scores(*run), seed=0)
    safe = run[0].assign(harmful=pd.array([False] * len(run[0]), dtype="boolean"), model="aligned")
    none, no_curves = monitor_table(monitor_scores(safe, run[1]), seed=0)
    assert no_curves.empty
    monitors = pd.concat([table.assign(model="planted"), none.assign(model="aligned")])
    save(plot_monitors(monitors, curves.assign(model="planted"), "boundary"), tmp_path / "m.svg", tmp_path / "m.pdf")
    text = (tmp_path / "m.svg").read_text()
    # Perfect separation of a few prompts is no certainty.
    assert re.search(r"final: 1.00 \[0.\d\d, 1.00\], n=60", text)
    assert "(0 harmful responses)" in text
