"""Figures of refusal scores along traces.

Rows of panels are probes, columns are models. Shaded bands are 95 % intervals.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from refusal_cliff.cliff_tables import last_layer
from refusal_cliff.outcomes import traces_by_group
from refusal_cliff.plots.style import BLUE, GREEN, GREY, PANEL, VERMILION, grid, layer_ticks, plt
from refusal_cliff.stats import bootstrap_means
from refusal_cliff.tables import by_model

COLORS = {"harmful, complied": VERMILION, "harmful, refused": BLUE, "benign": GREEN}


def plot_curves(cliffs: pd.DataFrame, outcomes: pd.DataFrame, tail: int, seed: int) -> Figure:
    """Refusal score along the thinking and through the boundary, at each probe's last layer; rows are probes.

    Args:
        cliffs: model and the columns of cliff tables, of base models on the test prompts.
        outcomes: outcomes of all models and variants.
        tail: thinking tokens in front of the boundary in `boundary_curve`.
    """
    models, probes = list(cliffs["model"].unique()), sorted(cliffs["probe"].unique())
    grouped = _grouped(cliffs, outcomes)
    figure, axes = _pairs(models, len(probes))
    for column, model in enumerate(models):
        for row, probe in enumerate(probes):
            thinking, boundary = axes[row, 2 * column : 2 * column + 2]
            part = grouped[(grouped["model"] == model) & (grouped["probe"] == probe)]
            _draw_pair(thinking, boundary, part, tail, seed)
        axes[-1, 2 * column].legend(loc="upper left", bbox_to_anchor=(0, -0.3), borderpad=0, handlelength=1.2)
    for row, probe in enumerate(probes):
        axes[row, 0].set_ylabel(f"refusal score\n{probe} probe")
    return figure


def plot_family_curves(cliffs: pd.DataFrame, outcomes: pd.DataFrame, probe: str, tail: int, seed: int) -> Figure:
    """The curves of one probe on harmful prompts; rows are attack families. Other arguments as for `plot_curves`."""
    grouped = _grouped(cliffs, outcomes)
    harmful = grouped[grouped["label"] == "harmful"]
    models, families = list(cliffs["model"].unique()), sorted(harmful["family"].unique())
    own = harmful[harmful["probe"] == probe]
    figure, axes = _pairs(models, max(1, len(families)))
    for column, model in enumerate(models):
        for row, family in enumerate(families):
            thinking, boundary = axes[row, 2 * column : 2 * column + 2]
            part = own[(own["model"] == model) & (own["family"] == family)]
            _draw_pair(thinking, boundary, part, tail, seed)
            thinking.set(ylim=(-0.02, 1.3), yticks=[0, 0.5, 1])  # room for the legend
            thinking.legend(loc="upper left", fontsize=6, borderpad=0.1, labelspacing=0.1, handlelength=1)
    for row, family in enumerate(families):
        axes[row, 0].set_ylabel(f"refusal score\n{family.replace('_', ' ')}")
    return figure


@by_model
def _grouped(cliffs: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Last-layer cliffs with the columns group, family and label."""
    described = outcomes.drop_duplicates("prompt_id")[["prompt_id", "family", "label"]]
    return traces_by_group(last_layer(cliffs), outcomes).merge(described, on="prompt_id")


def _pairs(models: list[str], rows: int) -> tuple[Figure, np.ndarray]:
    """Rows of panels with two columns for each model: the thinking, and the boundary."""
    width, height = PANEL
    figure, axes = plt.subplots(
        rows,
        2 * len(models),
        figsize=(1.25 * width * len(models), height * rows + 1.0),
        sharey=True,
        squeeze=False,
        gridspec_kw={"width_ratios": [2, 1.1] * len(models)},
    )
    for column, model in enumerate(models):
        axes[0, 2 * column].set_title(model, loc="left", fontweight="bold")
        axes[0, 2 * column + 1].set_title("boundary", fontsize=8, color=GREY)
        axes[-1, 2 * column].set_xlabel("share of thinking")
        axes[-1, 2 * column + 1].set_xlabel("tokens to last")
    return figure, axes


def _draw_pair(thinking: Axes, boundary: Axes, cliffs: pd.DataFrame, tail: int, seed: int) -> None:
    """Mean curves of each group with their bands, over the thinking and through the boundary."""
    for group, color in COLORS.items():
        part = cliffs[cliffs["group"] == group]
        if part.empty:
            continue
        label = f"{group} (n={part['prompt_id'].nunique()})"
        _band(thinking, part["curve"], part["request_id"], (0, 1), label, color, seed)
        tokens = len(part["boundary_curve"].iloc[0])
        _band(boundary, part["boundary_curve"], part["request_id"], (1 - tokens, 0), None, color, seed)
        boundary.set_xlim(1 - tokens, 0.3)
        boundary.axvspan(tail + 0.5 - tokens, 0.3, color="0.9", zorder=0, linewidth=0)
    boundary.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    thinking.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    thinking.set_xticks([0, 0.5, 1])


def _band(
    ax: Axes,
    curves: pd.Series,
    requests: pd.Series,
    ends: tuple[float, float],
    label: str | None,
    color: str,
    seed: int,
) -> None:
    mean, low, high, _ = np.transpose(bootstrap_means(np.stack(curves.to_list()), seed, requests))
    x = np.linspace(*ends, len(mean))
    ax.plot(x, mean, color=color, label=label)
    ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def plot_layers(cliffs: pd.DataFrame, outcomes: pd.DataFrame, tail: int) -> Figure:
    """Mean refusal score by layer and position: thinking (normalised), then its last tokens and the boundary.

    Over the harmful prompts that the model complied with; for a model that complied with none, over all harmful ones.
    Arguments as for `plot_curves`.
    """
    probes, models = sorted(cliffs["probe"].unique()), cliffs.groupby("model", sort=False)
    figure, axes = grid(len(probes), len(models))
    image = None
    for column, (model, table) in enumerate(models):
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
            points, tokens = len(part["curve"].iloc[0]), len(part["boundary_curve"].iloc[0])
            means = np.stack([_mean_positions(part[part["layer"] == layer]) for layer in layers])
            image = ax.imshow(means, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1)
            ax.axvline(points - 0.5, color="white", linewidth=1)
            ax.axvline(points + tail - 0.5, color="white", linewidth=1, linestyle=":")
            ax.set_xticks(
                [0, (points - 1) / 2, points - 1, points + tokens - 1],
                ["0", "0.5", "1", "last"] if row == len(probes) - 1 else [],
            )
            ax.set_yticks(*layer_ticks(layers))
            ax.grid(visible=False)
            if column == 0:
                ax.set_ylabel(f"layer\n{probe} probe")
            if row == len(probes) - 1:
                ax.set_xlabel("share of thinking | tail : boundary")
    if image is not None:
        figure.colorbar(image, ax=axes, label="mean refusal score", shrink=0.8)
    return figure


def plot_changes(changes: pd.DataFrame, probe: str, families: Mapping[str, str]) -> Figure:
    """Mean change of the refusal score by layer and position, on harmful prompts that the parent refused.

    Args:
        changes: output of `refusal_cliff.changes.change_table`.
        probe: the parent's, that reads both.
        families: the family of each model; a panel is the mean over the models of one.
    """
    chosen = changes[(changes["probe"] == probe) & (changes["quantity"] == "change") & (changes["position"] != "rise")]
    chosen = chosen[chosen["group"] == "harmful, parent refused"].assign(family=changes["model"].map(families))
    order = list(chosen["position"].unique())
    panels = list(chosen.groupby("family", sort=False))
    figure, axes = grid(1, max(1, len(panels)))
    image = None
    for ax, (family, part) in zip(axes[0], panels, strict=False):
        means = part.pivot_table(index="layer", columns="position", values="value")[order]
        image = ax.imshow(means, origin="lower", aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
        sizes = part.groupby("model")["n"].max()
        ax.set_title(f"{family}, {len(sizes)} models\n{sizes.min()} to {sizes.max()} prompts each")
        ax.set_xticks(range(len(order)), [name.split()[-1] for name in order])
        ax.set_yticks(*layer_ticks(list(means.index)))
        ax.set_xlabel("part of thinking | boundary token")
        ax.axvline(sum(name.startswith("thinking") for name in order) - 0.5, color="0.3", linewidth=1)
        ax.grid(visible=False)
    axes[0, 0].set_ylabel("layer")
    if image is not None:
        figure.colorbar(image, ax=axes, label="change of the refusal score", shrink=0.8)
    return figure


def _mean_positions(part: pd.DataFrame) -> np.ndarray:
    """Mean over traces of curve and boundary_curve, joined: [position]. A tail no trace is long enough for is NaN."""
    positions = np.hstack([np.stack(part[column].to_list()) for column in ("curve", "boundary_curve")])
    mean = np.full(positions.shape[1], np.nan)
    seen = ~np.isnan(positions).all(axis=0)
    mean[seen] = np.nanmean(positions[:, seen], axis=0)
    return mean
