"""Figure of plans and actions. Error bars are 95 % intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from refusal_cliff.actions import CHAT
from refusal_cliff.agent_tables import NONE
from refusal_cliff.outcomes import ALL
from refusal_cliff.plots.style import BLUE, GREEN, GREY, PURPLE, VERMILION, errorbars, grid, legend
from refusal_cliff.variants import Variant

QUANTITIES = {
    "mismatch": "run although the\nplan is to decline",
    "run_harmful": "harmful prompts run",
    "run_benign": "benign prompts run",
    "neither": "neither run\nnor declined",
}
COLORS = (VERMILION, BLUE, GREEN, PURPLE)
"""Of tool contexts, in order of appearance; chat is grey."""
WIDTH = 0.6
"""Of the points of one variant, in units of the distance to the next."""


def plot_agent(agent: pd.DataFrame, families: Mapping[str, str]) -> Figure:
    """Shares of prompts by what is planned and done, for each variant; rows are quantities, columns families.

    Each model of a family is a point, in chat and in each tool context. Of random draws their pool is shown.

    Args:
        agent: output of `refusal_cliff.agent_tables.agent_table`.
        families: the family of each model.
    """
    shown = agent[(agent["reference"] == NONE) & (agent["dataset"] == ALL) & ~agent["variant"].map(_is_draw)]
    shown = shown.assign(family=shown["model"].map(families))
    contexts = sorted(shown["context"].unique(), key=lambda name: name != CHAT)
    colors = dict(zip(contexts, (GREY, *COLORS), strict=False))
    names = list(shown["family"].unique())
    figure, axes = grid(len(QUANTITIES), max(1, len(names)))
    for column, family in enumerate(names):
        own = shown[shown["family"] == family]
        variants, models = list(own["variant"].unique()), list(own["model"].unique())
        shifts = WIDTH * (np.arange(len(models) * len(contexts)) / max(1, len(models) * len(contexts) - 1) - 0.5)
        for row, quantity in enumerate(QUANTITIES):
            ax = axes[row, column]
            for place, (context, model) in enumerate((c, m) for c in contexts for m in models):
                part = own[(own["quantity"] == quantity) & (own["context"] == context) & (own["model"] == model)]
                part = part.assign(place=[variants.index(name) + shifts[place] for name in part["variant"]])
                label = None if model != models[0] else "chat" if context == CHAT else f"tool context {context}"
                errorbars(ax, part, "place", label, colors[context], joined=False)
            ax.set(ylim=(-0.03, 1.03), xlim=(-0.6, len(variants) - 0.4))
            last = row == len(QUANTITIES) - 1
            ax.set_xticks(range(len(variants)), [name.replace("-", "\n") for name in variants] if last else [])
            asked = own.loc[(own["quantity"] == quantity) & (own["variant"] == "base"), "n"]
            counts = f"n = {asked.min()}" if asked.min() == asked.max() else f"n = {asked.min()} to {asked.max()}"
            ax.set_title(f"{family}: {counts}" if row == 0 else counts)
            if column == 0:
                ax.set_ylabel(QUANTITIES[quantity])
    legend(figure, axes)
    return figure


def _is_draw(name: str) -> bool:
    """Whether a variant is one draw of a control that has a pool."""
    variant = Variant.parse(name)
    return variant != variant.pool
