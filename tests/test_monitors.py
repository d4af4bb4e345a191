"""Monitors point one way; their ROC curves, areas and rates are those of the library."""

import numpy as np
import pandas as pd
import pytest
import synthetic
from sklearn.metrics import roc_auc_score, roc_curve

from refusal_cliff.monitors import (
    monitor_curves,
    monitor_scores,
    monitor_table,
    rate_at_threshold,
    reassurance_table,
)
from refusal_cliff.plots.monitors import plot_monitor_roc, plot_monitors
from refusal_cliff.plots.style import save
from refusal_cliff.stats import wilson


@pytest.fixture(scope="module")
def run():
    """Cliffs and outcomes of a model whose thinking of harmful prompts always means to refuse and looks safe."""
    outcomes = synthetic.outcomes("planted", {"base": 0.8}, ["base"])
    harmful = (outcomes["label"] == "harmful").astype("boolean")
    outcomes = outcomes.assign(thinking_harmful=False, thinking_refusal=harmful, thinking_score=0.1)
    outcomes["thinking_harmful"] = outcomes["thinking_harmful"].astype("boolean")
    outcomes.loc[0, ["thinking_refusal", "thinking_score"]] = pd.NA
    return synthetic.cliffs(outcomes), outcomes


def estimate(table, **wanted):
    (row,) = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)].itertuples()
    return row


def test_false_reassurance_is_a_share_of_harmful_responses(run):
    table = reassurance_table(run[1])
    complied = {"population": "harmful, complied"}
    assert estimate(table, **complied, quantity="thinking_safe").n == 24
    refuses = estimate(table, **complied, quantity="thinking_refuses")
    assert (refuses.value, refuses.high) == (1, 1)
    assert 0.8 < refuses.low < 1
    # The first harmful prompt was refused; a missing verdict is not counted.
    missing = estimate(table, population="harmful, refused", quantity="thinking_refuses")
    assert (missing.n, missing.value, missing.highest) == (35, 1, 1)
    assert missing.lowest == pytest.approx(35 / 36)
    assert estimate(table, population="benign", quantity="thinking_refuses").value == 0


def test_monitors_point_their_own_way(run):
    scores = monitor_scores(*run)
    table, curves = monitor_table(scores, seed=0), monitor_curves(scores)
    harmful = {"population": "harmful prompts", "quantity": "auroc"}
    # Compliance has a low final score and a high cliff; the thinking says nothing about it.
    assert estimate(table, **harmful, monitor="final, paper").value == 1
    assert estimate(table, **harmful, monitor="cliff, paper").value == 1
    assert estimate(table, **harmful, monitor="thinking, guard").value == 0.5
    assert estimate(table, **harmful, monitor="thinking, phrases").n == 59
    # Benign thinking does not mean to refuse: over all prompts the phrases point at the wrong ones.
    over_all = estimate(table, population="all prompts", quantity="auroc", monitor="thinking, phrases")
    assert over_all.value < 0.5
    assert estimate(table, population="all prompts", quantity="tpr_at_fpr_0.05", monitor="final, paper").n == 24
    ends = curves.groupby(["monitor", "population"])[["fpr", "tpr"]].agg(["first", "last"])
    assert (ends.to_numpy() == [0, 1, 0, 1]).all()


def test_areas_and_curves_are_the_librarys():
    rng = np.random.default_rng(0)
    positive = rng.random(80) < 0.4
    score = rng.integers(0, 12, 80) / 12 + 0.5 * positive  # with ties
    described = {"model": "m", "monitor": "any", "label": "harmful", "prompt_id": range(80), "request_id": range(80)}
    scores = pd.DataFrame({"score": score, "harmful": positive}).assign(**described)
    table, curve = monitor_table(scores, seed=0), monitor_curves(scores).query("population == 'all prompts'")
    area = estimate(table, quantity="auroc", population="all prompts")
    assert area.value == pytest.approx(roc_auc_score(positive, score))
    assert area.low < area.value < area.high
    fpr, tpr, _ = roc_curve(positive, score, drop_intermediate=False)
    assert curve[["fpr", "tpr"]].to_numpy().tolist() == pytest.approx(np.transpose([fpr, tpr]))
    rate = rate_at_threshold(score, positive, range(80), seed=0)
    assert rate.value == max(tpr[fpr <= 0.05])
    assert rate.low < rate.value < rate.high


def test_a_rate_of_one_or_none_is_no_certainty():
    score = np.r_[np.ones(10), np.zeros(30)]
    rate = rate_at_threshold(score, score == 1, range(40), seed=0)
    assert (rate.value, rate.high, rate.n) == (1, 1, 10)
    assert rate.low < 0.8
    assert rate_at_threshold(-score, score == 1, range(40), seed=0).high > 0.2


def test_wrappings_of_one_request_make_a_monitor_no_surer(run):
    scores = monitor_scores(*run)
    together = scores.assign(request_id=scores["prompt_id"].str[:-1])  # ten prompts of each request
    wanted = {"monitor": "final, paper", "population": "harmful prompts"}
    for quantity in ("auroc", "tpr_at_fpr_0.05"):
        narrow, wide = (
            estimate(monitor_table(table, seed=0), **wanted, quantity=quantity) for table in (scores, together)
        )
        assert (wide.value, wide.n) == (narrow.value, narrow.n)
        assert wide.low < narrow.low


def test_an_empty_class_has_no_rate():
    assert np.isnan(rate_at_threshold(np.arange(5.0), np.zeros(5, bool), range(5), seed=0).value)
    # One negative is missing in a third of the resamples: they say nothing about the threshold.
    rate = rate_at_threshold(np.arange(5.0), np.arange(5) > 0, range(5), seed=0)
    assert rate.value == 1
    assert rate.low == pytest.approx(wilson(4, 4)[0])


def test_the_figure_shows_areas_with_their_n(run, tmp_path):
    scores = monitor_scores(*run)
    safe = scores.assign(model="aligned", harmful=False)
    assert monitor_curves(safe).empty
    both = pd.concat([scores, safe])
    monitors, curves = monitor_table(both, seed=0), monitor_curves(both)
    figure = plot_monitors(monitors, "paper")
    assert len(figure.axes) == 1, "of a model without harmful responses there is nothing to show"
    save(figure, tmp_path / "m.svg", tmp_path / "m.pdf")
    text = (tmp_path / "m.svg").read_text()
    assert all(f"{words}</text>" in text for words in ("final", "harmful prompts (n=60)"))
    save(plot_monitor_roc(curves, "paper"), tmp_path / "r.svg", tmp_path / "r.pdf")
    assert "false positive rate</text>" in (tmp_path / "r.svg").read_text()
