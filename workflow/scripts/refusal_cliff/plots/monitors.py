"""Figure of monitors: which of them foresee a harmful response?"""

import pandas as pd
from matplotlib.figure import Figure

from refusal_cliff.monitors import POPULATIONS
from refusal_cliff.plots.style import BLUE, GREEN, GREY, PANEL, PURPLE, SKY, VERMILION, plt

COLORS = {"thinking, guard": SKY, "thinking, phrases": GREY}
PROBE_COLORS = {"plateau": GREEN, "plateau mean": PURPLE, "final": BLUE, "cliff": VERMILION}


def plot_monitors(monitors: pd.DataFrame, curves: pd.DataFrame, probe: str) -> Figure:
    """ROC curves of the monitors of one probe and of those that read the thinking; rows are populations.

    Args:
        monitors: output of `refusal_cliff.monitors.monitor_table`; its AUROC is written beside each curve.
        curves: output of `refusal_cliff.monitors.monitor_curves`.
    """
    colors = COLORS | {f"{kind}, {probe}": color for kind, color in PROBE_COLORS.items()}
    models = list(monitors["model"].unique())
    width, height = PANEL
    figure, axes = plt.subplots(
        len(POPULATIONS),
        max(1, len(models)),
        figsize=(width * max(1, len(models)) + 0.4, (height + 1.5) * len(POPULATIONS)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for column, model in enumerate(models):
        for row, population in enumerate(POPULATIONS):
            ax = axes[row, column]
            ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.8)
            ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            own = monitors[(monitors["model"] == model) & (monitors["population"] == population)]
            positives = own.loc[own["quantity"].str.startswith("tpr"), "n"].max()
            ax.set_title(f"{model}: {population}\n({positives:.0f} harmful responses)")
            drawn = (own["quantity"] == "auroc") & own["monitor"].isin(list(colors)) & own["low"].notna()
            for point in own[drawn].itertuples():
                curve = curves[
                    (curves["model"] == model)
                    & (curves["population"] == population)
                    & (curves["monitor"] == point.monitor)
                ]
                name = point.monitor.removesuffix(f", {probe}")
                label = f"{name}: {point.value:.2f} [{point.low:.2f}, {point.high:.2f}], n={point.n}"
                ax.plot(curve["fpr"], curve["tpr"], color=colors[point.monitor], label=label, linewidth=1.3)
            if drawn.any():
                ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), borderpad=0, handlelength=1.2, fontsize=7)
            ax.set_xlabel("false positive rate")
    for ax in axes[:, 0]:
        ax.set_ylabel("true positive rate")
    return figure
