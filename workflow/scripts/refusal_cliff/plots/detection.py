"""Figure of what cliff detectors say of organisms whose truth is known."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from refusal_cliff.detection import DEFAULT, DETECTORS, MIN_CLIFF
from refusal_cliff.plots.style import BLUE, GREY, VERMILION, grid, legend

TRUTH = {"yes": ("cliff", VERMILION), "no": ("no cliff", BLUE), "open": ("not known", GREY)}
TITLES = {
    "paper": "the paper's measure: largest score - final",
    "rule": "the rule: mean score - final, and its controls",
}


def plot_detection(readings: pd.DataFrame, said: pd.DataFrame) -> Figure:
    """Height of the cliff of every organism by family; filled where the detector says that there is a cliff.

    Args:
        readings: output of `detection.cliff_readings`.
        said: output of `detection.by_organism`.
    """
    cliffs = said[said["detector"].isin([f"cliff, {name}" for name in DETECTORS]) & (said["sweep"] == DEFAULT)]
    measured = readings[readings["sweep"] == DEFAULT]
    probes = list(cliffs["reader"].unique())
    families = list(cliffs["family"].unique())
    figure, axes = grid(len(probes) or 1, len(DETECTORS))
    for row, probe in enumerate(probes):
        for column, (name, height) in enumerate(DETECTORS.items()):
            ax = axes[row, column]
            own = cliffs[
                (cliffs["detector"] == f"cliff, {name}") & (cliffs["reader"] == probe) & cliffs["says"].notna()
            ]
            own = own.merge(measured[measured["probe"] == probe], on="model")
            for place, family in enumerate(families):
                part = own[own["family"] == family]
                spread = np.linspace(-0.25, 0.25, len(part)) if len(part) > 1 else np.zeros(len(part))
                for x, point in zip(place + spread, part.itertuples(), strict=True):
                    color = TRUTH[point.truth][1]
                    face = color if point.says == "yes" else "white"
                    marker = "o" if point.took else "x"
                    ax.plot(x, getattr(point, height), marker, color=color, markerfacecolor=face, markersize=5)
            ax.axhline(MIN_CLIFF, color=GREY, linewidth=0.8, linestyle="--")
            ax.set_xticks(range(len(families)), families, rotation=30, ha="right")
            ax.set(ylim=(-1.05, 1.05), xlim=(-0.5, len(families) - 0.5))
            if row == 0:
                ax.set_title(TITLES[name], fontsize=9)
            if column == 0:
                ax.set_ylabel(f"cliff, {probe} probe")
    for text, color in TRUTH.values():
        axes[0, 0].plot([], [], "o", color=color, label=f"truth: {text}")
    axes[0, 0].plot([], [], "o", color="black", markerfacecolor="white", label="empty: says no")
    axes[0, 0].plot([], [], "x", color=GREY, label="did not take")
    legend(figure, axes)
    return figure
