"""Figures of refusal scores along traces. Shaded bands are 95 % intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn.objects as so
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from refusal_cliff.cliff_tables import COMPLIED, last_layer
from refusal_cliff.outcomes import ALL, traces_by_group
from refusal_cliff.plots import style
from refusal_cliff.stats import bootstrap_means
from refusal_cliff.tables import by_model

TOKEN = 0.12
"""Width of a boundary token, where the thinking is 1 wide."""
PLATEAUS = {"plateau": (0.0, 1.0, ":"), "plateau_mean": (0.5, 1.0, "--")}
"""Where the scores lie that a plateau is the largest, or the mean, of, and how its line is drawn."""
ZOOM = 12
"""Last tokens that are shown one by one at every layer."""


def plot_curves(
    cliffs: pd.DataFrame, outcomes: pd.DataFrame, heights: pd.DataFrame, tail: int, seed: int, row: str | None = None
) -> Figure:
    """Refusal score along the thinking and through the boundary, token by token, at the last layer; columns are models.

    Args:
        cliffs: model and the columns of cliff tables, of base models on the test prompts.
        outcomes: outcomes of all models and variants.
        heights: output of `cliff_tables.cliff_table`: the plateaus.
        tail: thinking tokens in front of the boundary in `boundary_curve`.
        row: `probe` for a row of panels for each; without it `cliffs` are of one probe.
    """
    probes = list(style.colors_of(cliffs["probe"], style.PROBES))
    table = style.with_intervals(style.ordered(_curves(cliffs, outcomes, tail, seed), "probe", probes))
    heights = heights[(heights["family"] == ALL) & heights["group"].isin(style.OUTCOMES)]
    heights = heights.merge(table[["model", "probe"]].drop_duplicates(), on=["model", "probe"])
    plot = _bands(table, "place").limit(y=style.SHARE)
    for quantity, (start, stop, dashes) in PLATEAUS.items():
        own = heights[heights["quantity"] == quantity].assign(start=start, stop=stop)
        # A layer with data of its own says all of its variables, and those of the panels too.
        at = {"x": None, "y": "value", "ymin": None, "ymax": None, "xmin": "start", "xmax": "stop", "color": "group"}
        at |= {"col": "model"} | ({"row": row} if row else {})
        plot = plot.add(so.Range(linestyle=dashes, linewidth=0.9), data=own, orient="y", legend=False, **at)
    about = {"x": "share of thinking | boundary token", "y": "refusal score"}
    figure, axes = style.panels(plot, table, row, "model", panel=(3.1, 2.4), **about)
    tokens = round((table["place"].max() - 1) / TOKEN) if axes else 0
    for (probe, model), ax in axes.items():
        ax.axvspan(1 + TOKEN / 2, 1 + TOKEN * (tokens + 0.5), color="0.93", zorder=0, linewidth=0)
        ax.set_xticks([0, 0.5, 1, *(1 + TOKEN * np.arange(1, tokens + 1))], ["0", "0.5", "1", *range(1, tokens + 1)])
        ax.set_xlim(0, 1 + TOKEN * (tokens + 0.5))
        if probe in ("", probes[0]):
            _counts(ax, model, table[table["model"] == model])
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


@by_model
def _curves(cliffs: pd.DataFrame, outcomes: pd.DataFrame, tail: int, seed: int) -> pd.DataFrame:
    """Mean scores: model, probe, group, place (0 to 1 in the thinking, then boundary tokens), value, low, high, n."""
    rows = []
    for (probe, group), part in traces_by_group(last_layer(cliffs), outcomes).groupby(["probe", "group"]):
        thinking, near = (np.stack(part[column].to_list()) for column in ("curve", "boundary_curve"))
        scores, n = np.hstack([thinking, near[:, tail:]]), part["prompt_id"].nunique()
        places = np.append(np.linspace(0, 1, thinking.shape[1]), 1 + TOKEN * np.arange(1, near.shape[1] - tail + 1))
        found = bootstrap_means(scores, seed, part["request_id"])
        rows += [(probe, group, place, *mean[:3], n) for place, mean in zip(places, found, strict=True)]
    return pd.DataFrame(rows, columns=["probe", "group", "place", "value", "low", "high", "n"])


def plot_layers(cliffs: pd.DataFrame, outcomes: pd.DataFrame, seed: int) -> Figure:
    """Mean cliff by layer and outcome, and below it the mean score at the last tokens of complied prompts, by layer.

    Columns are models; of one that complied with no harmful prompt there is no map.

    Args:
        cliffs, outcomes, seed: as for `plot_curves`, of one probe.
    """
    table = style.with_intervals(_layers(cliffs, outcomes, seed))
    models = list(table["model"].unique())
    figure, axes = style.plt.subplots(
        2, len(models), figsize=style.canvas(len(models), 2, (3.0, 2.6)), sharey="row", squeeze=False
    )
    for (above, below), (model, part) in zip(axes.T, table.groupby("model", sort=False), strict=True):
        for group, color in style.OUTCOMES.items():
            own = part[part["group"] == group]
            above.plot(own["layer"], own["value"], "o-", color=color, markersize=2.5)
            above.fill_between(own["layer"], own["low"], own["high"], color=color, alpha=0.2, linewidth=0)
        above.set(ylim=(-1.05, 1.05), xlabel="layer")
        above.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _counts(above, model, part)
        tables = (frame[frame["model"] == model] for frame in (cliffs, outcomes))
        complied = traces_by_group(*tables).query(f"group == {COMPLIED!r}")
        if complied.empty:
            below.remove()
            continue
        scores = complied.groupby("layer")["boundary_curve"].apply(lambda curves: np.nanmean(np.stack(curves), axis=0))
        last = pd.DataFrame(scores.to_list(), index=scores.index).iloc[:, -ZOOM:]
        image = style.heat(below, last, (0, 1), "viridis")
        below.set_xticks(range(len(last.columns))[::-3], range(0, -len(last.columns), -1)[::3])
        below.set_xlabel("tokens to the last of the boundary")
    axes[0, 0].set_ylabel("cliff")
    if maps := [ax for ax in axes[1] if ax.images]:
        maps[0].set_ylabel("layer")
        figure.colorbar(image, ax=maps, label="refusal score, complied")
    style.legend(figure, style.OUTCOMES)
    return figure


@by_model
def _layers(cliffs: pd.DataFrame, outcomes: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Mean cliffs by layer: model, group, layer, value, low, high, n (prompts)."""
    rows = []
    for group, part in traces_by_group(cliffs, outcomes).groupby("group"):
        wide = part.pivot_table(index=["request_id", "prompt_id"], columns="layer", values="cliff")
        found = bootstrap_means(wide, seed, wide.index.get_level_values("request_id"))
        rows += [(group, layer, *mean) for layer, mean in zip(wide.columns, found, strict=True)]
    return pd.DataFrame(rows, columns=["group", "layer", "value", "low", "high", "n"])


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
        ax.set_xticks(range(len(order)), [name.split()[-1] for name in order])
        ax.set_xlabel("part of thinking | boundary token")
        ax.axvline(sum(name.startswith("thinking") for name in order) - 0.5, color="0.3", linewidth=1)
    axes[0, 0].set_ylabel("layer")
    if parts:
        figure.colorbar(image, ax=axes, label="change of the refusal score", shrink=0.8)
    return figure
