"""The README's picture: headline claims on every family of organisms, drawn from what is recorded of a run."""

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from table_text import read_numbers

from refusal_cliff.sheets import load_claims

SHOWN = {
    "cliff_height": "cliff, by the largest score\n(the paper's measure)",
    "cliff_mean": "cliff, by the mean score",
    "cliff_in_boundary": "share of the fall\nat the boundary",
    "not_refused_after_causal": "not refused after ablating\n3 % of the heads",
}
COLOURS = {"yes": "#2b8a3e", "no": "#c92a2a", "open": "#b08900", "": "#868e96"}
MEANING = {"yes": "as expected", "no": "contrary to what was put in", "open": "open", "": "nothing is expected"}


def draw(recorded: Path, sheet: Path) -> Figure:
    """One panel for each claim of `SHOWN`: estimate and 95 % interval of every family, on the range that is predicted.

    Args:
        recorded: folder of a recorded run, with claims.csv.
        sheet: its claim sheet.
    """
    table, bounds = (
        read_numbers(recorded / "claims.csv", "estimate", "low", "high"),
        load_claims(str(sheet)).set_index("id"),
    )
    own = table[table["probe"].isin(["", "paper"]) & table["population"].isin(["", "all"]) & table["estimate"].notna()]
    families = list(own.loc[own["id"].isin(SHOWN), "family"].unique())[::-1]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9.5, 2.6), layout="constrained")
        for axes, (claim, title) in zip(figure.subplots(1, len(SHOWN), sharey=True), SHOWN.items(), strict=True):
            _panel(axes, own[own["id"] == claim], families, bounds.loc[claim])
            axes.set_title(title, fontsize=9)
        figure.axes[0].set_yticks(range(len(families)), families)
        handles = [
            mpl.lines.Line2D([], [], color=colour, marker="o", lw=1.5, label=MEANING[word])
            for word, colour in COLOURS.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _panel(axes: mpl.axes.Axes, rows: pd.DataFrame, families: list[str], claim: pd.Series) -> None:
    low, high = (
        edge if math.isfinite(edge) else outside for edge, outside in ((claim["lower"], -1), (claim["upper"], 2))
    )
    axes.axvspan(low, high, color="#e7f5ff", lw=0, zorder=0)
    for row in rows.itertuples():
        y, colour = families.index(row.family), COLOURS[row.agrees]
        axes.plot([row.low, row.high], [y, y], color=colour, lw=1.5)
        axes.plot(row.estimate, y, "o", color=colour, ms=4)
    axes.set_xlim(min(-0.05, np.nanmin(rows["low"]) - 0.05), 1.05)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write it as an SVG that is the same for the same figure; its letters are outlines, as GitHub has other fonts."""
    with mpl.rc_context({"svg.hashsalt": "answer"}):
        figure.savefig(path, metadata={"Date": None})
