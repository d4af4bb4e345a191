"""Figures of what probes are worth: columns are models."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from refusal_cliff.plots.style import BLUE, GREEN, GREY, PURPLE, SKY, VERMILION, errorbars, grid

COLORS = (BLUE, VERMILION, GREEN, PURPLE, SKY, GREY)
ACCURACIES = (
    ("held out", "held_out", "accuracy", BLUE),
    ("test prompts", "test", "accuracy", GREEN),
    ("shuffled labels, held out", "held_out", "control_accuracy", GREY),
)
FEWEST = 5
"""Prompts that a bin of the calibration curve must have to be drawn."""
METHODS = {"logistic": ("logistic regression", BLUE), "mean_difference": ("difference of means", VERMILION)}


def plot_probes(probes: pd.DataFrame) -> Figure:
    """AUROC by position, accuracy in and out of distribution, and cosine with the logit direction.

    Args:
        probes: output of `refusal_cliff.probe_evaluation.probe_table`.
    """
    names, models = list(probes["probe"].unique()), list(probes["model"].unique())
    last = probes[probes["last_layer"] & (probes["truth"] == "label")]
    places = _order(last)
    figure, axes = grid(3, len(models))
    figure.set_size_inches(figure.get_figwidth() + 1.2, figure.get_figheight())
    for column, model in enumerate(models):
        own = last[last["model"] == model]
        n = own.loc[own["data"] == "test", "n"].max()
        axes[0, column].set_title(f"{model} (n={n:.0f} test prompts)")
        _positions(axes[0, column], own, names, places)
        logistic = own[own["method"] == "logistic"]
        series = [
            (label, logistic[(logistic["data"] == data) & (logistic["quantity"] == quantity)], color)
            for label, data, quantity, color in ACCURACIES
        ]
        trained = own[own["quantity"] == "C"].set_index("probe")["position"]
        _by_probe(axes[1, column], [(*part, trained) for part in series], names, 0.5)
        cosines = own[own["quantity"] == "cosine_logit"]
        series = [(label, cosines[cosines["method"] == method], color) for method, (label, color) in METHODS.items()]
        _by_probe(axes[2, column], [(*part, trained) for part in series], names, 0.0)
        axes[0, column].set_ylim(-0.02, 1.02)
        axes[1, column].set_ylim(-0.02, 1.04)
        axes[2, column].set_ylim(-1.02, 1.02)
    for ax, label in zip(axes[:, 0], ("AUROC", "accuracy", "cosine with\nlogit direction"), strict=True):
        ax.set_ylabel(label)
    for ax in axes[:, -1]:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _order(table: pd.DataFrame) -> list[str]:
    """Places in the order of a trace: last_prompt, thinking 1/5 …, boundary -3 …, last_boundary."""
    found = table["position"].unique()
    thinking = sorted(place for place in found if place.startswith("thinking "))
    boundary = sorted(
        (place for place in found if place.startswith("boundary ")), key=lambda place: int(place.split()[1])
    )
    return ["last_prompt", *thinking, *boundary, "last_boundary"]


def _positions(ax: Axes, own: pd.DataFrame, names: Sequence[str], places: Sequence[str]) -> None:
    at = {place: x for x, place in enumerate(places)}
    auroc = own[(own["data"] == "test") & (own["quantity"] == "auroc") & (own["method"] == "logistic")]
    auroc = auroc.assign(x=auroc["position"].map(at)).dropna(subset="x")
    shift = np.linspace(-0.15, 0.15, len(names))
    for number, name in enumerate(names):
        part = auroc[auroc["probe"] == name].sort_values("x")
        errorbars(ax, part.assign(x=part["x"] + shift[number]), "x", f"{name} probe", COLORS[number % len(COLORS)])
    ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    first = sum(not place.endswith("boundary") and not place.startswith("boundary") for place in places)
    ax.axvspan(first - 0.5, len(places) - 0.5, color="0.93", zorder=0, linewidth=0)
    short = {"last_prompt": "prompt", "last_boundary": "last"}
    ax.set_xticks(
        range(len(places)), [short.get(place, place.split()[-1]) for place in places], fontsize=7, rotation=45
    )
    ax.set_xlabel("prompt | fifths of thinking | boundary", fontsize=8)


def _by_probe(ax: Axes, series: Sequence[tuple], names: Sequence[str], reference: float) -> None:
    """Points with intervals at each probe, one colour for each series (label, table, colour, own position by probe).

    Ticks give the n of the first series.
    """
    shift = np.linspace(-0.2, 0.2, len(series))
    for offset, (label, table, color, trained) in zip(shift, series, strict=True):
        own = table[table["position"] == table["probe"].map(trained)]
        errorbars(ax, own.assign(x=own["probe"].map(names.index) + offset), "x", label, color, joined=False)
    ax.axhline(reference, color=GREY, linewidth=0.8, linestyle=":")
    counts = series[0][1].drop_duplicates("probe").set_index("probe")["n"]
    labels = [f"{name}\nn={counts[name]:.0f}" if name in counts.index else name for name in names]
    ax.set_xticks(range(len(names)), labels, fontsize=7)
    ax.set_xlim(-0.5, len(names) - 0.5)


def plot_calibration(calibration: pd.DataFrame) -> Figure:
    """Observed share of positive positions where the probe predicts it, on held-out prompts and on test prompts.

    Args:
        calibration: calibration table of `tabulate_probes`.
    """
    names, models = list(calibration["probe"].unique()), list(calibration["model"].unique())
    shown = calibration[calibration["n"] >= FEWEST]
    figure, axes = grid(2, len(models))
    figure.set_size_inches(figure.get_figwidth() + 1.0, figure.get_figheight())
    for row, (data, label) in enumerate((("held_out", "held out"), ("test", "test prompts"))):
        for column, model in enumerate(models):
            ax, part = axes[row, column], shown[(shown["model"] == model) & (shown["data"] == data)]
            ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
            for number, name in enumerate(names):
                points = part[part["probe"] == name].rename(columns={"observed": "value"})
                errorbars(ax, points, "predicted", f"{name} probe", COLORS[number % len(COLORS)])
            ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
            if row == 0:
                ax.set_title(model)
            else:
                ax.set_xlabel("predicted probability")
            if column == 0:
                ax.set_ylabel(f"{label}\nobserved share")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
