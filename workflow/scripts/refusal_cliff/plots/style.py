"""The one look of all figures: colours, panel size, error bars, and how a figure is saved."""

import logging
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from refusal_cliff.artifacts import whole_file
from refusal_cliff.rankings import CONTROLS

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Embedding fonts in a PDF reports every table of every font.
logging.getLogger("fontTools").setLevel(logging.WARNING)
# Matplotlib ships seaborn's themes; importing seaborn itself would cost every figure job seconds.
plt.style.use(["seaborn-v0_8-whitegrid", "seaborn-v0_8-colorblind"])
plt.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "legend.fontsize": 8,
        "axes.edgecolor": "0.4",
        "grid.color": "0.92",
        "lines.linewidth": 1.5,
        "lines.markersize": 4,
        "errorbar.capsize": 2,
        "figure.constrained_layout.use": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "refusal-cliff",
        "pdf.fonttype": 42,
    }
)
BLUE, GREEN, VERMILION, PURPLE, _, SKY = plt.rcParams["axes.prop_cycle"].by_key()["color"]
GREY, ORANGE = "0.45", "#E69F00"
PANEL = (3.1, 2.2)
"""Width and height of one panel in inches."""

MEASURED = (VERMILION, BLUE, GREEN, ORANGE, "#8c564b", "#17375e", "#808000", "#e377c2")
CONTROL_COLORS = dict(zip(CONTROLS, (PURPLE, GREY, SKY), strict=True))
LABELS = {
    "direct": "direct",
    "causal": "causal, everywhere",
    "causal_boundary": "causal, at the boundary",
    "gradient": "gradient",
}
"""What people call a measure."""


def ranking_colors(rankings: Iterable[str]) -> dict[str, str]:
    """Colour of each ranking: measured ones first, in order of appearance, then the controls that are made from one."""
    found = list(dict.fromkeys(rankings))
    measured = dict(zip((name for name in found if name not in CONTROLS), cycle(MEASURED), strict=False))
    return measured | {name: color for name, color in CONTROL_COLORS.items() if name in found}


def ranking_label(ranking: str) -> str:
    """What people call a ranking: its measure, after its target if that is not the probe."""
    measure = next((name for name in LABELS if ranking.endswith(name)), "")
    target = ranking.removesuffix(measure).rstrip("_")
    return ": ".join(filter(None, [target, LABELS.get(measure)]))


def save(figure: Figure, svg_path: str | Path, pdf_path: str | Path) -> None:
    """Write `figure` as SVG (text stays text) and PDF, without dates, so that equal figures are equal files."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is found: solving it again for each file takes seconds
    for path in (svg_path, pdf_path):
        metadata = {"Date": None} if Path(path).suffix == ".svg" else {"CreationDate": None, "ModDate": None}
        with whole_file(path) as draft:
            figure.savefig(draft, metadata=metadata, format=Path(path).suffix[1:])
    plt.close(figure)


def grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure with `rows` by `columns` panels."""
    width, height = PANEL
    return plt.subplots(rows, columns, figsize=(width * columns + 0.6, height * rows + 0.6), squeeze=False)


def layer_ticks(layers: Sequence[int]) -> tuple[list[int], list[str]]:
    """Places and labels of at most about six ticks for `layers`."""
    step = max(1, len(layers) // 6)
    places = list(range(0, len(layers), step))
    return places, [str(layers[place]) for place in places]


def errorbars(ax: Axes, points: pd.DataFrame, x: str, label: str | None, color: str, *, joined: bool = True) -> None:
    """Points of a table with columns `x`, value, low and high."""
    bars = np.clip([points["value"] - points["low"], points["high"] - points["value"]], 0, None)
    style = "o-" if joined else "o"
    ax.errorbar(points[x], points["value"], yerr=bars, fmt=style, color=color, label=label, elinewidth=0.9)


def legend(figure: Figure, axes: np.ndarray) -> None:
    """One legend for all panels, under them."""
    found = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    if found:
        figure.legend(
            found.values(), found.keys(), loc="outside lower center", ncols=min(len(found), 3 * axes.shape[1])
        )
