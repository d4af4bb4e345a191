"""Figures of what cliffs depend on: outcome, attack family, length of thinking. Error bars are 95 % intervals."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import seaborn.objects as so
from matplotlib.figure import Figure

from refusal_cliff.cliff_tables import COMPLIED, REFUSED
from refusal_cliff.detection import MIN_CLIFF
from refusal_cliff.outcomes import ALL, GROUPS
from refusal_cliff.plots import style

HEIGHTS = {"cliff": "plateau: largest score", "cliff_mean": "plateau: mean of the last half"}
CORRELATIONS = {
    "spearman": ("over all prompts", style.BLUE),
    "within_family": ("within attack families", style.VERMILION),
}
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*")
REFITS = {"95 % over refits of the probe": {"color": style.GREY, "linestyle": "-", "linewidth": 6, "alpha": 0.3}}
LINE = 0.18
"""Inches for one line of a forest."""


def plot_cliffs(cliffs: pd.DataFrame, refits: pd.DataFrame) -> Figure:
    """Mean cliff of each model and outcome; columns are probes, rows two plateaus. Dotted: the bound of a cliff.

    Args:
        cliffs: output of `refusal_cliff.cliff_tables.cliff_table`.
        refits: output of `refusal_cliff.cliff_tables.refit_table`: the pale band behind a cliff.
    """
    table = cliffs[cliffs["family"] == ALL]
    figure, axes, lines = _forest(table, "group", style.OUTCOMES, "cliff", looks=REFITS)
    style.reference(axes, 0.0, level=True)
    style.reference(axes, MIN_CLIFF, level=True)
    for band in refits.assign(row=refits["quantity"].map(HEIGHTS)).itertuples():
        place = lines.get((band.model, band.group))
        if place is not None and (ax := axes.get((band.row, f"{band.probe} probe"))):
            ax.plot(
                [band.low, band.high], [place] * 2, color=style.OUTCOMES[band.group], linewidth=6, alpha=0.2, zorder=1
            )
    return figure


def plot_cliff_length(correlations: pd.DataFrame) -> Figure:
    """Spearman's correlation of cliff and thinking tokens; panels and lines as in `plot_cliffs`.

    Args:
        correlations: output of `refusal_cliff.cliff_tables.length_table`.
    """
    parts = [
        correlations.assign(over=name, quantity=correlations["quantity"].str.removeprefix(f"{prefix}_"))
        for prefix, (name, _) in CORRELATIONS.items()
    ]
    colors = dict(CORRELATIONS.values())
    figure, axes, _ = _forest(pd.concat(parts), "over", colors, "correlation with thinking tokens")
    style.reference(axes, 0.0, level=True)
    return figure


def _forest(
    table: pd.DataFrame, by: str, colors: Mapping[str, str], x: str, **looks: Mapping[str, Any]
) -> tuple[Figure, style.Panels, dict[tuple[str, str], int]]:
    """Panels of plateaus by probes with a line for each model and outcome; and (model, outcome) -> its line."""
    shown = table[table["quantity"].isin(HEIGHTS) & table["group"].isin(GROUPS) & table["value"].notna()]
    models, probes = list(shown["model"].unique()), list(style.colors_of(shown["probe"], style.PROBES))
    for column, order in (("probe", probes), ("quantity", HEIGHTS), ("group", GROUPS), ("model", models)):
        shown = style.ordered(shown, column, order)
    n = shown.groupby(["model", "group"], observed=True)["n"].transform("max")
    shown = shown.assign(
        line=[f"{row.model}: {row.group} (n={row.n})" for row in shown.assign(n=n).itertuples()],
        row=shown["quantity"].map(HEIGHTS).astype(str),
        col=shown["probe"].astype(str) + " probe",
    ).astype({"group": str})
    keys = list(dict.fromkeys(zip(shown["model"], shown["group"], strict=True)))
    panel = (2.6, LINE * len(keys) + 0.3)
    layout = {"row": "row", "col": "col", "x": x, "panel": panel}
    figure, axes = style.estimates(shown, "line", by, colors, level=True, limits=(-1.05, 1.05), **looks, **layout)
    return figure, axes, {key: place for place, key in enumerate(keys)}


def plot_families(cliffs: pd.DataFrame, probe: str) -> Figure:
    """Mean plateau and final score of each attack family, by outcome; columns are models. Dotted: nothing falls.

    Args:
        cliffs: output of `refusal_cliff.cliff_tables.cliff_table`.
        probe: the one that is shown.
    """
    own = cliffs[(cliffs["probe"] == probe) & (cliffs["family"] != ALL) & cliffs["group"].isin([COMPLIED, REFUSED])]
    keys = ["model", "group", "family"]
    parts = (
        style.with_intervals(own[own["quantity"] == quantity])
        .set_index(keys)[["value", "low", "high"]]
        .add_prefix(axis)
        for axis, quantity in (("x_", "plateau_mean"), ("y_", "final"))
    )
    table = style.ordered(pd.concat(parts, axis=1, sort=False).reset_index(), "group", style.OUTCOMES)
    table = style.ordered(table, "model", own["model"]).reset_index(drop=True)
    colors = {group: style.OUTCOMES[group] for group in (COMPLIED, REFUSED)}
    markers = dict(zip(sorted(table["family"].unique()), MARKERS, strict=False))
    plot = so.Plot(table, x="x_value", y="y_value", color="group", marker="family")
    plot = plot.scale(color=style.named(colors), marker=style.named(markers)).limit(x=style.SHARE, y=style.SHARE)
    for orient, axis, ends in (("x", "y", ("ymin", "ymax")), ("y", "x", ("xmin", "xmax"))):
        bounds = dict(zip(ends, (f"{axis}_low", f"{axis}_high"), strict=True))
        plot = plot.add(so.Range(linewidth=0.8), orient=orient, legend=False, group="family", marker=None, **bounds)
    plot = plot.add(so.Dot(pointsize=5), legend=False)
    about = {"x": "mean plateau", "y": "final refusal score"}
    figure, axes = style.panels(plot, table, col="model", panel=(2.8, 2.6), **about)
    style.diagonal(axes)
    looks = {name.replace("_", " "): {"marker": marker, "color": style.GREY} for name, marker in markers.items()}
    style.legend(figure, colors, **looks)
    return figure
