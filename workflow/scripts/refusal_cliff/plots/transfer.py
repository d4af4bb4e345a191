"""Figure of attacks that were searched on one model and carried to others."""

import pandas as pd
from matplotlib.figure import Figure

from refusal_cliff.attack_search import SEARCHED
from refusal_cliff.plots import style

ORDER = {"sparse": 0, "open": 1, "control": 2}
"""Of targets, by what they are."""


def plot_transfer(transfer: pd.DataFrame) -> Figure:
    """Gain over random wrappers, source by target, a panel for each objective; the number in a cell is T.

    Sources themselves are framed. A cell has no number where the source does not gain enough for a T.

    Args:
        transfer: output of `transfer.transfer_table`.
    """
    kinds = (
        transfer.groupby("target", sort=False)["kind"]
        .first()
        .sort_values(key=lambda kind: kind.map(ORDER), kind="stable")
    )
    sources = list(transfer["source"].unique())
    size = style.canvas(1, len(SEARCHED), (0.55 * len(kinds) + 2.2, 0.42 * len(sources) + 0.7))
    figure, axes = style.plt.subplots(len(SEARCHED), 1, figsize=size, sharex=True, squeeze=False)
    for ax, objective in zip(axes[:, 0], SEARCHED, strict=True):
        own = transfer[transfer["objective"] == objective]
        gains, ratios = (
            own[own["quantity"] == quantity]
            .pivot_table(index="source", columns="target", values="value", dropna=False)
            .reindex(index=sources, columns=kinds.index)
            for quantity in ("gain", "transfer")
        )
        texts = ratios.map("{:.2f}".format, na_action="ignore").fillna("")
        look = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1, "cbar_kws": {"label": "gain", "pad": 0.02}}
        style.sns.heatmap(gains.astype(float), ax=ax, annot=texts, fmt="", annot_kws={"size": 7}, **look)
        for source in sources:
            at = (kinds.index.get_loc(source), sources.index(source))
            ax.add_patch(style.plt.Rectangle(at, 1, 1, fill=False, ec="black", lw=1.3))
        ax.set(title=f"searched by {objective}", xlabel="", ylabel="")
    axes[-1, 0].set_xticklabels([f"{target} ({kind})" for target, kind in kinds.items()], rotation=60, ha="right")
    return figure
