"""Figures of ASR, over-refusal, utility and perplexity side by side. Error bars are 95 % intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from refusal_cliff.outcomes import ALL, RATE_NAMES, VULNERABLE
from refusal_cliff.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PANEL,
    PURPLE,
    SKY,
    VERMILION,
    errorbars,
    grid,
    legend,
    plt,
    ranking_colors,
    ranking_label,
)
from refusal_cliff.rankings import CONTROLS
from refusal_cliff.variants import pooled_ranking

SELECTORS = {
    "cliff": VERMILION,
    "cliff_mean": ORANGE,
    "spread": "#e377c2",
    "gradient": GREEN,
    "loss": "#8c564b",
    "guard": BLUE,
    "rule": PURPLE,
    "random": GREY,
}
TUNED_ON = SELECTORS | {"whole": "black"}
SHOWN_RATES = ("asr", "over_refusal", "utility")
WITH_PERPLEXITY = (*SHOWN_RATES, "perplexity")


def plot_ablation(ablation: pd.DataFrame) -> Figure:
    """Rates against the share of heads zeroed, by ranking; the base model is the point at 0 and the dashed line.

    Rows of panels are rates, columns are models. The random controls are the pools of their draws, whose error bars are
    over draws and prompts; each draw is a faint point. Doses stand at equal distances. Models whose heads were not
    ablated are left out, and so are panels of what was not measured.

    Args:
        ablation: output of `refusal_cliff.ablation_tables.ablation_table`.
    """
    zeroed = ablation[(ablation["dataset"] == ALL) & ablation["kind"].isin(["base", "ablate"])]
    zeroed = zeroed[zeroed["model"].isin(zeroed.loc[zeroed["kind"] == "ablate", "model"])]
    models = list(zeroed["model"].unique())
    doses = sorted(zeroed["fraction"].unique())
    zeroed = zeroed.assign(place=zeroed["fraction"].map(doses.index).astype(float))
    colors = _ranking_colors(zeroed)
    figure, axes = grid(len(WITH_PERPLEXITY), max(1, len(models)))
    for column, model in enumerate(models):
        axes[0, column].set_title(model)
        own = zeroed[zeroed["model"] == model]
        counts = own.groupby("fraction")["heads"].max()
        measured = [rate for rate in WITH_PERPLEXITY if rate in set(own["rate"])]
        for row, rate in enumerate(WITH_PERPLEXITY):
            ax, part = axes[row, column], own[own["rate"] == rate]
            if part.empty:
                ax.set_axis_off()
                continue
            base = part[part["kind"] == "base"]
            for turn, (ranking, color) in enumerate(colors.items()):
                shift = (turn - (len(colors) - 1) / 2) * 0.1
                dosed = part[part["ranking"] == ranking]
                draws = part[part["ranking"].str.fullmatch(rf"{ranking}\d+")]
                ax.plot(draws["place"] + shift, draws["value"], "o", color=color, alpha=0.35, markersize=2.5)
                if len(dosed):
                    points = pd.concat([base, dosed]).sort_values("fraction")
                    # Rankings share their doses: without a small shift their error bars would hide each other.
                    points["shifted"] = points["place"] + shift * (points["place"] > 0)
                    errorbars(ax, points, "shifted", ranking_label(ranking), color)
            for value in base["value"]:
                ax.axhline(value, color=GREY, linestyle="--", linewidth=0.8)
            last = rate == measured[-1]
            labels = [f"{100 * dose:g}\n({counts.get(dose, 0)})" for dose in doses]
            ax.set_xticks(range(len(doses)), labels if last else [])
            ax.set_xlim(-0.35, len(doses) - 0.65)
            if column == 0:
                ax.set_ylabel(RATE_NAMES[rate])
            if last:
                ax.set_xlabel("% of heads set to zero (heads)")
            if rate != "perplexity":
                ax.set_ylim(-0.03, 1.03)
                ax.yaxis.set_major_formatter(PercentFormatter(1))
    legend(figure, axes)
    return figure


def plot_interventions(ablation: pd.DataFrame, operating: str, fraction: float) -> Figure:
    """What can be done to the same heads, and the controls: rates side by side, one row for each intervention.

    Args:
        ablation: output of `refusal_cliff.ablation_tables.ablation_table`.
        operating: the ranking whose first heads everything is done to.
        fraction: share of heads that these are.
    """
    pooled = ablation[ablation["dataset"] == ALL]
    at_point = np.isclose(pooled["fraction"], fraction)
    treated = pooled[at_point & (pooled["ranking"] == operating)]
    shown = {"base": (pooled[pooled["kind"] == "base"], "black")}
    for kind, name, color in (
        ("ablate", "zero", VERMILION),
        ("mean", "benign mean", VERMILION),
        ("released", "zero, as released", VERMILION),
        ("boundary", "zero, boundary only", BLUE),
        ("restore", "restored, boundary only", BLUE),
    ):
        shown[name] = (treated[treated["kind"] == kind], color)
    for scale in sorted(treated.loc[treated["kind"] == "scale", "scale"].unique()):
        rows = treated[(treated["kind"] == "scale") & (treated["scale"] == scale)]
        shown[f"scaled by {scale:g}"] = (rows, PURPLE if scale > 1 else GREEN)
    for control in CONTROLS:
        rows = pooled[at_point & (pooled["kind"] == "ablate") & (pooled["ranking"] == control)]
        shown[f"zero, {control} heads"] = (rows, GREY)
    models = list(pooled.loc[pooled["kind"] != "base", "model"].unique())
    return _side_by_side(
        {
            model: {
                name: (rows[rows["model"] == model], color)
                for name, (rows, color) in shown.items()
                if (rows["model"] == model).any()
            }
            for model in models
        },
        WITH_PERPLEXITY,
    )


def plot_selection(selection: pd.DataFrame) -> Figure:
    """Rates after tuning against the number of training examples, by selector; lines join the means over seeds.

    The base model is the dashed line, the whole pool the dotted one.

    Args:
        selection: model, selector, budget, examples, seed, dataset, rate, value, low, high.
    """
    single = _single_seeds(selection)
    pooled = single[single["dataset"] == ALL]
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


def plot_tuning(selection: pd.DataFrame) -> Figure:
    """Rates along the training, by selector: one row of panels for each number of examples and model.

    Columns are what is not refused of each harmful dataset, and over-refusal. The base model is the point at 0 and the
    dashed line, the whole pool is in every row. Error bars are over seeds and prompts.

    Args:
        selection: as for `plot_selection`, with steps.
    """
    pooled = selection[selection["seed"].astype(str) == ALL]
    harmful = pooled[(pooled["rate"] == "not_refused") & ~pooled["dataset"].isin([ALL, VULNERABLE])]
    columns = [(dataset, "not_refused") for dataset in harmful["dataset"].unique()] + [(ALL, "over_refusal")]
    chosen = pooled[pooled["selector"].isin(SELECTORS)]
    rows = list(chosen[["model", "examples"]].drop_duplicates().sort_values("examples").itertuples(index=False))
    figure, axes = grid(max(1, len(rows)), len(columns))
    for ax, (dataset, rate) in zip(axes[0], columns, strict=True):
        ax.set_title(f"{dataset}: {RATE_NAMES[rate]}")
    for selector, color in TUNED_ON.items():
        # Not every row of panels has every selector; the legend is of them all.
        if selector in set(pooled["selector"]):
            axes[0, 0].plot([], [], "o-", color=color, label=selector)
    for (model, examples), panels in zip(rows, axes, strict=False):
        own = pooled[pooled["model"] == model]
        base = own[own["selector"] == "none"]
        for (dataset, rate), ax in zip(columns, panels, strict=True):
            part = own[(own["dataset"] == dataset) & (own["rate"] == rate)]
            start = base[(base["dataset"] == dataset) & (base["rate"] == rate)]
            for place, (selector, color) in enumerate(TUNED_ON.items()):
                size = part["examples"] == examples if selector in SELECTORS else part["examples"] > 0
                points = pd.concat([start, part[(part["selector"] == selector) & size].sort_values("steps")])
                if len(points) > len(start):
                    # Selectors stand at the same steps: without a small shift error bars would hide each other.
                    points = points.assign(shifted=points["steps"] * (1 + 0.015 * place))
                    errorbars(ax, points, "shifted", None, color)
            ax.axhline(start["value"].mean(), color="black", linestyle="--", linewidth=1, label="base")
            ax.set_ylim(-0.03, 1.03)
        panels[0].set_ylabel(f"{model}\n{examples:g} examples")
    for ax in axes[-1]:
        ax.set_xlabel("steps")
    legend(figure, axes)
    return figure


def plot_tradeoffs(ablation: pd.DataFrame, selection: pd.DataFrame, fraction: float, budget: float) -> Figure:
    """ASR, over-refusal and utility side by side, at the operating points of the claims.

    Args:
        ablation, selection: as for `plot_ablation` and `plot_selection`.
        fraction, budget: share of heads ablated, and of the pool trained on.
    """
    zeroed, tuned = ablation[ablation["kind"].isin(["base", "ablate"])], _single_seeds(selection)
    shown = {"base": (zeroed, {"ranking": "none"}, "black")}
    shown |= {
        f"ablate {100 * fraction:g} %, {ranking_label(name)}": (zeroed, {"ranking": name, "fraction": fraction}, color)
        for name, color in _ranking_colors(zeroed).items()
    }
    shown |= {
        f"tune {100 * budget:g} %, {selector}": (tuned, {"selector": selector, "budget": budget}, color)
        for selector, color in SELECTORS.items()
    }
    shown["tune, whole pool"] = (tuned, {"selector": "whole"}, SKY)

    measured = {
        model: {
            name: (rows, color)
            for name, (table, wanted, color) in shown.items()
            if len(rows := _rows_of(model, table, wanted))
        }
        for model in ablation["model"].unique()
    }
    return _side_by_side(measured, SHOWN_RATES)


def _ranking_colors(ablation: pd.DataFrame) -> dict[str, str]:
    """Colours of the rankings whose heads were ablated, without single draws of a control."""
    rankings = ablation.loc[ablation["kind"] == "ablate", "ranking"]
    return ranking_colors(ranking for ranking in rankings if pooled_ranking(ranking) == ranking)


def _single_seeds(selection: pd.DataFrame) -> pd.DataFrame:
    """The rows of the base models and of finished single tunings, without the pools of a tuning's seeds."""
    finished = (selection["seed"].astype(str) != ALL) & (selection["steps"] == selection["steps"].max())
    return selection[(selection["selector"] == "none") | finished]


def _side_by_side(measured: Mapping[str, Mapping[str, tuple[pd.DataFrame, str]]], rates: Sequence[str]) -> Figure:
    """One row of panels per model, one column per rate, one line per named row set with its colour."""
    heights = [len(found) for found in measured.values()] or [1]
    figure, axes = plt.subplots(
        len(heights),
        len(rates),
        figsize=(PANEL[0] * len(rates), 0.6 + sum(0.22 * height + 0.3 for height in heights)),
        height_ratios=heights,
        sharex="col",
        sharey="row",
        squeeze=False,
    )
    for row, (model, found) in enumerate(measured.items()):
        for column, rate in enumerate(rates):
            ax = axes[row, column]
            if not any((rows["rate"] == rate).any() for rows, _ in found.values()):
                ax.set_axis_off()
            for place, (rows, color) in enumerate(found.values()):
                part = rows[rows["rate"] == rate]
                spread = np.linspace(-0.15, 0.15, len(part)) if len(part) > 1 else [0.0]
                for point, shift in zip(part.itertuples(), spread, strict=False):
                    bars = np.clip([[point.value - point.low], [point.high - point.value]], 0, None)
                    ax.errorbar(point.value, place + shift, xerr=bars, fmt="o", color=color)
            if row == 0:
                ax.set_title(RATE_NAMES[rate])
            if column == 0:
                # Level, because a model with one line is not as high as its name is long.
                ax.set_ylabel(model, fontweight="bold", rotation=0, horizontalalignment="right")
            ax.set_yticks(range(len(found)), list(found))
            ax.set_ylim(len(found) - 0.5, -0.5)
            if rate != "perplexity":
                ax.xaxis.set_major_formatter(PercentFormatter(1))
                ax.set_xlim(-0.03, 1.03)
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


def plot_finetuning(looks: pd.DataFrame) -> Figure:
    """Shares of watched prompts along fine-tuning; a panel for each family.

    A thin line is one model, the thick one the mean of its family. Harmful prompts are drawn whole, over-refusal of
    benign ones dashed.

    Args:
        looks: output of `refusal_cliff.looks_table.looks_table`.
    """
    families = list(looks["family"].unique())
    figure, axes = grid(1, len(families))
    drawn = (
        ("harmful", "recognised", "thinking means to refuse", BLUE, "-"),
        ("harmful", "refused", "refused", VERMILION, "-"),
        ("benign", "refused", "benign, refused", GREY, "--"),
    )
    for ax, family in zip(axes[0], families, strict=True):
        own = looks[looks["family"] == family]
        for label, quantity, name, color, style in drawn:
            part = own[(own["label"] == label) & (own["quantity"] == quantity)]
            for _, line in part.groupby("model"):
                ax.plot(line["step"], line["value"], style, color=color, linewidth=0.7, alpha=0.5)
            mean = part.groupby("step")["value"].mean()
            ax.plot(mean.index, mean, style, marker="o", color=color, label=name)
        asked = own.groupby("label")["n"].max()
        n = ", ".join(f"{count} {label}" for label, count in asked.items())
        ax.set(title=f"{family} ({own['model'].nunique()} models)", xlabel=f"step (n = {n})", ylim=(-0.03, 1.03))
    axes[0, 0].set_ylabel("share of prompts")
    legend(figure, axes)
    return figure
