"""Figures of attention heads: columns are models."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from refusal_cliff.plots.style import (
    BLUE,
    GREEN,
    GREY,
    LABELS,
    VERMILION,
    errorbars,
    grid,
    layer_ticks,
    legend,
    ranking_label,
)

TOP = 10
"""Heads of each ranking whose intervals are drawn."""
SPAN_LABELS = {
    "template": "template",
    "wrapper": "wrapper",
    "request": "request",
    "thinking": "other\nthinking",
    "refusal": "refusal\nsentence",
    "boundary": "boundary",
}


def plot_heads(heads: pd.DataFrame) -> Figure:
    """Effect of every head on the refusal logit, layer by head; rows are rankings, planted heads are ringed.

    Args:
        heads: model, ranking, layer, head, effect, planted (missing where nobody knows).
    """
    models, rankings = list(heads["model"].unique()), list(heads["ranking"].unique())
    figure, axes = grid(len(rankings), len(models))
    rings = []
    for row, ranking in enumerate(rankings):
        for column, model in enumerate(models):
            ax, own = axes[row, column], heads[(heads["model"] == model) & (heads["ranking"] == ranking)]
            if own.empty:
                ax.set_axis_off()
                continue
            effects = own.pivot_table(index="layer", columns="head", values="effect")
            limit = float(effects.abs().to_numpy().max()) or 1.0
            image = ax.imshow(effects, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
            figure.colorbar(image, ax=ax, pad=0.02)
            planted = own[_planted(own)]
            if len(planted):
                # White under black: the ring shows on any colour of the map.
                ax.plot(planted["head"], planted["layer"], "o", mfc="none", mec="white", mew=3, markersize=10)
                rings = ax.plot(planted["head"], planted["layer"], "o", mfc="none", mec="black", mew=1.3, markersize=10)
            ax.grid(visible=False)
            ax.set_yticks(*layer_ticks(list(effects.index)))
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            if row == 0:
                ax.set_title(model)
            if column == 0:
                ax.set_ylabel(f"{ranking_label(ranking)}\nlayer")
            if row == len(rankings) - 1:
                ax.set_xlabel("head")
    if rings:
        figure.legend(rings, ["planted head"], loc="outside lower center")
    figure.suptitle("effect on the refusal logit (blue: suppresses refusal)", fontsize=9, color=GREY)
    return figure


def _planted(heads: pd.DataFrame) -> pd.Series:
    return heads["planted"].fillna(False).astype(bool)


def plot_head_agreement(heads: pd.DataFrame, agreement: pd.DataFrame, operating: str) -> Figure:
    """Effect of every head by the operating ranking against each other one; rows are the other rankings.

    Rankings that could not be measured of a model have no panel.

    Args:
        heads: model, ranking, layer, head, effect, planted (missing where nobody knows).
        agreement: model, ranking, other, k, quantity, value, low, high, n.
        operating: a ranking.
    """
    models, others = list(heads["model"].unique()), [name for name in heads["ranking"].unique() if name != operating]
    figure, axes = grid(max(1, len(others)), len(models))
    for column, model in enumerate(models):
        own = heads[heads["model"] == model]
        effects = own.pivot_table(index=["layer", "head"], columns="ranking", values="effect")
        ringed = effects.index.isin(own[_planted(own)].set_index(["layer", "head"]).index)
        for row, other in enumerate(others):
            ax = axes[row, column]
            if not {operating, other} <= set(effects):
                ax.set_axis_off()
                continue
            # Most heads do little: near zero the scale is linear, so that their spread shows beside a few strong heads.
            near = max(float(effects[operating].abs().median()), 1e-6)
            for scale in (ax.set_xscale, ax.set_yscale):
                scale("symlog", linthresh=near)
            ax.axline((0, 0), (near, near), color=GREY, lw=0.8, ls=":")
            ax.plot(effects[operating], effects[other], "o", color=BLUE, alpha=0.6, ms=3.5, mew=0, label="head")
            ringed_points = effects[ringed]
            ax.plot(
                ringed_points[operating],
                ringed_points[other],
                "o",
                mfc="none",
                mec=VERMILION,
                ms=9,
                label="planted head",
            )
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(_few_ticks(effects, near))
                axis.set_minor_locator(NullLocator())
                axis.set_major_formatter(FuncFormatter(_short))
            if row == 0:
                ax.set_title(model)
            if column == 0:
                ax.set_ylabel(f"{ranking_label(other)}: effect")
            ax.tick_params(labelsize=7)
            text = _agreement_text(agreement, model, {operating, other})
            ax.set_xlabel(f"{ranking_label(operating)}: effect\n{text}", fontsize=8)
    legend(figure, axes)
    return figure


def _short(value: float, _place: int) -> str:
    return f"{value:g}"


def _few_ticks(effects: pd.DataFrame, near: float) -> FixedLocator:
    """Ticks at zero and at 1 and 3 times powers of ten beyond the linear part, on the sides that have heads."""
    low, high = float(effects.to_numpy().min()), float(effects.to_numpy().max())
    powers = 10.0 ** np.arange(np.floor(np.log10(near)), np.ceil(np.log10(max(-low, high, near))) + 1)
    ticks = np.sort(np.concatenate([powers, 3 * powers]))
    ticks = ticks[ticks >= 2 * near]
    return FixedLocator([0.0, *(-ticks[ticks <= -low]), *ticks[ticks <= high]])


def _agreement_text(agreement: pd.DataFrame, model: str, pair: set[str]) -> str:
    """Spearman and overlaps of two rankings, with their intervals."""
    own = agreement[(agreement["model"] == model)]
    own = own[[{row.ranking, row.other} == pair for row in own.itertuples()]]
    lines = [
        f"{'Spearman' if row.quantity == 'spearman' else f'both have, of top {row.k:g}:'} "
        f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in own.itertuples()
    ]
    return "\n".join(lines)


def plot_head_intervals(heads: pd.DataFrame) -> Figure:
    """Effects of the first heads of every ranking with their 95 % intervals; rows are rankings.

    Args:
        heads: model, ranking, layer, head, effect, low, high, n, rank, p_holm, planted (missing where nobody knows).
    """
    models, rankings = list(heads["model"].unique()), list(heads["ranking"].unique())
    figure, axes = grid(len(rankings), len(models))
    kinds = {
        "planted": ("o", VERMILION, VERMILION),
        "not zero (Holm, 5 %)": ("o", BLUE, BLUE),
        "may be zero": ("o", GREY, "white"),
    }
    handles = {}
    for row, ranking in enumerate(rankings):
        for column, model in enumerate(models):
            ax = axes[row, column]
            own = heads[(heads["model"] == model) & (heads["ranking"] == ranking)].nsmallest(TOP, "rank")
            if own.empty:
                ax.set_axis_off()
                continue
            places = np.arange(len(own))
            planted = _planted(own).to_numpy()
            clear = (own["p_holm"] < 0.05).to_numpy()
            for (name, (marker, color, fill)), chosen in zip(
                kinds.items(), (planted, clear & ~planted, ~clear & ~planted), strict=True
            ):
                part = own[chosen]
                bars = np.clip([part["effect"] - part["low"], part["high"] - part["effect"]], 0, None)
                handles[name] = ax.errorbar(
                    part["effect"], places[chosen], xerr=bars, fmt=marker, color=color, mfc=fill, elinewidth=0.9
                )
            ax.axvline(0, color=GREY, lw=0.8)
            labels = [f"{layer}.{head}" for layer, head in zip(own["layer"], own["head"], strict=True)]
            ax.set_yticks(places, labels, fontsize=7)
            ax.invert_yaxis()
            ax.grid(visible=False, axis="y")
            if row == 0:
                ax.set_title(f"{model} (n={int(own['n'].iloc[0])})")
            if column == 0:
                ax.set_ylabel(f"{ranking_label(ranking)}\nlayer.head")
            if row == len(rankings) - 1:
                ax.set_xlabel("effect on the refusal logit")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    return figure


def plot_targets(targets: pd.DataFrame) -> Figure:
    """How far two targets are one, at the operating point; columns are models in which both could be measured.

    First row: agreement of the effects on both. Below, a row for each target: what ablating one of the first heads adds
    to it, by the target whose first heads they are.

    Args:
        targets: model, measure, target, other, k, point, quantity, value, low, high, n.
    """
    shown = targets[targets["point"] & targets["value"].notna()]
    models, measures = list(shown["model"].unique()), list(shown["measure"].unique())
    change = shown["quantity"] == "change"
    read = list(shown.loc[change, "other"].unique())
    panels = {
        "agreement of the targets": {
            "Spearman": (shown["quantity"] == "spearman", GREEN),
            "both have, of the first heads": (shown["quantity"] == "overlap", GREY),
        }
    } | {
        f"change in {other}": {
            f"first heads by {target}": (change & (shown["other"] == other) & (shown["target"] == target), color)
            for target, color in zip(read, (VERMILION, BLUE), strict=False)
        }
        for other in read
    }
    figure, axes = grid(len(panels), max(1, len(models)))
    handles = {}
    for row, (label, series) in enumerate(panels.items()):
        for column, model in enumerate(models):
            ax = axes[row, column]
            ax.axhline(0, color=GREY, lw=0.8)
            for place, (name, (chosen, color)) in enumerate(series.items()):
                points = shown[chosen & (shown["model"] == model)]
                shifted = points["measure"].map(measures.index) + (place - 0.5) * 0.2
                errorbars(ax, points.assign(at=shifted), "at", name, color, joined=False)
            ax.set_xticks(range(len(measures)), [LABELS.get(name, name).replace(", ", ",\n") for name in measures])
            ax.tick_params(labelsize=7)
            ax.set_xlim(-0.5, len(measures) - 0.5)
            if row == 0:
                ax.set_title(f"{model} (n={int(shown.loc[shown['model'] == model, 'n'].max())})")
            if column == 0:
                ax.set_ylabel(label)
        handles |= dict(zip(*reversed(axes[row, 0].get_legend_handles_labels()), strict=True))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    return figure


def plot_attention(attention: pd.DataFrame) -> Figure:
    """Attention from the last boundary token to each span, of the top heads and of the rest.

    Rows: mass, and mass over what uniform attention would put on the span.

    Args:
        attention: model, group, query, span, quantity, value, low, high, n.
    """
    shown = attention[(attention["query"] == "last_boundary") & attention["group"].isin(["top", "rest"])]
    models = list(shown["model"].unique())
    rows = {"mass": "attention mass", "relative": "mass / uniform"}
    groups = {"top": ("top heads", VERMILION, -0.13), "rest": ("other heads", GREY, 0.13)}
    figure, axes = grid(len(rows), len(models))
    for row, (quantity, label) in enumerate(rows.items()):
        for column, model in enumerate(models):
            ax = axes[row, column]
            own = shown[(shown["model"] == model) & (shown["quantity"] == quantity)]
            for group, (name, color, offset) in groups.items():
                points = own[own["group"] == group].set_index("span").reindex(list(SPAN_LABELS))
                bars = np.clip([points["value"] - points["low"], points["high"] - points["value"]], 0, None)
                places = np.arange(len(points)) + offset
                ax.errorbar(places, points["value"], yerr=bars, fmt="o", color=color, label=name, elinewidth=0.9)
            if quantity == "relative":
                ax.axhline(1, color=GREY, lw=0.8, ls=":")
            ax.set_ylim(bottom=0)
            ax.set_xticks(range(len(SPAN_LABELS)), SPAN_LABELS.values(), fontsize=7, rotation=45)
            ax.grid(visible=False, axis="x")
            if row == 0:
                ax.set_title(f"{model} (n={int(own['n'].max())})")
            if column == 0:
                ax.set_ylabel(label)
    legend(figure, axes)
    return figure
