"""Figure of what cliff detectors say of organisms whose truth is known."""

import pandas as pd
import seaborn.objects as so
from matplotlib.figure import Figure

from refusal_cliff.detection import DEFAULT, DETECTORS, MIN_CLIFF
from refusal_cliff.plots import style

TRUTH = {
    "yes": ("truth: cliff", style.VERMILION),
    "no": ("truth: no cliff", style.BLUE),
    "open": ("truth: not known", style.GREY),
}
TITLES = {
    "paper": "the paper's measure: largest score - final",
    "rule": "the rule: mean score - final, and its controls",
}
LOOKS = {
    "empty: says no": {"color": style.BLACK, "marker": "o", "markerfacecolor": "white"},
    "did not take": {"color": style.GREY, "marker": "x"},
}


def plot_detection(readings: pd.DataFrame, said: pd.DataFrame) -> Figure:
    """Height of the cliff of every organism by family; filled where the detector says that there is a cliff.

    Rows are probes, columns detectors; dotted is the bound that a cliff has to exceed.

    Args:
        readings: output of `detection.cliff_readings`.
        said: output of `detection.by_organism`.
    """
    measured = readings[readings["sweep"] == DEFAULT].rename(columns={"probe": "reader"})
    parts = []
    for name, height in DETECTORS.items():
        own = said[(said["detector"] == f"cliff, {name}") & (said["sweep"] == DEFAULT) & said["says"].notna()]
        own = own.merge(measured[["model", "reader", height]], on=["model", "reader"])
        parts.append(own.assign(col=TITLES[name], height=own[height]))
    table = pd.concat(parts, ignore_index=True)
    table = style.ordered(table, "reader", style.colors_of(table["reader"], style.PROBES)).sort_values(
        "col", kind="stable"
    )
    table = table.assign(
        truth=table["truth"].map({key: name for key, (name, _) in TRUTH.items()}),
        row="cliff, " + table["reader"].astype(str) + " probe",
        says=table["says"] == "yes",
        took=table["took"].astype(bool),
    ).reset_index(drop=True)
    plot = so.Plot(table, x="family", y="height", color="truth", fill="says", marker="took")
    looks = {"color": style.named(dict(TRUTH.values())), "fill": style.named({True: True, False: False})}
    plot = plot.scale(marker=style.named({True: "o", False: "x"}), **looks).limit(y=(-1.05, 1.05))
    # The same places every time; of one organism there is nothing to keep apart.
    plot = plot.add(so.Dot(pointsize=5), so.Jitter(width=0.5, seed=0), legend=False)
    figure, axes = style.panels(plot, table, "row", "col", panel=(3.6, 2.0))
    style.reference(axes, MIN_CLIFF)
    for ax in axes.values():
        ax.tick_params(axis="x", rotation=30)
    style.legend(figure, dict(TRUTH.values()), **LOOKS)
    return figure
