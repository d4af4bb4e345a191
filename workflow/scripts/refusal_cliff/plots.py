"""Figures, all with one look. Each function takes tables and returns a figure; `save` writes it as SVG and PDF.

Rows of panels are rates or probes, columns are models. Shaded bands and error bars are 95 % intervals.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from refusal_cliff.artifacts import whole_file
from refusal_cliff.outcomes import ALL, RATE_NAMES
from refusal_cliff.stats import bootstrap_band

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

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
GREY = "0.45"
PANEL = (3.1, 2.2)
"""Width and height of one panel in inches."""

GROUPS = {
    "harmful, complied": VERMILION,
    "harmful, refused": BLUE,
    "benign": GREEN,
}
RANKINGS = {"causal": VERMILION, "direct": BLUE, "promoting": PURPLE, "random": GREY}
SELECTORS = {"cliff": VERMILION, "guard": BLUE, "rule": PURPLE, "random": GREY}
SHOWN_RATES = ("asr", "over_refusal", "utility")


def save(figure: Figure, svg_path: str | Path, pdf_path: str | Path) -> None:
    """Write `figure` as SVG (text stays text) and PDF, without dates, so that equal figures are equal files."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is found: solving it again for each file takes seconds
    for path in (svg_path, pdf_path):
        metadata = {"Date": None} if Path(path).suffix == ".svg" else {"CreationDate": None, "ModDate": None}
        with whole_file(path) as draft:
            figure.savefig(draft, metadata=metadata, format=Path(path).suffix[1:])
    plt.close(figure)


def traces_by_group(cliffs: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Cliffs of one model's base traces with column `group`, a key of `GROUPS`; other traces are left out.

    Complied: the harm judge calls the response harmful, as in the claims. Refused: it does not, and the refusal judge
    sees a refusal.
    """
    base = outcomes[outcomes["variant"] == "base"]
    complied, refused = base["harmful"].fillna(False).astype(bool), base["refused"].fillna(False).astype(bool)
    cases = [base["label"] == "benign", complied, refused]
    group = np.select(cases, ["benign", "harmful, complied", "harmful, refused"], default="")
    known = base[["prompt_id", "sample"]].assign(group=group)[group != ""]
    return cliffs.merge(known, on=["prompt_id", "sample"], validate="many_to_one")


def plot_curves(cliffs: Mapping[str, pd.DataFrame], outcomes: pd.DataFrame, tail: int, seed: int) -> Figure:
    """Refusal score along the thinking and through the boundary, at the last layer.

    Args:
        cliffs: cliff table of the base model on the test prompts, by model.
        outcomes: outcomes of all models and variants.
        tail: thinking tokens in front of the boundary in `boundary_curve`.
    """
    probes = sorted({probe for table in cliffs.values() for probe in table["probe"].unique()})
    width, height = PANEL
    figure, axes = plt.subplots(
        len(probes),
        2 * len(cliffs),
        figsize=(1.25 * width * len(cliffs), height * len(probes) + 1.0),
        sharey=True,
        squeeze=False,
        gridspec_kw={"width_ratios": [2, 1.1] * len(cliffs)},
    )
    for column, (model, table) in enumerate(cliffs.items()):
        grouped = traces_by_group(table, outcomes[outcomes["model"] == model])
        last = grouped[grouped["layer"] == grouped["layer"].max()]
        for row, probe in enumerate(probes):
            thinking, boundary = axes[row, 2 * column : 2 * column + 2]
            for group, color in GROUPS.items():
                part = last[(last["probe"] == probe) & (last["group"] == group)]
                if part.empty:
                    continue
                _band(thinking, part["curve"], (0, 1), f"{group} (n={part['prompt_id'].nunique()})", color, seed)
                tokens = len(part["boundary_curve"].iloc[0])
                _band(boundary, part["boundary_curve"], (1 - tokens, 0), None, color, seed)
                boundary.set_xlim(1 - tokens, 0.3)
                boundary.axvspan(tail + 0.5 - tokens, 0.3, color="0.9", zorder=0, linewidth=0)
            boundary.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            thinking.set(xlim=(0, 1), ylim=(-0.02, 1.02))
            thinking.set_xticks([0, 0.5, 1])
            if row == 0:
                thinking.set_title(model, loc="left", fontweight="bold")
                boundary.set_title("boundary", fontsize=8, color=GREY)
            if row == len(probes) - 1:
                thinking.set_xlabel("share of thinking")
                thinking.legend(loc="upper left", bbox_to_anchor=(0, -0.3), borderpad=0, handlelength=1.2)
                boundary.set_xlabel("tokens to last")
        for row, probe in enumerate(probes):
            axes[row, 0].set_ylabel(f"refusal score\n{probe} probe")
    return figure


def _band(ax: Axes, curves: pd.Series, ends: tuple[float, float], label: str | None, color: str, seed: int) -> None:
    mean, low, high = bootstrap_band(np.stack(curves.to_list()), seed)
    x = np.linspace(*ends, len(mean))
    ax.plot(x, mean, color=color, label=label)
    ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def plot_layers(cliffs: Mapping[str, pd.DataFrame], outcomes: pd.DataFrame, tail: int) -> Figure:
    """Mean refusal score by layer and position: thinking (normalised), then its last tokens and the boundary.

    Over the harmful prompts that the model complied with; for a model that complied with none, over all harmful ones.
    Arguments as for `plot_curves`.
    """
    probes = sorted({probe for table in cliffs.values() for probe in table["probe"].unique()})
    figure, axes = _grid(len(probes), len(cliffs))
    image = None
    for column, (model, table) in enumerate(cliffs.items()):
        grouped = traces_by_group(table, outcomes[outcomes["model"] == model])
        complied = grouped[grouped["group"] == "harmful, complied"]
        shown = complied if len(complied) else grouped[grouped["group"] != "benign"]
        subject = "complied" if len(complied) else "all"
        axes[0, column].set_title(f"{model}\nharmful, {subject} (n={shown['prompt_id'].nunique()})")
        for row, probe in enumerate(probes):
            ax, part = axes[row, column], shown[shown["probe"] == probe]
            if part.empty:
                ax.set_axis_off()
                continue
            layers = sorted(part["layer"].unique())
            grid, tokens = len(part["curve"].iloc[0]), len(part["boundary_curve"].iloc[0])
            means = np.stack([_mean_positions(part[part["layer"] == layer]) for layer in layers])
            image = ax.imshow(means, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1)
            ax.axvline(grid - 0.5, color="white", linewidth=1)
            ax.axvline(grid + tail - 0.5, color="white", linewidth=1, linestyle=":")
            ax.set_xticks(
                [0, (grid - 1) / 2, grid - 1, grid + tokens - 1],
                ["0", "0.5", "1", "last"] if row == len(probes) - 1 else [],
            )
            ax.set_yticks(*_layer_ticks(layers))
            ax.grid(visible=False)
            if column == 0:
                ax.set_ylabel(f"layer\n{probe} probe")
            if row == len(probes) - 1:
                ax.set_xlabel("share of thinking | tail : boundary")
    if image is not None:
        figure.colorbar(image, ax=axes, label="mean refusal score", shrink=0.8)
    return figure


def _mean_positions(part: pd.DataFrame) -> np.ndarray:
    """Mean over traces of curve and boundary_curve, joined: [position]. A tail no trace is long enough for is NaN."""
    positions = np.hstack([np.stack(part[column].to_list()) for column in ("curve", "boundary_curve")])
    mean = np.full(positions.shape[1], np.nan)
    seen = ~np.isnan(positions).all(axis=0)
    mean[seen] = np.nanmean(positions[:, seen], axis=0)
    return mean


def _layer_ticks(layers: Sequence[int]) -> tuple[list[int], list[str]]:
    step = max(1, len(layers) // 6)
    places = list(range(0, len(layers), step))
    return places, [str(layers[place]) for place in places]


def plot_heads(
    rankings: Mapping[str, Mapping[str, pd.DataFrame]], planted: Mapping[str, Sequence[Sequence[int]]]
) -> Figure:
    """Effect of every head on the refusal logit, layer by head; planted heads are ringed.

    Args:
        rankings: ranking -> model -> table with layer, head, effect.
        planted: heads [[layer, head], …] by model, for the models where they are known.
    """
    models = list(next(iter(rankings.values())))
    figure, axes = _grid(len(rankings), len(models))
    rings = []
    for row, (ranking, tables) in enumerate(rankings.items()):
        for column, model in enumerate(models):
            ax = axes[row, column]
            effects = tables[model].pivot_table(index="layer", columns="head", values="effect")
            limit = float(effects.abs().to_numpy().max()) or 1.0
            image = ax.imshow(effects, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
            figure.colorbar(image, ax=ax, pad=0.02)
            if planted.get(model):
                layers, heads = zip(*planted[model], strict=True)
                # White under black: the ring shows on any colour of the map.
                ax.plot(heads, layers, "o", mfc="none", mec="white", mew=3, markersize=10)
                rings = ax.plot(heads, layers, "o", mfc="none", mec="black", mew=1.3, markersize=10)
            ax.grid(visible=False)
            ax.set_yticks(*_layer_ticks(list(effects.index)))
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            if row == 0:
                ax.set_title(model)
            if column == 0:
                ax.set_ylabel(f"{ranking}\nlayer")
            if row == len(rankings) - 1:
                ax.set_xlabel("head")
    if rings:
        figure.legend(rings, ["planted head"], loc="outside lower center")
    figure.suptitle("effect on the refusal logit (blue: suppresses refusal)", fontsize=9, color=GREY)
    return figure


def plot_ablation(ablation: pd.DataFrame) -> Figure:
    """Rates against the fraction of heads ablated, by ranking; the base model is the point at 0 and the dashed line.

    Models whose heads were not ablated are left out.

    Args:
        ablation: output of `refusal_cliff.outcomes.ablation_table`.
    """
    ablated = ablation.loc[ablation["ranking"] != "none", "model"].unique()
    pooled = ablation[(ablation["dataset"] == ALL) & ablation["model"].isin(ablated)]
    figure, axes, models = _rates_by_model(pooled)
    for column, model in enumerate(models):
        for row, rate in enumerate(SHOWN_RATES):
            ax, part = axes[row, column], pooled[(pooled["model"] == model) & (pooled["rate"] == rate)]
            base = part[part["ranking"] == "none"]
            for place, (ranking, color) in enumerate(RANKINGS.items()):
                dosed = part[part["ranking"] == ranking]
                if len(dosed):
                    points = pd.concat([base, dosed]).sort_values("fraction")
                    # Rankings share their fractions: without a small shift their error bars would hide each other.
                    points["shifted"] = points["fraction"] + (place - 1.5) * points["fraction"].max() / 80
                    _errorbars(ax, points, "shifted", ranking, color)
            for value in base["value"]:
                ax.axhline(value, color=GREY, linestyle="--", linewidth=0.8)
            ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
            if row == len(SHOWN_RATES) - 1:
                ax.set_xlabel("heads ablated")
    _legend(figure, axes)
    return figure


def plot_selection(selection: pd.DataFrame) -> Figure:
    """Rates after tuning against the number of training examples, by selector; lines join the means over seeds.

    The base model is the dashed line, the whole pool the dotted one.

    Args:
        selection: output of `refusal_cliff.outcomes.selection_table`.
    """
    pooled = selection[selection["dataset"] == ALL]
    figure, axes, models = _rates_by_model(pooled)
    for column, model in enumerate(models):
        for row, rate in enumerate(SHOWN_RATES):
            ax, part = axes[row, column], pooled[(pooled["model"] == model) & (pooled["rate"] == rate)]
            for place, (selector, color) in enumerate(SELECTORS.items()):
                own = part[part["selector"] == selector]
                if own.empty:
                    continue
                # Selectors are compared at equal sizes: without a small shift their error bars would hide each other.
                own = own.assign(shifted=own["examples"] * 1.04 ** (place - 1.5))
                mean = own.groupby("budget")[["shifted", "value"]].mean()
                ax.plot(mean["shifted"], mean["value"], color=color, label=selector)
                _errorbars(ax, own, "shifted", None, color, joined=False)
            for selector, style, label in (("none", "--", "base"), ("whole", ":", "whole pool")):
                value = part.loc[part["selector"] == selector, "value"].mean()
                ax.axhline(value, color="black", linestyle=style, linewidth=1, label=label)
            ax.set_xscale("log")
            sizes = sorted(part.loc[part["selector"].isin(SELECTORS), "examples"].unique())
            ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
            ax.minorticks_off()
            if row == len(SHOWN_RATES) - 1:
                ax.set_xlabel("training examples")
    _legend(figure, axes)
    return figure


def plot_tradeoffs(ablation: pd.DataFrame, selection: pd.DataFrame, fraction: float, budget: float) -> Figure:
    """ASR, over-refusal and utility side by side, at the operating points of the claims.

    Args:
        ablation, selection: as for `plot_ablation` and `plot_selection`.
        fraction, budget: share of heads ablated, and of the pool trained on.
    """
    shown = {"base": (ablation, {"ranking": "none"}, "black")}
    shown |= {
        f"ablate {100 * fraction:g} %, {ranking}": (ablation, {"ranking": ranking, "fraction": fraction}, color)
        for ranking, color in RANKINGS.items()
    }
    shown |= {
        f"tune {100 * budget:g} %, {selector}": (selection, {"selector": selector, "budget": budget}, color)
        for selector, color in SELECTORS.items()
    }
    shown["tune, whole pool"] = (selection, {"selector": "whole"}, SKY)

    models = list(ablation["model"].unique())
    measured = {
        model: {name: rows for name, spec in shown.items() if len(rows := _rows_of(model, *spec[:2]))}
        for model in models
    }
    figure, axes = plt.subplots(
        len(models),
        len(SHOWN_RATES),
        figsize=(PANEL[0] * len(SHOWN_RATES), 0.6 + sum(0.22 * len(found) + 0.3 for found in measured.values())),
        height_ratios=[len(found) for found in measured.values()],
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for row, (model, found) in enumerate(measured.items()):
        for column, rate in enumerate(SHOWN_RATES):
            ax = axes[row, column]
            for place, (name, rows) in enumerate(found.items()):
                part = rows[rows["rate"] == rate]
                spread = np.linspace(-0.15, 0.15, len(part)) if len(part) > 1 else [0.0]
                for point, shift in zip(part.itertuples(), spread, strict=False):
                    bars = [[point.value - point.low], [point.high - point.value]]
                    ax.errorbar(point.value, place + shift, xerr=bars, fmt="o", color=shown[name][2])
            if row == 0:
                ax.set_title(RATE_NAMES[rate])
            if column == 0:
                ax.set_ylabel(model, fontweight="bold")
            ax.set_yticks(range(len(found)), list(found))
            ax.xaxis.set_major_formatter(PercentFormatter(1))
            ax.set(xlim=(-0.03, 1.03), ylim=(len(found) - 0.5, -0.5))
    return figure


def _rows_of(model: str, table: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of `table` over all datasets of one model, where every wanted column has its value."""
    rows = table[(table["model"] == model) & (table["dataset"] == ALL)]
    for name, value in wanted.items():
        rows = rows[np.isclose(rows[name], value) if name in ("fraction", "budget") else rows[name] == value]
    return rows


def _grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure with `rows` by `columns` panels."""
    width, height = PANEL
    return plt.subplots(rows, columns, figsize=(width * columns + 0.6, height * rows + 0.6), squeeze=False)


def _rates_by_model(table: pd.DataFrame) -> tuple[Figure, np.ndarray, list[str]]:
    """One row of panels per rate and one column per model of `table`, titled and on one scale."""
    models = list(table["model"].unique())
    figure, axes = _grid(len(SHOWN_RATES), max(1, len(models)))
    for row, rate in enumerate(SHOWN_RATES):
        axes[row, 0].set_ylabel(RATE_NAMES[rate])
        for ax in axes[row]:
            ax.set_ylim(-0.03, 1.03)
            ax.yaxis.set_major_formatter(PercentFormatter(1))
    for ax, model in zip(axes[0], models, strict=False):
        ax.set_title(model)
    return figure, axes, models


def _errorbars(ax: Axes, points: pd.DataFrame, x: str, label: str | None, color: str, *, joined: bool = True) -> None:
    bars = np.clip([points["value"] - points["low"], points["high"] - points["value"]], 0, None)
    style = "o-" if joined else "o"
    ax.errorbar(points[x], points["value"], yerr=bars, fmt=style, color=color, label=label, elinewidth=0.9)


def _legend(figure: Figure, axes: np.ndarray) -> None:
    """One legend for all panels, under them."""
    found = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    if found:
        figure.legend(
            found.values(), found.keys(), loc="outside lower center", ncols=min(len(found), 3 * axes.shape[1])
        )
