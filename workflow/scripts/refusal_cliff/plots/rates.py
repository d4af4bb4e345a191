"""Figures of ASR, over-refusal and utility side by side. Error bars are 95 % intervals.

Rows of panels are rates, columns are models.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from refusal_cliff.outcomes import ALL, RATE_NAMES
from refusal_cliff.plots.style import BLUE, GREY, PANEL, PURPLE, SKY, VERMILION, errorbars, grid, legend, plt

RANKINGS = {"causal": VERMILION, "direct": BLUE, "promoting": PURPLE, "random": GREY}
SELECTORS = {"cliff": VERMILION, "guard": BLUE, "rule": PURPLE, "random": GREY}
SHOWN_RATES = ("asr", "over_refusal", "utility")


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
                    errorbars(ax, points, "shifted", ranking, color)
            for value in base["value"]:
                ax.axhline(value, color=GREY, linestyle="--", linewidth=0.8)
            ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
            if row == len(SHOWN_RATES) - 1:
                ax.set_xlabel("heads ablated")
    legend(figure, axes)
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
                errorbars(ax, own, "shifted", None, color, joined=False)
            for selector, style, label in (("none", "--", "base"), ("whole", ":", "whole pool")):
                value = part.loc[part["selector"] == selector, "value"].mean()
                ax.axhline(value, color="black", linestyle=style, linewidth=1, label=label)
            ax.set_xscale("log")
            sizes = sorted(part.loc[part["selector"].isin(SELECTORS), "examples"].unique())
            ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
            ax.minorticks_off()
            if row == len(SHOWN_RATES) - 1:
                ax.set_xlabel("training examples")
    legend(figure, axes)
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


def _rates_by_model(table: pd.DataFrame) -> tuple[Figure, np.ndarray, list[str]]:
    """One row of panels per rate and one column per model of `table`, titled and on one scale."""
    models = list(table["model"].unique())
    figure, axes = grid(len(SHOWN_RATES), max(1, len(models)))
    for row, rate in enumerate(SHOWN_RATES):
        axes[row, 0].set_ylabel(RATE_NAMES[rate])
        for ax in axes[row]:
            ax.set_ylim(-0.03, 1.03)
            ax.yaxis.set_major_formatter(PercentFormatter(1))
    for ax, model in zip(axes[0], models, strict=False):
        ax.set_title(model)
    return figure, axes, models
