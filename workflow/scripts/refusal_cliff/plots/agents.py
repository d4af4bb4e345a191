"""Figure of plans and actions. Error bars are 95 % intervals."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from refusal_cliff.actions import CHAT
from refusal_cliff.agent_tables import NONE
from refusal_cliff.outcomes import ALL
from refusal_cliff.plots import style
from refusal_cliff.variants import Variant

QUANTITIES = {
    "mismatch": "run although the\nplan is to decline",
    "run_harmful": "harmful prompts run",
    "run_benign": "benign prompts run",
    "neither": "neither run\nnor declined",
}
COLORS = (style.VERMILION, style.BLUE, style.GREEN, style.PURPLE)
"""Of tool contexts, in order of appearance; chat is grey."""


def plot_agent(agent: pd.DataFrame, families: Mapping[str, str]) -> Figure:
    """Shares of prompts by what is planned and done, for each variant; rows are quantities, columns families.

    Each model of a family is a point, in chat and in each tool context. Of random draws their pool is shown.

    Args:
        agent: output of `refusal_cliff.agent_tables.agent_table`.
        families: the family of each model.
    """
    shown = agent[(agent["reference"] == NONE) & (agent["dataset"] == ALL) & ~agent["variant"].map(_is_draw)]
    contexts = sorted(shown["context"].unique(), key=lambda name: name != CHAT)
    names = {name: "chat" if name == CHAT else f"tool context {name}" for name in contexts}
    shown = style.ordered(shown.assign(row=shown["quantity"].map(QUANTITIES)), "row", QUANTITIES.values())
    shown = shown.assign(
        family=shown["model"].map(families),
        context=shown["context"].map(names),
        at=shown["variant"].str.replace("-", "\n"),
    )
    colors = dict(zip(names.values(), (style.GREY, *COLORS), strict=False))
    layout = {"row": "row", "col": "family", "panel": (2.9, 1.7)}
    figure, axes = style.estimates(shown, "at", "context", colors, group="model", **layout)
    for (row, family), ax in axes.items():
        own = shown[(shown["family"] == family) & (shown["variant"] == "base") & (shown["row"] == row)]["n"]
        ax.set_title(f"{family}: n={own.min()} to {own.max()}" if row == QUANTITIES["mismatch"] else "")
    return figure


def _is_draw(name: str) -> bool:
    """Whether a variant is one draw of a control that has a pool."""
    variant = Variant.parse(name)
    return variant != variant.pool
