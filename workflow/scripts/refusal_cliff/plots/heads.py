"""Figures of attention heads: columns are models."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from refusal_cliff.plots.style import GREY, grid, layer_ticks


def plot_heads(
    rankings: Mapping[str, Mapping[str, pd.DataFrame]], planted: Mapping[str, Sequence[Sequence[int]]]
) -> Figure:
    """Effect of every head on the refusal logit, layer by head; planted heads are ringed.

    Args:
        rankings: ranking -> model -> table with layer, head, effect.
        planted: heads [[layer, head], …] by model, for the models where they are known.
    """
    models = list(next(iter(rankings.values())))
    figure, axes = grid(len(rankings), len(models))
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
            ax.set_yticks(*layer_ticks(list(effects.index)))
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
