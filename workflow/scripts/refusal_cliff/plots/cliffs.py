"""Figures of what cliffs depend on: group, family, length of the thinking, and how much of it is kept."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from refusal_cliff.cliff_tables import BENIGN, COMPLIED, REFUSED
from refusal_cliff.cliffs import HEIGHTS
from refusal_cliff.outcomes import ALL, GROUPS, RATE_NAMES
from refusal_cliff.plots.style import BLUE, GREEN, GREY, PANEL, PURPLE, SKY, VERMILION, errorbars, grid, legend, plt

COLORS = {COMPLIED: VERMILION, REFUSED: BLUE, BENIGN: GREEN}
MARKERS = {"cliff": ("o", "plateau: largest score"), "cliff_mean": ("D", "plateau: mean of the last half")}
REFIT_BAND = {"linewidth": 5, "alpha": 0.25, "solid_capstyle": "butt"}
RATE_COLORS = {"asr": VERMILION, "refusal": BLUE, "over_refusal": GREEN}
PROBE_COLORS = (BLUE, VERMILION, GREEN, PURPLE, SKY, GREY)


def plot_cliffs(cliffs: pd.DataFrame, refits: pd.DataFrame) -> Figure:
    """Mean cliff by group, and by family of the harmful prompts that were complied with; rows are models.

    Args:
        cliffs: output of `refusal_cliff.cliff_tables.cliff_table`.
        refits: output of `refusal_cliff.cliff_tables.refit_table`: the pale band behind a group's cliff.
    """
    shown = cliffs[cliffs["quantity"].isin(HEIGHTS) & cliffs["group"].isin(GROUPS)]
    shown = shown[(shown["family"] == ALL) | (shown["group"] == COMPLIED)]
    models, probes = list(shown["model"].unique()), list(shown["probe"].unique())
    lines = {model: _lines(shown[shown["model"] == model]) for model in models}
    heights = [max(1, len(found)) for found in lines.values()]
    figure, axes = plt.subplots(
        len(models),
        len(probes),
        figsize=(1.9 + 0.75 * PANEL[0] * len(probes), 1.0 + 0.2 * sum(heights) + 0.35 * len(models)),
        height_ratios=heights,
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for row, (model, found) in enumerate(lines.items()):
        for column, probe in enumerate(probes):
            ax, part = axes[row, column], shown[(shown["model"] == model) & (shown["probe"] == probe)]
            again = refits[(refits["model"] == model) & (refits["probe"] == probe) & (refits["quantity"] == "cliff")]
            for place, (group, family, _) in enumerate(found):
                own = part[(part["group"] == group) & (part["family"] == family)]
                for band in again[again["group"] == group].itertuples() if family == ALL else ():
                    ax.plot([band.low, band.high], [place - 0.14] * 2, color=COLORS[group], **REFIT_BAND)
                for shift, (height, (marker, _)) in zip((-0.14, 0.14), MARKERS.items(), strict=True):
                    for point in own[own["quantity"] == height].itertuples():
                        bars = np.clip([[point.value - point.low], [point.high - point.value]], 0, None)
                        ax.errorbar(
                            point.value,
                            place + shift,
                            xerr=bars,
                            fmt=marker,
                            color=COLORS[group],
                            markerfacecolor=COLORS[group] if height == "cliff" else "white",
                            markersize=4 if family == ALL else 3,
                            elinewidth=0.9,
                        )
            ax.axvline(0, color=GREY, linewidth=0.8)
            ax.set_yticks(range(len(found)), [text for _, _, text in found])
            ax.set(xlim=(-1.05, 1.05), ylim=(len(found) - 0.5, -0.5))
            if row == 0:
                ax.set_title(f"{probe} probe")
            if row == len(models) - 1:
                ax.set_xlabel("cliff")
        axes[row, 0].set_ylabel(model, fontweight="bold")
    for height, (marker, label) in MARKERS.items():
        axes[0, 0].plot([], [], marker, color=GREY, markerfacecolor=GREY if height == "cliff" else "white", label=label)
    axes[0, 0].plot([], [], color=GREY, label="95 % over refits of the probe", **REFIT_BAND)
    legend(figure, axes)
    return figure


def _lines(cliffs: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Group, family and text of the lines of one model's panels: groups, with their families under them."""
    lines = []
    for group in GROUPS:
        own = cliffs[cliffs["group"] == group].drop_duplicates("family")
        for family, n in zip(own["family"], own["n"], strict=True):
            text = group if family == ALL else f"· {family.replace('_', ' ')}"
            lines.append((group, family, f"{text} (n={n})"))
    return lines


def plot_cliff_length(cliffs: pd.DataFrame, correlations: pd.DataFrame) -> Figure:
    """Height of the cliff against thinking tokens, one point per prompt; rows are probes, columns are models.

    Args:
        cliffs: output of `refusal_cliff.cliff_tables.prompt_cliffs`.
        correlations: output of `refusal_cliff.cliff_tables.length_table`.
    """
    probes, models = sorted(cliffs["probe"].unique()), cliffs.groupby("model", sort=False)
    width, height = PANEL
    figure, axes = plt.subplots(
        len(probes),
        len(models),
        figsize=(width * len(models) + 0.6, (height + 0.5) * len(probes) + 0.4),
        sharey=True,
        squeeze=False,
    )
    found = correlations[correlations["quantity"] == "spearman_cliff"].set_index(["model", "probe", "group"])
    for column, (model, table) in enumerate(models):
        axes[0, column].set_title(model)
        for row, probe in enumerate(probes):
            ax, part = axes[row, column], table[table["probe"] == probe]
            for group, color in COLORS.items():
                own = part[part["group"] == group]
                if own.empty:
                    continue
                rho = found.loc[(model, probe, group)]
                label = f"rho {rho['value']:.2f} [{rho['low']:.2f}, {rho['high']:.2f}], n={rho['n']:.0f}"
                ax.scatter(own["thinking_tokens"], own["cliff"], s=7, color=color, alpha=0.6, linewidths=0, label=label)
            ax.legend(loc="upper left", bbox_to_anchor=(0, -0.12), borderpad=0, handletextpad=0.2, fontsize=7)
            ax.set_ylim(-1.05, 1.05)
            if column == 0:
                ax.set_ylabel(f"cliff\n{probe} probe")
            ax.set_xlabel("thinking tokens", loc="right", fontsize=7, labelpad=-1)
    handles = [
        plt.Line2D([], [], marker="o", linestyle="", color=color, label=group) for group, color in COLORS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def plot_kept_thinking(kept: pd.DataFrame) -> Figure:
    """Rates and final scores against the kept thinking fraction; columns are models.

    Lines join regenerated responses; the open markers at 1 are the model's own, untouched run. Models that did
    not answer anew are left out.

    Args:
        kept: output of `refusal_cliff.cliff_tables.kept_thinking_table`.
    """
    kept = kept[kept["model"].isin(kept.loc[kept["variant"] != "base", "model"])]
    models = list(kept["model"].unique())
    probes = sorted(quantity for quantity in kept["quantity"].unique() if quantity.startswith("final_"))
    colors = dict(zip(probes, PROBE_COLORS, strict=False))
    figure, axes = grid(3, max(1, len(models)))
    for column, model in enumerate(models):
        part = kept[kept["model"] == model]
        axes[0, column].set_title(model)
        for rate, color in RATE_COLORS.items():
            _by_kept(axes[0, column], part[part["quantity"] == rate], RATE_NAMES[rate], color)
        for row, label in ((1, "harmful"), (2, "benign")):
            for probe, color in colors.items():
                own = part[(part["quantity"] == probe) & (part["label"] == label)]
                _by_kept(axes[row, column], own, probe.removeprefix("final_"), color)
        for ax in axes[:, column]:
            ax.set(xlim=(-0.05, 1.08), ylim=(-0.03, 1.03))
        for row in range(3):
            axes[row, column].set_xlabel("kept thinking fraction" if row == 2 else "")
    axes[0, 0].set_ylabel("share of responses")
    axes[1, 0].set_ylabel("final refusal score\nharmful prompts")
    axes[2, 0].set_ylabel("final refusal score\nbenign prompts")
    sizes = [f"{label} n={rows['n'].max()}" for label, rows in kept.groupby("label", sort=False)]
    if len(models):
        axes[0, -1].legend(title=", ".join(sizes), loc="center left", bbox_to_anchor=(1.02, 0.5))
        axes[1, -1].legend(title="probe", loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def _by_kept(ax: Axes, points: pd.DataFrame, label: str, color: str) -> None:
    points = points.sort_values("kept")
    base = points["variant"] == "base"
    # Without a regenerated run at 1, the line ends at the model's own one.
    joined = points if (points["kept"] == 1).sum() == 1 else points[~base]
    errorbars(ax, joined, "kept", label, color)
    for point in points[base].itertuples():
        ax.errorbar(
            1.02,
            point.value,
            yerr=np.clip([[point.value - point.low], [point.high - point.value]], 0, None),
            fmt="s",
            color=color,
            markerfacecolor="white",
            elinewidth=0.9,
            zorder=3,
        )
