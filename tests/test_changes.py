"""What fine-tuning changed along a trace, by the probes of the model that it started from."""

import numpy as np
import pandas as pd
import pytest

from refusal_cliff.changes import PARTS, change_table, position_scores
from refusal_cliff.plots.traces import plot_changes

TAIL, TOKENS, GRID = 4, ["↵", "</think>", "↵↵"], 10


def cliffs(model, prompts, thinking, boundary, layers=(0, 1)):
    """Traces whose score is the same over the thinking, then one value for each boundary token."""
    rows = [
        {
            "model": model,
            "prompt_id": prompt,
            "sample": sample,
            "probe": "paper",
            "layer": layer,
            "curve": np.full(GRID, value, dtype=np.float32),
            "boundary_curve": np.array([value] * TAIL + boundary, dtype=np.float32),
        }
        for layer in layers
        for prompt, value in zip(prompts, thinking, strict=True)
        for sample in (0, 1)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def outcomes():
    label = ["harmful", "harmful", "harmful", "benign"]
    table = pd.DataFrame({"prompt_id": list("abcd"), "request_id": list("xyzw"), "label": label})
    refused = pd.array([True, True, False, False], dtype="boolean")
    return table.assign(model="taught-s0", variant="base", refused=refused)


def rows(table, **wanted):
    return table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)].set_index("position")["value"]


def test_a_prompt_has_a_score_for_parts_of_its_thinking_and_every_boundary_token():
    scores = position_scores(cliffs("m", "a", [0.5], [0.4, 0.3, 0.9]), TAIL)
    assert scores.columns.tolist() == [
        *(f"thinking {place}/{PARTS}" for place in range(1, PARTS + 1)),
        "boundary 1",
        "boundary 2",
        "boundary 3",
        "rise",
    ]
    assert scores.loc["paper", 1].loc["a"].tolist() == pytest.approx([0.5] * PARTS + [0.4, 0.3, 0.9, 0.4])


def test_changes_are_paired_by_prompt_and_split_by_what_the_parent_did(outcomes):
    own = cliffs("taught-s0", "abcd", [0.8, 0.6, 0.4, 0.1], [0.5, 0.7, 0.9])
    read = cliffs("eroded-s0", "abc", [0.7, 0.3, 0.4], [0.5, 0.7, 0.2])
    table = change_table(read, own, outcomes, {"eroded-s0": "taught-s0"}, {"eroded-s0": TOKENS}, TAIL, seed=0)
    assert set(table["parent"]) == {"taught-s0"}
    refused = rows(table, layer=1, group="harmful, parent refused", quantity="change")
    assert refused["thinking 1/5"] == pytest.approx(((0.7 - 0.8) + (0.3 - 0.6)) / 2)
    assert refused["boundary 3"] == pytest.approx(-0.7)
    assert refused["rise"] == pytest.approx(((0.2 - 0.7) - (0.9 - 0.8) + (0.2 - 0.3) - (0.9 - 0.6)) / 2)
    whole = rows(table, layer=1, group="harmful", quantity="before")
    assert whole["thinking 5/5"] == pytest.approx(0.6)
    assert set(table.loc[table["group"] == "harmful", "n"]) == {3}
    assert table[table["group"] == "benign"].empty  # the child has no trace of it
    assert (table["low"] <= table["value"] + 1e-9).all()
    assert (table["value"] <= table["high"] + 1e-9).all()


def test_what_has_no_thinking_has_no_change_there(outcomes):
    own = cliffs("taught-s0", "abcd", [0.8, 0.6, 0.4, 0.1], [0.5, 0.7, 0.9])
    read = cliffs("eroded-s0", "abcd", [np.nan] * 4, [0.5, 0.7, 0.2])
    table = change_table(read, own, outcomes, {"eroded-s0": "taught-s0"}, {"eroded-s0": TOKENS}, TAIL, seed=0)
    first = rows(table, layer=0, group="harmful", quantity="before")
    assert np.isnan(first["thinking 1/5"])
    assert first["boundary 1"] == pytest.approx(0.5)


def test_the_figure_has_a_panel_for_each_family(outcomes):
    own = cliffs("taught-s0", "abcd", [0.8, 0.6, 0.4, 0.1], [0.5, 0.7, 0.9])
    read = pd.concat([cliffs(f"eroded-s{seed}", "abcd", [0.7, 0.3, 0.4, 0.1], [0.5, 0.7, 0.2]) for seed in (0, 1)])
    parents = {"eroded-s0": "taught-s0", "eroded-s1": "taught-s0"}
    table = change_table(read, own, outcomes, parents, dict.fromkeys(parents, TOKENS), TAIL, seed=0)
    figure = plot_changes(table, "paper", dict.fromkeys(parents, "eroded"))
    (panel, _) = figure.axes
    assert panel.get_title() == "eroded, 2 models\n2 to 2 prompts each"
    assert panel.images[0].get_array()[1, -1] == pytest.approx(-0.7)
    assert [label.get_text() for label in panel.get_xticklabels()][-4:] == [f"{PARTS}/{PARTS}", *TOKENS]
