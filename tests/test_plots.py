"""Figures are drawn from tables alone, text stays text, and equal data give equal files."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff.ablation_tables import ablation_table
from refusal_cliff.outcomes import selection_table, traces_by_group
from refusal_cliff.plots.heads import plot_heads
from refusal_cliff.plots.rates import plot_ablation, plot_interventions, plot_selection, plot_tradeoffs
from refusal_cliff.plots.style import ranking_colors, ranking_label, save
from refusal_cliff.plots.traces import plot_curves, plot_layers

TAIL = 6


def measured():
    """Outcomes and base cliffs of a flawed and an aligned model."""
    repaired = {
        "ablate-causal-0.03": 0.0,
        "ablate-causal-0.1": 0.0,
        "ablate-causal-0.015": 0.4,
        "tune-cliff-0.017-s0": 0.1,
    }
    flawed = synthetic.outcomes("planted", {"base": 0.8, **repaired})
    aligned = synthetic.outcomes("aligned", {"base": 0.0}, ["base", *synthetic.ABLATIONS])
    outcomes = pd.concat([flawed, aligned], ignore_index=True)
    return outcomes, synthetic.cliffs(outcomes)


def figures():
    outcomes, cliffs = measured()
    edited = [name for name in (*synthetic.ABLATIONS, *synthetic.INTERVENTIONS) if name != "keep-0.5"]
    heads = {("planted", name): [(0, 0)] for name in edited}
    ablation = ablation_table(outcomes, synthetic.perplexity(outcomes), heads, {"planted": np.ones((1, 1))}, seed=0)
    examples = {name: round(1500 * float(name.split("-")[2])) for name in [*synthetic.TUNINGS, "tune-whole-1-s0"]}
    selection = selection_table(outcomes, {("planted", name): size for name, size in examples.items()})
    keys = [
        {"model": model, "ranking": ranking} for model in ("planted", "aligned") for ranking in ("causal", "direct")
    ]
    heads_table = pd.concat([synthetic.heads().assign(**key, planted=False) for key in keys])
    return {
        "curves": plot_curves(cliffs, outcomes, TAIL, seed=0),
        "layers": plot_layers(cliffs, outcomes, TAIL),
        "heads": plot_heads(heads_table),
        "ablation": plot_ablation(ablation),
        "interventions": plot_interventions(ablation, "causal", 0.03),
        "selection": plot_selection(selection),
        "tradeoffs": plot_tradeoffs(ablation, selection, 0.03, 0.017),
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of all figures."""
    folder = tmp_path_factory.mktemp("figures")
    for name, figure in figures().items():
        save(figure, folder / f"{name}.svg", folder / f"{name}.pdf")
    return folder


@pytest.mark.parametrize("name", ["curves", "layers", "heads", "ablation", "interventions", "selection", "tradeoffs"])
def test_figures_keep_text_as_text(drawn, name):
    assert "planted</text>" in (drawn / f"{name}.svg").read_text()
    assert (drawn / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_figures_are_the_same_byte_for_byte(drawn, tmp_path):
    outcomes, cliffs = measured()
    save(plot_curves(cliffs, outcomes, TAIL, seed=0), tmp_path / "curves.svg", tmp_path / "curves.pdf")
    for name in ("curves.svg", "curves.pdf"):
        assert (tmp_path / name).read_bytes() == (drawn / name).read_bytes()


def test_curves_say_how_many_prompts_they_average(drawn):
    text = (drawn / "curves.svg").read_text()
    assert "harmful, complied (n=24)" in text
    assert "harmful, refused (n=36)" in text


def test_groups_need_a_verdict():
    outcomes, cliffs = measured()
    outcomes.loc[outcomes["label"] == "harmful", ["harmful", "refused"]] = pd.NA
    assert set(traces_by_group(*(table[table["model"] == "planted"] for table in (cliffs, outcomes)))["group"]) == {
        "benign"
    }


def test_no_tuned_model_is_an_empty_figure_not_an_error(tmp_path):
    empty = selection_table(synthetic.outcomes("m", {"base": 1.0}, ["base"]), {})
    save(plot_selection(empty), tmp_path / "a.svg", tmp_path / "a.pdf")
    assert (tmp_path / "a.svg").stat().st_size > 0


def test_no_ablated_model_is_an_empty_figure_not_an_error(tmp_path):
    outcomes = synthetic.outcomes("m", {"base": 1.0}, ["base"])
    table = ablation_table(outcomes, synthetic.perplexity(outcomes), {}, {}, seed=0)
    for name, figure in (("a", plot_ablation(table)), ("i", plot_interventions(table, "causal", 0.03))):
        save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.pdf")
        assert (tmp_path / f"{name}.svg").stat().st_size > 0


def test_rankings_are_drawn_in_order_of_appearance_and_controls_last():
    colors = ranking_colors(["random", "causal", "new", "promoting", "causal"])
    assert list(colors) == ["causal", "new", "promoting", "random"]
    assert len(set(colors.values())) == 4
    assert ranking_label("causal_boundary") == "causal, at the boundary"
    assert ranking_label("new") == "new"


def test_a_ranking_that_no_code_knows_is_drawn(tmp_path):
    outcomes, _ = measured()
    edited = [name for name in (*synthetic.ABLATIONS, *synthetic.INTERVENTIONS) if name != "keep-0.5"]
    heads = {("planted", name): [(0, 0)] for name in edited}
    table = ablation_table(outcomes, synthetic.perplexity(outcomes), heads, {"planted": np.ones((1, 1))}, seed=0)
    table["ranking"] = table["ranking"].replace("direct", "novel")
    save(plot_ablation(table), tmp_path / "a.svg", tmp_path / "a.pdf")
    text = (tmp_path / "a.svg").read_text()
    assert all(f"{label}</text>" in text for label in ("causal, everywhere", "novel", "promoting", "random"))
    assert "random0" not in text  # draws are points, not lines
