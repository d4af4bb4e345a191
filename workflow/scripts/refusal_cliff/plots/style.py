"""The one look of all figures: colours, sizes, points with their intervals in panels, and how a figure is saved."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from refusal_cliff.artifacts import whole_file
from refusal_cliff.outcomes import GROUPS
from refusal_cliff.rankings import CONTROLS

mpl.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns
import seaborn.objects as so
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

# Embedding fonts in a PDF reports every table of every font.
logging.getLogger("fontTools").setLevel(logging.WARNING)
sns.set_theme(
    style="whitegrid",
    palette="colorblind",
    rc={
        "font.family": "DejaVu Sans",
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 8,
        "axes.edgecolor": "0.4",
        "axes.linewidth": 0.6,
        "legend.frameon": False,
        "grid.color": "0.92",
        "lines.linewidth": 1.5,
        "lines.markersize": 4,
        "figure.constrained_layout.use": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "refusal-cliff",
        "pdf.fonttype": 42,
    },
)
so.Plot.config.theme.update(mpl.rcParams)

BLUE, ORANGE, GREEN, VERMILION, PURPLE, BROWN, PINK, _, _, SKY = sns.color_palette().as_hex()
BLACK, GREY = "#000000", "#737373"
SPARE = ("#17375e", "#808000", "#8c1d40", "#00695c", "#5d4037")
"""Of what has no colour of its own."""

OUTCOMES = dict(zip(GROUPS, (VERMILION, BLUE, GREEN), strict=True))
PROBES = {"paper": BLUE, "behaviour": VERMILION, "thinking": GREEN, "recognition": PURPLE}
RANKINGS = {"causal": VERMILION, "causal_boundary": ORANGE, "direct": BLUE, "gradient": GREEN}
RANKINGS |= {"openers_causal": BROWN, "openers_direct": PINK} | dict(zip(CONTROLS, (PURPLE, GREY, SKY), strict=True))
SELECTORS = {"cliff": VERMILION, "cliff_mean": ORANGE, "spread": PINK, "gradient": GREEN, "loss": BROWN, "guard": BLUE}
SELECTORS |= {"rule": PURPLE, "random": GREY}
LABELS = {
    "direct": "direct",
    "causal": "causal, everywhere",
    "causal_boundary": "causal, at the boundary",
    "gradient": "gradient",
}
"""What people call a measure."""

PANEL = (3.0, 2.0)
"""Width and height of one panel in inches."""
SCREEN = (12.4, 7.4)
"""What no figure exceeds, in inches: at 100 dots per inch a window of 1280 by 800."""
ROW = 4
"""Panels of a row, where models are one behind the other."""
SHARE = (-0.03, 1.03)
"""Limits of an axis of shares."""
FEWEST = 5
"""Prompts, traces or models of which an interval says something."""
FEWEST_DOSES = 3
"""Points that are joined by a line."""
LONGEST_TOKEN = 12
"""Characters of a token that are shown."""


Panels = dict[tuple[str, str], Axes]
"""(name of the row, name of the column) -> panel; of what a figure is not split by, the name is empty."""


@dataclass
class Beside(so.Dodge):
    """Dodge within half of a place: points that belong together stay together."""

    def __call__(self, data: pd.DataFrame, *how: Any) -> pd.DataFrame:
        return super().__call__(data.assign(width=data["width"] / 2), *how)


def colors_of(names: Iterable[str], fixed: Mapping[str, str]) -> dict[str, str]:
    """Colour of each of `names`: those that have one of their own first, in its order, others as they appear."""
    found = list(dict.fromkeys(names))
    own = {name: color for name, color in fixed.items() if name in found}
    return own | dict(zip((name for name in found if name not in fixed), cycle(SPARE), strict=False))


def ordered(table: pd.DataFrame, column: str, names: Iterable[str]) -> pd.DataFrame:
    """The rows of `table` whose `column` is one of `names`, in the order of these."""
    present = set(table[column])
    names = [name for name in dict.fromkeys(names) if name in present]
    chosen = table[table[column].isin(names)]
    return chosen.assign(**{column: pd.Categorical(chosen[column], names)}).sort_values(column, kind="stable")


def with_n(table: pd.DataFrame, column: str) -> list[str]:
    """The names in `column`, each with the largest n that it has: planted (n=20)."""
    n = table.groupby(column, observed=True)["n"].max()
    return [f"{name} (n={n[name]:.0f})" for name in table[column]]


def token_label(text: str) -> str:
    """The text of a token, cut where it is long."""
    return text if len(text) <= LONGEST_TOKEN else text[: LONGEST_TOKEN - 1] + "…"


def turn_tokens(ax: Axes, first: int = 0) -> None:
    """Write the ticks from the `first` on upwards, but for single signs: turned, that of a line break is another."""
    for label in ax.get_xticklabels()[first:]:
        label.set_rotation(90 if len(label.get_text()) > 1 else 0)


def ranking_label(ranking: str) -> str:
    """What people call a ranking: its measure, after its target if that is not the probe."""
    measure = next((name for name in LABELS if ranking.endswith(name)), "")
    target = ranking.removesuffix(measure).rstrip("_")
    return ": ".join(filter(None, [target, LABELS.get(measure)]))


def canvas(columns: int, rows: int, panel: Sequence[float] = PANEL) -> tuple[float, float]:
    """Width and height in inches of a figure of so many panels, none larger than a screen."""
    return min(SCREEN[0], panel[0] * columns + 0.6), min(SCREEN[1], panel[1] * rows + 0.7)


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with columns low, high and n, without the intervals of groups of fewer than `FEWEST`."""
    enough = table["n"] >= FEWEST
    # Layers of a plot are joined by the index.
    return table.assign(low=table["low"].where(enough), high=table["high"].where(enough)).reset_index(drop=True)


def estimates(
    table: pd.DataFrame,
    place: str,
    by: str,
    colors: Mapping[str, str],
    *,
    level: bool = False,
    joined: bool = False,
    group: str | None = None,
    limits: tuple[float, float] | None = SHARE,
    scales: Mapping[str, Any] | None = None,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
    row: str | None = None,
    col: str | None = None,
    **layout: Any,
) -> tuple[Figure, Panels]:
    """Points with their intervals, in panels: every figure of estimates is one of these.

    Args:
        table: long, with columns value, low, high and n; groups of fewer than `FEWEST` are drawn without interval.
        place: column that says where on the other axis: names in order of appearance, or numbers.
        by: column that says in which colour, one of `colors`; points of one place stand beside each other.
        level: values on the horizontal axis, as in a forest plot.
        joined: draw lines through what has at least `FEWEST_DOSES` places.
        group: column that tells points of one colour and place apart.
        limits: of the values.
        scales: of other things than colour, as `seaborn.objects.Plot.scale`.
        looks: further entries of the legend, as for `legend`.
        row, col, layout: as for `panels`.
    """
    across, along = ("y", "x") if level else ("x", "y")
    shown = with_intervals(table)
    doses = shown.groupby([name for name in (by, row, col) if name], observed=True)[place].transform("nunique")
    shown["joined"] = shown["value"].where(doses >= FEWEST_DOSES)
    ends = {f"{along}min": "low", f"{along}max": "high"}
    without = dict.fromkeys(ends)  # a point is there also where its interval is not
    plot = so.Plot(shown, color=by, group=group, **{across: place, along: "value"}, **ends)
    plot = plot.scale(color=named(colors), **scales or {})
    # Points that a line joins are equally far from their places; others stand around the middle.
    beside = Beside(empty="keep" if joined else "drop")
    if joined:
        plot = plot.add(so.Line(), beside, orient=across, legend=False, **without | {along: "joined"})
    plot = plot.add(so.Range(linewidth=1), beside, orient=across, legend=False)
    plot = plot.add(so.Dot(pointsize=4.5, stroke=1), beside, orient=across, legend=False, **without)
    figure, axes = panels(plot.limit(**{along: limits} if limits else {}), shown, row, col, **layout)
    if by != place and axes:
        legend(figure, colors, **looks or {})
    return figure, axes


def named(values: Mapping[str, Any]) -> so.Nominal:
    """The scale that gives names their colours, markers, …, in this order."""
    return so.Nominal(dict(values), order=list(values))


def panels(
    plot: so.Plot,
    table: pd.DataFrame,
    row: str | None = None,
    col: str | None = None,
    *,
    x: str = "",
    y: str = "",
    panel: Sequence[float] = PANEL,
    share: Mapping[str, Any] | None = None,
) -> tuple[Figure, Panels]:
    """Draw `plot` in panels: columns have titles, rows a label, and what has no data has no panel.

    Args:
        plot: of `table`.
        row, col: columns that say in which panel; with `col` alone, a row has `ROW` panels.
        x, y: what the axes are; with `row`, its name stands for `y`.
        panel: width and height of one in inches, where the screen has room.
        share: which axes panels share, as `seaborn.objects.Plot.share`.
    """
    if table.empty:
        figure = plt.figure(figsize=PANEL)
        figure.text(0.5, 0.5, "not measured", ha="center")
        return figure, {}
    facets = {kind: name for kind, name in (("row", row), ("col", col)) if name}
    names = {kind: list(map(str, table[name].unique())) for kind, name in facets.items()}
    keys = list(product(names.get("row", [""]), names.get("col", [""])))
    columns = len(names.get("col", [""]))
    wrap = ROW if row is None and columns > ROW else None
    across = wrap or columns
    figure = plt.figure(figsize=canvas(across, -(-len(keys) // across), panel))
    plot.facet(**facets, order=names, wrap=wrap).share(**share or {}).label(x="", y="").on(figure).plot()
    axes = dict(zip(keys, figure.axes, strict=True))
    first_row = keys[0][0]
    for key in [key for key, ax in axes.items() if not ax.has_data()]:
        axes.pop(key).remove()
    at = {key: ax.get_subplotspec() for key, ax in axes.items()}
    for (line, column), ax in axes.items():
        ax.set_title(column if line == first_row else "")
    for key in {spec.colspan.start: key for key, spec in at.items()}.values():
        axes[key].set_xlabel(x)
        axes[key].xaxis.set_tick_params(labelbottom=True)
        plt.setp(axes[key].get_xticklabels(), visible=True)
    for key in {spec.rowspan.start: key for key, spec in reversed(at.items())}.values():
        axes[key].set_ylabel(key[0] or y)
        plt.setp(axes[key].get_yticklabels(), visible=True)
    return figure, axes


def legend(figure: Figure, colors: Mapping[str, str], **looks: Mapping[str, Any]) -> None:
    """One legend for all panels, where the layout makes room for it: seaborn's own place is beyond the edge.

    Args:
        colors: of names.
        looks: names and their properties as matplotlib has them, as markerfacecolor.
    """
    entries = {name: {"color": color, "marker": "o"} for name, color in colors.items()} | looks
    handles = [plt.Line2D([], [], **({"linestyle": ""} | look), label=name) for name, look in entries.items()]
    widest = 0.35 + 0.075 * max(map(len, entries), default=1)
    columns = max(1, int(figure.get_figwidth() / widest))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), columns))


def reference(axes: Panels, value: float, *, level: bool = False) -> None:
    """A dotted line at a value to compare with, in every panel; `level` as for `estimates`."""
    for ax in axes.values():
        (ax.axvline if level else ax.axhline)(value, color=GREY, linewidth=0.8, linestyle=":", zorder=0)


def diagonal(axes: Panels) -> None:
    """A dotted line where both axes have the same value, in every panel of shares."""
    for ax in axes.values():
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", zorder=0)


def heat(ax: Axes, table: pd.DataFrame, limits: tuple[float, float], colors: str) -> AxesImage:
    """A map of numbers by layer (rows of `table`, from below) and whatever its columns are."""
    image = ax.imshow(
        table.to_numpy(dtype=float), origin="lower", aspect="auto", cmap=colors, vmin=limits[0], vmax=limits[1]
    )
    step = max(1, len(table) // 6)
    ax.set_yticks(range(0, len(table), step), table.index[::step])
    ax.grid(visible=False)
    return image


def draw_all(output: Mapping[str, str], **figures: Figure) -> None:
    """Write each figure to the outputs `{name}_svg` and `{name}_pdf`."""
    for name, figure in figures.items():
        save(figure, output[f"{name}_svg"], output[f"{name}_pdf"])


def save(figure: Figure, svg_path: str | Path, pdf_path: str | Path) -> None:
    """Write `figure` as SVG (text stays text) and PDF, without dates, so that equal figures are equal files."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is found: solving it again for each file takes seconds
    for path in (svg_path, pdf_path):
        metadata = {"Date": None} if Path(path).suffix == ".svg" else {"CreationDate": None, "ModDate": None}
        with whole_file(path) as draft:
            figure.savefig(draft, metadata=metadata, format=Path(path).suffix[1:])
    plt.close(figure)
