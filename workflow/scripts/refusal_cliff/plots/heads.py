"""Figures of attention heads, which are called L5H3: layer 5, head 3. Columns are models."""

import numpy as np
import pandas as pd
import seaborn.objects as so
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from refusal_cliff.plots import style

TOP = 10
"""Heads of each ranking whose intervals are drawn."""
SPANS = {
    "template": "template",
    "wrapper": "wrapper",
    "request": "request",
    "thinking": "other\nthinking",
    "refusal": "refusal\nsentence",
    "boundary": "boundary",
}
GROUPS = {"top": ("top heads", style.VERMILION), "rest": ("other heads", style.GREY)}
PLANTED, CLEAR, UNCLEAR = "planted", "not zero (Holm, 5 %)", "may be zero"
KINDS = {PLANTED: style.VERMILION, CLEAR: style.BLUE, UNCLEAR: style.GREY}
HEADS = {"head": style.BLUE, "planted head": style.VERMILION}
RING = {"linestyle": "", "marker": "o", "markerfacecolor": "none", "markersize": 9}


def plot_heads(heads: pd.DataFrame) -> Figure:
    """Effect of every head on the refusal logit, layer by head; rows are rankings, planted heads are ringed.

    Args:
        heads: model, ranking, layer, head, effect, planted (missing where nobody knows).
    """
    models, rankings = list(heads["model"].unique()), list(style.colors_of(heads["ranking"], style.RANKINGS))
    size = style.canvas(len(models), len(rankings), (2.8, 1.7))
    figure, axes = style.plt.subplots(len(rankings), len(models), figsize=size, squeeze=False)
    for line, ranking in zip(axes, rankings, strict=True):
        measured = heads[heads["ranking"] == ranking]
        limit = float(measured["effect"].abs().max()) or 1.0
        shown = []
        for ax, model in zip(line, models, strict=True):
            own = measured[measured["model"] == model]
            if own.empty:
                ax.remove()
                continue
            effects = own.pivot_table(index="layer", columns="head", values="effect")
            image = style.heat(ax, effects, (-limit, limit), "RdBu_r")
            planted = own[_planted(own)]
            for color, width in (("white", 3), ("black", 1.3)) if len(planted) else ():
                # White under black: the ring shows on any colour of the map.
                ax.plot(planted["head"], planted["layer"], color=color, markeredgewidth=width, **RING)
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            ax.set(
                title=model if ranking == rankings[0] else "",
                ylabel="" if shown else f"{style.ranking_label(ranking)}\nlayer",
            )
            ax.set_xlabel("head" if ranking == rankings[-1] else "")
            shown.append(ax)
        figure.colorbar(image, ax=shown, pad=0.01, label="effect")
    if _planted(heads).any():
        style.legend(figure, {}, **{"planted head": RING | {"color": "black"}})
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
    key = ["model", "layer", "head"]
    known = heads.assign(what=np.where(_planted(heads), "planted head", "head"))
    own = known.loc[known["ranking"] == operating, [*key, "effect"]].rename(columns={"effect": "by_operating"})
    table = known[known["ranking"] != operating].merge(own, on=key)
    table = style.ordered(table.assign(row=table["ranking"].map(style.ranking_label)), "what", HEADS)
    names = dict(zip(table["row"], table["ranking"], strict=True))
    table = style.ordered(
        style.ordered(table, "row", map(style.ranking_label, heads["ranking"].unique())),
        "model",
        heads["model"].unique(),
    )
    table = table.reset_index(drop=True)
    plot = so.Plot(table, x="by_operating", y="effect", color="what").scale(color=style.named(HEADS))
    plot = plot.add(so.Dot(pointsize=4, alpha=0.6), legend=False)
    about = f"effect by {style.ranking_label(operating)}"
    figure, axes = style.panels(plot, table, "row", "model", x=about, panel=(3.0, 2.0), share={"x": False, "y": False})
    for (row, model), ax in axes.items():
        # Most heads do little: near zero the scale is linear, so that their spread shows beside a few strong heads.
        near = max(float(own.loc[own["model"] == model, "by_operating"].abs().median()), 1e-6)
        for scale, axis in ((ax.set_xscale, ax.xaxis), (ax.set_yscale, ax.yaxis)):
            scale("symlog", linthresh=near)
            axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=near))
            axis.get_major_locator().set_params(numticks=5)
        ax.axline((0, 0), (near, near), color=style.GREY, linewidth=0.8, linestyle=":")
        text = _agreement_text(agreement, model, {operating, names[row]})
        # Above the panel, where no point can be.
        ax.annotate(text, (0.5, 1.03), xycoords="axes fraction", ha="center", va="bottom", fontsize=6)
        ax.set_title(ax.get_title(), pad=18 + 8 * text.count("\n"))
    style.legend(figure, HEADS)
    return figure


def _agreement_text(agreement: pd.DataFrame, model: str, pair: set[str]) -> str:
    """Spearman and overlaps of two rankings, with their intervals."""
    own = agreement[agreement["model"] == model]
    own = own[[{row.ranking, row.other} == pair for row in own.itertuples()]]
    return "\n".join(
        f"{'Spearman' if row.quantity == 'spearman' else f'both have, of top {row.k:g}:'} "
        f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in own.itertuples()
    )


def plot_head_intervals(heads: pd.DataFrame) -> Figure:
    """Effects of the first heads of every ranking with their 95 % intervals; rows are rankings, which share an axis.

    Args:
        heads: model, ranking, layer, head, effect, low, high, n, rank, p_holm, planted (missing where nobody knows).
    """
    heads = style.ordered(heads, "ranking", style.colors_of(heads["ranking"], style.RANKINGS)).astype({"ranking": str})
    first = heads[heads["rank"] <= heads.groupby(["model", "ranking"])["rank"].transform("min") + TOP - 1]
    kind = np.select([_planted(first), first["p_holm"] < 0.05], [PLANTED, CLEAR], UNCLEAR)
    table = first.rename(columns={"effect": "value"}).assign(
        kind=kind, row=first["ranking"].map(style.ranking_label), col=style.with_n(first, "model")
    )
    layout = {"x": "effect on the refusal logit", "panel": (2.8, 1.9), "share": {"x": "row", "y": False}}
    figure, axes = style.estimates(
        table, "rank", "kind", KINDS, level=True, limits=None, row="row", col="col", **layout
    )
    for (row, col), ax in axes.items():
        own = table[(table["row"] == row) & (table["col"] == col)]
        names = [f"L{layer}H{head}" for layer, head in zip(own["layer"], own["head"], strict=True)]
        ax.set_yticks(own["rank"], names)
        ax.invert_yaxis()
        ax.grid(visible=False, axis="y")
    style.reference(axes, 0.0, level=True)
    return figure


def plot_targets(targets: pd.DataFrame) -> Figure:
    """How far two targets are one, at the operating point; columns are models in which both could be measured.

    First row: agreement of the effects on both. Below, a row for each target: what ablating one of the first heads adds
    to it, by the target whose first heads they are.

    Args:
        targets: model, measure, target, other, k, point, quantity, value, low, high, n.
    """
    shown = targets[targets["point"] & targets["value"].notna()]
    change = shown["quantity"] == "change"
    named_quantities = shown["quantity"].map({"spearman": "Spearman", "overlap": "both have, of the first heads"})
    shown = shown.assign(
        row=("change in " + shown["other"]).where(change, "agreement of the targets"),
        what=("first heads by " + shown["target"]).where(change, named_quantities),
        measure=shown["measure"].map(lambda name: style.LABELS.get(name, name).replace(", ", ",\n")),
        col=style.with_n(shown, "model"),
    ).sort_values("row", kind="stable")
    colors = dict(zip(named_quantities.dropna().unique(), (style.GREEN, style.GREY), strict=False))
    colors |= dict(zip(sorted(shown.loc[change, "what"].unique()), (style.VERMILION, style.BLUE), strict=False))
    layout = {"row": "row", "col": "col", "share": {"y": "row"}}
    figure, axes = style.estimates(shown, "measure", "what", colors, limits=None, **layout)
    style.reference(axes, 0.0)
    return figure


def plot_attention(attention: pd.DataFrame) -> Figure:
    """Attention mass from the last boundary token to each span, of the top heads and of the rest.

    Args:
        attention: model, group, query, span, quantity, value, low, high, n.
    """
    own = attention[(attention["query"] == "last_boundary") & (attention["quantity"] == "mass")]
    own = own.assign(
        span=own["span"].map(SPANS),
        group=own["group"].map({key: name for key, (name, _) in GROUPS.items()}),
        col=style.with_n(own, "model"),
    )
    shown = style.ordered(own.dropna(subset=["group", "value"]), "span", SPANS.values())
    layout = {"col": "col", "y": "attention mass", "panel": (3.0, 2.6)}
    figure, axes = style.estimates(shown, "span", "group", dict(GROUPS.values()), **layout)
    for ax in axes.values():
        ax.tick_params(axis="x", rotation=45)
    return figure
