"""Figures of monitors: which of them foresee a harmful response?"""

import pandas as pd
import seaborn.objects as so
from matplotlib.figure import Figure

from refusal_cliff.monitors import POPULATIONS
from refusal_cliff.plots import style

MONITORS = {
    "thinking, guard": style.SKY,
    "thinking, phrases": style.GREY,
    "plateau": style.GREEN,
    "plateau mean": style.PURPLE,
    "final": style.BLUE,
    "cliff": style.VERMILION,
}
COLORS = dict(zip(POPULATIONS, (style.BLUE, style.VERMILION), strict=True))


def plot_monitors(monitors: pd.DataFrame, probe: str) -> Figure:
    """AUROC of the monitors of one probe and of those that read the thinking; columns are models, colours populations.

    Args:
        monitors: output of `refusal_cliff.monitors.monitor_table`.
        probe: the one whose scores are shown.
    """
    own = monitors[monitors["quantity"] == "auroc"].dropna(subset="low")
    shown = style.ordered(_of_probe(own, probe), "monitor", MONITORS)
    positives = monitors[monitors["quantity"].str.startswith("tpr")].groupby("model")["n"].max()
    shown = shown.assign(col=[f"{model}\n{positives[model]:.0f} harmful responses" for model in shown["model"]])
    shown = style.ordered(shown, "population", POPULATIONS)
    shown = style.ordered(shown.assign(over=style.with_n(shown, "population")), "monitor", MONITORS)
    colors = dict(zip(shown["over"], shown["population"].astype(str).map(COLORS), strict=True))
    layout = {"col": "col", "x": "AUROC", "panel": (2.8, 2.2)}
    figure, axes = style.estimates(shown, "monitor", "over", colors, level=True, limits=(0, 1.02), **layout)
    style.reference(axes, 0.5, level=True)
    return figure


def plot_monitor_roc(curves: pd.DataFrame, probe: str) -> Figure:
    """ROC curves of the same monitors; rows are populations, columns models.

    Args:
        curves: output of `refusal_cliff.monitors.monitor_curves`.
        probe: as for `plot_monitors`.
    """
    table = style.ordered(style.ordered(_of_probe(curves, probe), "monitor", MONITORS), "population", POPULATIONS)
    table = table.reset_index(drop=True).astype({"fpr": float, "tpr": float})
    colors = style.colors_of(table["monitor"], MONITORS)
    plot = (
        so.Plot(table, x="fpr", y="tpr", color="monitor")
        .scale(color=style.named(colors))
        .limit(x=style.SHARE, y=style.SHARE)
    )
    plot = plot.add(so.Path(linewidth=1.2), legend=False)
    figure, axes = style.panels(plot, table, "population", "model", x="false positive rate", panel=(2.6, 2.4))
    style.diagonal(axes)
    style.legend(figure, colors)
    return figure


def _of_probe(table: pd.DataFrame, probe: str) -> pd.DataFrame:
    """Rows of the monitors of one probe, without its name, and of those of the thinking."""
    return table.assign(monitor=table["monitor"].str.removesuffix(f", {probe}"))
