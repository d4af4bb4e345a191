"""Figure of attacks that were searched on one model and carried to others."""

import pandas as pd
from matplotlib.figure import Figure

from refusal_cliff.attack_search import SEARCHED
from refusal_cliff.plots.style import GREY, plt

CELL = (0.55, 0.42)
"""Width and height of one cell in inches."""


def plot_transfer(transfer: pd.DataFrame) -> Figure:
    """Gain over random wrappers, source by target, a panel for each objective; the number in a cell is T.

    Sources themselves are framed. A cell has no number where the source does not gain enough for a T.

    Args:
        transfer: output of `transfer.transfer_table`.
    """
    order = {"sparse": 0, "open": 1, "control": 2}
    targets = transfer[["target", "kind"]].drop_duplicates()
    targets = targets.sort_values("kind", key=lambda kind: kind.map(order), kind="stable")["target"].tolist()
    sources = transfer["source"].unique().tolist()
    kinds = transfer.groupby("target")["kind"].first()
    width, height = CELL[0] * len(targets) + 2.2, len(SEARCHED) * (CELL[1] * len(sources) + 0.5) + 1.2
    figure, axes = plt.subplots(len(SEARCHED), 1, figsize=(width, height), sharex=True, squeeze=False)
    for ax, objective in zip(axes[:, 0], SEARCHED, strict=True):
        own = transfer[transfer["objective"] == objective]
        gains, ratios = (
            own[own["quantity"] == quantity]
            .pivot_table(index="source", columns="target", values="value", dropna=False)
            .reindex(index=sources, columns=targets)
            for quantity in ("gain", "transfer")
        )
        image = ax.imshow(gains.to_numpy(dtype=float), aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1)
        for row, source in enumerate(sources):
            for column, target in enumerate(targets):
                if source == target:
                    ax.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="black", lw=1.3))
                value = ratios.loc[source, target]
                if pd.notna(value):
                    color = "white" if abs(gains.loc[source, target]) > 0.6 else "black"
                    ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
        ax.grid(visible=False)
        ax.set_yticks(range(len(sources)), sources)
        ax.set_title(f"searched by {objective}")
        figure.colorbar(image, ax=ax, pad=0.02, label="gain")
    labels = [f"{target} ({kinds[target]})" for target in targets]
    axes[-1, 0].set_xticks(range(len(targets)), labels, rotation=60, ha="right")
    figure.suptitle("gain: share answered minus that under random wrappers; number: T", fontsize=9, color=GREY)
    return figure
