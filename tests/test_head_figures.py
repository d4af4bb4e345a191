"""Figures of heads are drawn from tables alone, and say what they rest on."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff.attention import SPANS
from refusal_cliff.head_agreement import agreement, head_table, target_table
from refusal_cliff.plots.heads import (
    plot_attention,
    plot_head_agreement,
    plot_head_intervals,
    plot_heads,
    plot_targets,
)
from refusal_cliff.plots.style import save

TRACES = 20
LABELS = {
    "direct": "direct",
    "causal": "causal, everywhere",
    "causal_boundary": "causal, at the boundary",
    "new": "new",
    "openers_direct": "openers: direct",
}
RANKINGS = tuple(LABELS)


@pytest.fixture(scope="module")
def tables():
    """Heads and agreement, as CSV files hold them, of a model with planted heads and of one where nobody knows."""
    mean, rng = synthetic.heads()["effect"].to_numpy().reshape(4, 8), np.random.default_rng(0)
    effects = pd.concat(
        synthetic.effects({ranking: mean + rng.normal(0, 0.2, (TRACES, 4, 8)) for ranking in RANKINGS}, model)
        for model in ("planted", "aligned")
    )
    heads = head_table(effects, [{"model": "planted", "heads": synthetic.PLANTED}], seed=0)
    return heads, agreement(effects, 0.03, seed=0)


def text_of(figure, folder):
    save(figure, folder / "figure.svg", folder / "figure.pdf")
    assert (folder / "figure.pdf").read_bytes().startswith(b"%PDF")
    return (folder / "figure.svg").read_text()


def test_heat_maps_have_a_row_for_each_ranking(tables, tmp_path):
    heads, _ = tables
    figure = plot_heads(heads)
    text = text_of(figure, tmp_path)
    assert all(f"{label}</text>" in text for label in LABELS.values())
    # Rings of the model whose planted heads are known, two for each ranking and head: white under black.
    rings = [sorted(line.get_xydata().tolist()) for ax in figure.axes for line in ax.get_lines()]
    assert rings == [[[head, layer] for layer, head in synthetic.PLANTED]] * 2 * len(RANKINGS)


def test_agreement_is_written_beside_the_points(tables, tmp_path):
    heads, agreements = tables
    text = text_of(plot_head_agreement(heads, agreements, "causal"), tmp_path)
    with_causal = agreements[(agreements["ranking"] == "causal") | (agreements["other"] == "causal")]
    spearman = with_causal.query("quantity == 'spearman'")
    assert len(spearman) == 2 * (len(RANKINGS) - 1)
    for found in spearman.itertuples():
        assert f"Spearman {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]" in text
    assert "planted head</text>" in text


def test_agreement_is_written_where_no_point_can_be(tables):
    figure = plot_head_agreement(*tables, "causal")
    figure.draw_without_rendering()
    for ax in figure.axes:
        (text,) = ax.texts
        assert "Spearman" in text.get_text()
        assert text.get_window_extent().y0 >= ax.get_window_extent().y1
        assert not any(text.get_window_extent().overlaps(other.title.get_window_extent()) for other in figure.axes)


def test_planted_heads_lead_the_intervals(tables, tmp_path):
    heads, _ = tables
    figure = plot_head_intervals(heads)
    first = figure.axes[0]
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert set(labels[: len(synthetic.PLANTED)]) == {f"L{layer}H{head}" for layer, head in synthetic.PLANTED}
    assert len(labels) == 10
    assert f"planted (n={TRACES})</text>" in text_of(figure, tmp_path)
    assert first.get_xlim() == figure.axes[1].get_xlim()


def test_what_could_not_be_measured_has_no_panel(tables, tmp_path):
    heads, agreements = tables
    known = heads[(heads["model"] == "planted") | ~heads["ranking"].isin(["causal", "openers_direct"])]
    assert sum(ax.axison for ax in plot_heads(known).axes if ax.images) == 2 * len(RANKINGS) - 2
    assert sum(ax.axison for ax in plot_head_intervals(known).axes) == 2 * len(RANKINGS) - 2
    # Of the other model none can be set against the causal one.
    assert sum(ax.axison for ax in plot_head_agreement(known, agreements, "causal").axes) == len(RANKINGS) - 1
    other = plot_head_agreement(heads, agreements, "openers_direct")
    assert {ax.get_xlabel() for ax in other.axes} == {"", "effect by openers: direct"}


def test_targets_side_by_side(tmp_path):
    rng = np.random.default_rng(0)
    names = {"causal": ("causal", "probe"), "openers_causal": ("causal", "openers")}
    effects = pd.concat(
        synthetic.effects({name: rng.normal(0, 1, (TRACES, 4, 8)) for name in measured}, model)
        for model, measured in (("both", names), ("one", ["causal"]))
    )
    found = target_table(effects, names, {"one": {"openers": "it refused nothing"}}, 0.03, seed=0)
    figure = plot_targets(found)
    assert len(figure.axes) == 3
    text = text_of(figure, tmp_path)
    assert f"both (n={TRACES})</text>" in text
    assert "one (n" not in text
    for label in ("Spearman", "first heads by probe", "first heads by openers", "change in probe", "change in openers"):
        assert f"{label}</text>" in text
    text_of(plot_targets(found[found["model"] == "one"]), tmp_path)


def test_attention_shows_every_span(tmp_path):
    rows = [
        ("planted", group, query, span, quantity, 0.1, 0.05, 0.2, TRACES)
        for group in ("top", "rest", "top minus rest")
        for query in ("last_boundary", "boundary")
        for span in SPANS
        for quantity in ("mass", "relative")
    ]
    columns = ["model", "group", "query", "span", "quantity", "value", "low", "high", "n"]
    text = text_of(plot_attention(pd.DataFrame(rows, columns=columns)), tmp_path)
    assert f"planted (n={TRACES})</text>" in text
    assert all(f"{word}</text>" in text for word in ("template", "wrapper", "request", "sentence", "boundary"))
