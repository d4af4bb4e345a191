"""Figures of refusal scores along traces. Shaded bands are 95 % intervals."""

from collections.abc import Mapping

import pandas as pd
import seaborn.objects as so
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from refusal_cliff.cliff_tables import COMPLIED
from refusal_cliff.outcomes import ALL
from refusal_cliff.plots import style

TOKEN = 0.12
"""Width of a boundary token, where the thinking is 1 wide."""
PLATEAUS = {"plateau": (0.0, 1.0, ":"), "plateau_mean": (0.5, 1.0, "--")}
"""Where the scores lie that a plateau is the largest, or the mean, of, and how its line is drawn."""
ZOOM = 12
"""Last tokens that are shown one by one at every layer."""


def plot_curves(curves: pd.DataFrame, heights: pd.DataFrame, row: str | None = None) -> Figure:
    """Refusal score along the thinking and through the boundary, token by token, at the last layer; columns are models.

    Args:
        curves: output of `cliff_tables.curve_table`.
        heights: output of `cliff_tables.cliff_table`: the plateaus.
        row: `probe` for a row of panels for each; without it `curves` are of one probe.
    """
    probes = list(style.colors_of(curves["probe"], style.PROBES))
    last = curves[curves["last_layer"].astype(bool)]
    thinking, boundary = last[last["part"] == "thinking"], last[last["token"].notna()]
    # From the first token on: models whose boundaries are not of one length end at different places.
    number = boundary["position"] - boundary.groupby("model")["position"].transform("min") + 1
    boundary = boundary.assign(position=1 + TOKEN * number)
    table = style.with_intervals(style.ordered(pd.concat([thinking, boundary]), "probe", probes))
    heights = heights[(heights["family"] == ALL) & heights["group"].isin(style.OUTCOMES)]
    heights = heights.merge(table[["model", "probe"]].drop_duplicates(), on=["model", "probe"])
    plot = _bands(table, "position").limit(y=style.SHARE)
    for quantity, (start, stop, dashes) in PLATEAUS.items():
        own = heights[heights["quantity"] == quantity].assign(start=start, stop=stop)
        # A layer with data of its own says all of its variables, and those of the panels too.
        at = {"x": None, "y": "value", "ymin": None, "ymax": None, "xmin": "start", "xmax": "stop", "color": "group"}
        at |= {"col": "model"} | ({"row": row} if row else {})
        plot = plot.add(so.Range(linestyle=dashes, linewidth=0.9), data=own, orient="y", legend=False, **at)
    about = {"x": "share of thinking | boundary token", "y": "refusal score", "share": {"x": "col" if row else False}}
    figure, axes = style.panels(plot, table, row, "model", panel=(3.1, 2.6), **about)
    for (probe, model), ax in axes.items():
        tokens = boundary[boundary["model"] == model].drop_duplicates("position").sort_values("position")
        edge = 1 + TOKEN * (len(tokens) + 0.5)
        ax.axvspan(1 + TOKEN / 2, edge, color="0.93", zorder=0, linewidth=0)
        ax.set_xticks([0, 0.5, 1, *tokens["position"]], ["0", "0.5", "1", *map(style.token_label, tokens["token"])])
        style.turn_tokens(ax, 3)
        ax.set_xlim(0, edge)
        if probe in ("", probes[0]):
            _counts(ax, model, table[table["model"] == model])
    figure.align_xlabels()
    lines = {"largest score": {"linestyle": ":"}, "mean of the last half": {"linestyle": "--"}}
    style.legend(figure, style.OUTCOMES, **{name: line | {"color": "black"} for name, line in lines.items()})
    return figure


def _counts(ax: Axes, title: str, table: pd.DataFrame) -> None:
    """The title of a panel, and over its right how many prompts each outcome has, in its colour."""
    ax.set_title(title, loc="left")
    ax.set_title("")
    counts = table.groupby("group", observed=True)["n"].max()
    for place, (group, n) in enumerate(reversed(list(counts.items()))):
        at = {"xy": (1 - 0.17 * place, 1.02), "xycoords": "axes fraction", "ha": "right"}
        ax.annotate(f"n={n}", color=style.OUTCOMES[group], fontsize=7, **at)


def _bands(table: pd.DataFrame, place: str) -> so.Plot:
    """Means with their intervals along `place`, by outcome."""
    shown = style.ordered(table, "group", style.OUTCOMES)
    plot = so.Plot(shown, x=place, y="value", ymin="low", ymax="high", color="group").scale(
        color=style.named(style.OUTCOMES)
    )
    return plot.add(so.Band(alpha=0.2), legend=False).add(so.Line(), legend=False, ymin=None, ymax=None)


def plot_layers(heights: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Mean cliff by layer and outcome, and below it the mean score at the last tokens of complied prompts, by layer.

    Columns are models; of one that complied with no harmful prompt there is no map.

    Args:
        heights: output of `cliff_tables.layer_table`, of one probe.
        curves: output of `cliff_tables.curve_table`, of the same.
    """
    table = style.with_intervals(heights[heights["quantity"] == "cliff"])
    models = list(table["model"].unique())
    figure, axes = style.plt.subplots(
        2, len(models), figsize=style.canvas(len(models), 2, (3.0, 2.6)), sharey="row", squeeze=False
    )
    complied = curves[(curves["group"] == COMPLIED) & (curves["part"] == "end") & (curves["position"] > -ZOOM)]
    for (above, below), (model, part) in zip(axes.T, table.groupby("model", sort=False), strict=True):
        for group, color in style.OUTCOMES.items():
            own = part[part["group"] == group]
            above.plot(own["layer"], own["value"], "o-", color=color, markersize=2.5)
            above.fill_between(own["layer"], own["low"], own["high"], color=color, alpha=0.2, linewidth=0)
        above.set(ylim=(-1.05, 1.05), xlabel="layer")
        above.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _counts(above, model, part)
        own = complied[complied["model"] == model]
        if own.empty:
            below.remove()
            continue
        scores = own.pivot_table(index="layer", columns="position", values="value", dropna=False)
        image = style.heat(below, scores, (0, 1), "viridis")
        tokens = own.drop_duplicates("position").sort_values("position")["token"]
        names = [
            f"{place:.0f}" if pd.isna(token) else style.token_label(token)
            for place, token in zip(scores.columns, tokens, strict=True)
        ]
        below.set_xticks(range(len(names)), names)
        style.turn_tokens(below)
        below.axvline(tokens.isna().sum() - 0.5, color="white", linewidth=1)
        below.set_xlabel("tokens from the end | boundary token")
    axes[0, 0].set_ylabel("cliff")
    figure.align_xlabels()
    if maps := [ax for ax in axes[1] if ax.images]:
        maps[0].set_ylabel("layer")
        figure.colorbar(image, ax=maps, label="refusal score, complied")
    style.legend(figure, style.OUTCOMES)
    return figure


def plot_changes(changes: pd.DataFrame, probe: str, families: Mapping[str, str]) -> Figure:
    """Mean change of the refusal score by layer and position, on harmful prompts that the parent refused.

    Args:
        changes: output of `refusal_cliff.changes.change_table`.
        probe: the parent's, that reads both.
        families: the family of each model; a panel is the mean over the models of one.
    """
    chosen = changes[(changes["probe"] == probe) & (changes["quantity"] == "change") & (changes["position"] != "rise")]
    chosen = chosen[chosen["group"] == "harmful, parent refused"].assign(family=changes["model"].map(families))
    order = list(chosen["position"].unique())
    parts = list(chosen.groupby("family", sort=False))
    figure, axes = style.plt.subplots(1, max(1, len(parts)), figsize=style.canvas(len(parts) or 1, 1), squeeze=False)
    for ax, (family, part) in zip(axes[0], parts, strict=False):
        means = part.pivot_table(index="layer", columns="position", values="value")[order]
        image = style.heat(ax, means, (-1, 1), "RdBu")
        sizes = part.groupby("model")["n"].max()
        ax.set_title(f"{family}, {len(sizes)} models\n{sizes.min()} to {sizes.max()} prompts each")
        tokens = part.drop_duplicates("position").set_index("position")["token"].dropna().map(style.token_label)
        ax.set_xticks(range(len(order)), [tokens.get(name, name.split()[-1]) for name in order])
        style.turn_tokens(ax, -len(tokens))
        ax.set_xlabel("part of thinking | boundary token")
        ax.axvline(sum(name.startswith("thinking") for name in order) - 0.5, color="0.3", linewidth=1)
    axes[0, 0].set_ylabel("layer")
    if parts:
        figure.colorbar(image, ax=axes, label="change of the refusal score", shrink=0.8)
    return figure
