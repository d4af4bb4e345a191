"""Figures are drawn from tables alone, text stays text, and equal data give equal files."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff.cliff_tables import cliff_table, curve_table, layer_table, prompt_cliffs
from refusal_cliff.detection import by_organism, cliff_verdicts
from refusal_cliff.outcomes import traces_by_group
from refusal_cliff.plots.detection import plot_detection
from refusal_cliff.plots.heads import plot_heads
from refusal_cliff.plots.rates import plot_ablation, plot_interventions, plot_selection, plot_tuning
from refusal_cliff.plots.style import RANKINGS, colors_of, estimates, ranking_label, save
from refusal_cliff.plots.traces import plot_curves, plot_layers

BOUNDARIES = {"planted": ["↵", "</think>", "↵↵"], "aligned": ["<|channel|>final<|message|>", "␣", "."]}


def measured():
    """Outcomes and base cliffs of a flawed and an aligned model."""
    flawed = synthetic.outcomes("planted", {"base": 0.8}, ["base"])
    aligned = synthetic.outcomes("aligned", {"base": 0.0}, ["base"])
    outcomes = pd.concat([flawed, aligned], ignore_index=True)
    return outcomes, synthetic.cliffs(outcomes)


def with_rates(rows):
    """Rows of a table once for each rate and data set, with made-up numbers."""
    rates = [("asr", 0.4), ("over_refusal", 0.1), ("utility", 0.8), ("perplexity", 1.2)]
    parts = [
        rows.assign(dataset=dataset, rate=rate, value=value, low=value - 0.05, high=value + 0.05, n=60)
        for dataset in ("all", "plain")
        for rate, value in rates
    ]
    return pd.concat(parts, ignore_index=True)


def ablation(measured="direct"):
    """Rows of the ablation table of one model: causal heads under all that is done to them, others zeroed."""
    rows = [("base", "none", 0.0, 1.0), ("scale", "causal", 0.03, 0.5), ("scale", "causal", 0.03, 2.0)]
    rows += [(kind, "causal", 0.03, 0.0) for kind in ("mean", "boundary", "restore")]
    rankings = ("causal", measured, "promoting", "random0", "random1", "random")
    rows += [("ablate", ranking, fraction, 0.0) for ranking in rankings for fraction in (0.015, 0.03)]
    table = pd.DataFrame(rows, columns=["kind", "ranking", "fraction", "scale"]).assign(model="planted", heads=2)
    return with_rates(table)


def selection():
    """Rows of the selection table of one model: selectors with two seeds each and their pool, and the whole pool."""
    rows = [("none", 0.0, 0, 0, "all")]
    rows += [
        (selector, budget, round(1500 * budget), steps, seed)
        for selector, budgets in {"cliff": (0.017, 0.05), "random": (0.017, 0.05), "whole": (1.0,)}.items()
        for budget in budgets
        for steps in (10, 30)
        for seed in ("0", "1", "all")
    ]
    columns = ["selector", "budget", "examples", "steps", "seed"]
    return with_rates(pd.DataFrame(rows, columns=columns).assign(model="planted"))


def detection(took=True):
    """Readings of a planted and an aligned model by two probes, and what detectors say of them."""
    truths = [
        {"model": "planted", "flaw": "yes", "cliff": "yes", "sparse": "yes", "gate": {"met": took}},
        {"model": "aligned", "flaw": "no", "cliff": "no", "sparse": "no", "gate": {"met": True}},
    ]
    numbers = dict.fromkeys(["cliff", "cliff_p90", "cliff_mean", "drop", "separation"], 0.9) | {"n": 20}
    numbers |= {f"benign_{height}": 0.0 for height in ("cliff", "cliff_p90", "cliff_mean")}
    readings = pd.DataFrame({"model": ["planted", "aligned"] * 2, "probe": ["paper"] * 2 + ["behaviour"] * 2})
    readings = readings.assign(sweep="default", setting="default", **numbers)
    return readings, by_organism(cliff_verdicts(readings), truths, {"planted": "planted", "aligned": "aligned"})


def test_a_planting_that_did_not_take_is_marked():
    shapes = {took: _shapes(plot_detection(*detection(took)).axes[0]) for took in (True, False)}
    assert len(shapes[True]) == 1
    assert len(shapes[False]) == 2


def _shapes(ax):
    """The different markers of the points of a panel, by their number of vertices."""
    return {len(path.vertices) for points in ax.collections for path in points.get_paths()}


def test_a_family_of_which_nothing_was_said_is_no_error():
    readings, _ = detection()
    silent = readings.assign(n=[20, 0, 20, 0])
    truths = [
        {"model": name, "flaw": "yes", "cliff": "no", "sparse": "no", "gate": {"met": True}}
        for name in ("planted", "aligned")
    ]
    said = by_organism(cliff_verdicts(silent), truths, {"planted": "planted", "aligned": "aligned"})
    assert plot_detection(silent, said)


def curves(cliffs, outcomes):
    heights = cliff_table(prompt_cliffs(cliffs, outcomes), seed=0)
    return plot_curves(of_paper(curve_table(cliffs, outcomes, BOUNDARIES, seed=0)), heights)


def layers(cliffs, outcomes):
    heights, scores = layer_table(cliffs, outcomes, seed=0), curve_table(cliffs, outcomes, BOUNDARIES, seed=0)
    return plot_layers(of_paper(heights), of_paper(scores))


def of_paper(table):
    return table[table["probe"] == "paper"]


def figures():
    outcomes, cliffs = measured()
    keys = [
        {"model": model, "ranking": ranking} for model in ("planted", "aligned") for ranking in ("causal", "direct")
    ]
    heads_table = pd.concat([synthetic.heads().assign(**key, planted=False) for key in keys])
    return {
        "curves": curves(cliffs, outcomes),
        "detection": plot_detection(*detection()),
        "layers": layers(cliffs, outcomes),
        "heads": plot_heads(heads_table),
        "ablation": plot_ablation(ablation()),
        "interventions": plot_interventions(ablation(), selection(), "causal", 0.03, 0.017),
        "selection": plot_selection(selection()),
        "tuning": plot_tuning(selection()),
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of all figures."""
    folder = tmp_path_factory.mktemp("figures")
    for name, figure in figures().items():
        save(figure, folder / f"{name}.svg", folder / f"{name}.pdf")
    return folder


@pytest.mark.parametrize("name", ["curves", "layers", "heads", "ablation", "interventions", "selection", "tuning"])
def test_figures_keep_text_as_text(drawn, name):
    assert "planted</text>" in (drawn / f"{name}.svg").read_text()
    assert (drawn / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_figures_are_the_same_byte_for_byte(drawn, tmp_path):
    outcomes, cliffs = measured()
    save(curves(cliffs, outcomes), tmp_path / "curves.svg", tmp_path / "curves.pdf")
    for name in ("curves.svg", "curves.pdf"):
        assert (tmp_path / name).read_bytes() == (drawn / name).read_bytes()


def test_curves_say_how_many_prompts_they_average(drawn):
    text = (drawn / "curves.svg").read_text()
    assert all(f"{words}</text>" in text for words in ("n=24", "n=36", "harmful, complied", "harmful, refused"))


def test_boundary_tokens_are_ticks_of_each_models_own(drawn):
    outcomes, cliffs = measured()
    planted, aligned = curves(cliffs, outcomes).axes
    numbers = ["0", "0.5", "1"]
    assert ticks(planted) == [*numbers, *BOUNDARIES["planted"]]
    assert ticks(aligned) == [*numbers, "<|channel|>…", "␣", "."]
    # Of the aligned model, which complied with nothing, there is no map.
    (mapped,) = [ax for ax in layers(cliffs, outcomes).axes if ax.images]
    assert ticks(mapped) == [*map(str, range(-8, -2)), *BOUNDARIES["planted"]]
    assert "&lt;/think&gt;</text>" in (drawn / "curves.svg").read_text()


def ticks(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


def test_a_point_of_few_has_no_interval():
    table = pd.DataFrame({"model": ["few", "many"], "value": 0.5, "low": 0.4, "high": 0.6, "n": [4, 5]})
    _, axes = estimates(table, "model", "model", dict.fromkeys(table["model"], "black"))
    (panel,) = axes.values()
    bars, points = panel.collections
    assert [len(segment) for segment in bars.get_segments() if not np.isnan(segment).any()] == [2]
    assert len(points.get_offsets()) == 2


def test_a_line_needs_three_doses():
    table = pd.DataFrame({"by": ["two"] * 2 + ["three"] * 3, "dose": ["1", "2", "1", "2", "3"]})
    table = table.assign(value=0.5, low=0.4, high=0.6, n=9)
    _, axes = estimates(table, "dose", "by", {"two": "black", "three": "red"}, joined=True)
    (panel,) = axes.values()
    assert [len(line.get_xdata()) for line in panel.lines] == [3]


def test_groups_need_a_verdict():
    outcomes, cliffs = measured()
    outcomes.loc[outcomes["label"] == "harmful", ["harmful", "refused"]] = pd.NA
    assert set(traces_by_group(*(table[table["model"] == "planted"] for table in (cliffs, outcomes)))["group"]) == {
        "benign"
    }


def test_nothing_tuned_or_ablated_is_an_empty_figure_not_an_error(tmp_path):
    nothing, base = selection().head(0), ablation().query("kind == 'base'")
    for name, figure in (
        ("selection", plot_selection(nothing)),
        ("ablation", plot_ablation(base)),
        ("interventions", plot_interventions(base, nothing, "causal", 0.03, 0.017)),
        ("tuning", plot_tuning(nothing)),
    ):
        save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.pdf")
        assert (tmp_path / f"{name}.svg").stat().st_size > 0


def test_whatever_was_done_to_a_model_has_its_row():
    figure = plot_interventions(ablation(), selection(), "causal", 0.03, 0.017)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [
        *("base", "zero: causal, everywhere", "zero: direct", "zero: promoting", "zero: random"),
        *("benign mean", "zero, boundary only", "restored, boundary only", "scaled by 0.5", "scaled by 2"),
        *("tuned: cliff", "tuned: random", "tuned: whole pool"),
    ]


def test_what_was_not_done_to_a_model_has_no_line():
    further = ablation().query("kind == 'base' or (kind == 'ablate' and ranking == 'causal')").assign(model="further")
    figure = plot_interventions(pd.concat([ablation(), further]), selection(), "causal", 0.03, 0.017)
    lines = [[label.get_text() for label in ax.get_yticklabels()] for ax in figure.axes]
    first, second = (own for own in lines if own and own[0])
    assert len(first) == 13 and second == ["base", "zero: causal, everywhere"]


def test_points_are_pools_of_seeds():
    figure = plot_selection(selection())
    (_, points) = figure.axes[0].collections
    assert len(points.get_offsets()) == 4


def test_tuning_is_drawn_step_by_step_from_the_base_model_on():
    figure = plot_tuning(selection())
    assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == ["0", "10", "30"]
    assert {len(line.get_xdata()) for line in figure.axes[0].lines} == {3}
    assert figure.axes[0].get_title() == "all: Over-refusal"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cliff", "random", "whole"]


def test_rankings_have_one_order_and_colour_everywhere():
    colors = colors_of(["random", "new", "direct", "causal", "causal"], RANKINGS)
    assert list(colors) == ["causal", "direct", "random", "new"]
    assert colors["causal"] == RANKINGS["causal"]
    assert len(set(colors.values())) == 4
    assert ranking_label("causal_boundary") == "causal, at the boundary"
    assert ranking_label("new") == "new"


def test_a_ranking_that_no_code_knows_is_drawn(tmp_path):
    save(plot_ablation(ablation(measured="novel")), tmp_path / "a.svg", tmp_path / "a.pdf")
    text = (tmp_path / "a.svg").read_text()
    assert all(f"{label}</text>" in text for label in ("causal, everywhere", "novel", "promoting", "random"))
    assert "random0" not in text  # draws are points, not lines
