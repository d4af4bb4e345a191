"""Figure of repairs side by side. Error bars are 95 % intervals."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from refusal_cliff.outcomes import ALL, RATE_NAMES
from refusal_cliff.plots import style
from refusal_cliff.repairs import NONE, is_control

KIND_COLORS = {
    "ablate": style.VERMILION,
    "minimal": style.ORANGE,
    "first": style.PURPLE,
    "steer": style.BLUE,
    "tune": style.GREEN,
    "both": style.SKY,
}


def plot_repairs(repairs: pd.DataFrame, matched: pd.DataFrame, families: Mapping[str, str]) -> Figure:
    """A row of panels for each family: every dose of every repair, and repairs at equal over-refusal.

    Left: share not refused of harmful prompts against over-refusal, means over the models of the family, doses of a
    repair joined, from the base model (black) on; controls are grey. Right: share not refused at the largest dose
    within the operating bound (the dotted line on the left), over the seeds of the family, with the mean dose; what one
    would pick is set in bold.

    Args:
        repairs, matched: output of `refusal_cliff.repairs.repair_table` and `matched_table`, the latter with `picked`.
        families: the family of each model.
    """
    doses = repairs.assign(family=repairs["model"].map(families))
    doses = doses[doses["rate"].isin(["not_refused", "over_refusal"])]
    doses = doses.pivot_table(index=["family", "repair", "dose"], columns="rate", values="value").reset_index()
    chosen = matched[(matched["model"] == ALL) & matched["operating"] & (matched["against"] == NONE)]
    chosen = style.with_intervals(chosen[chosen["rate"] == "not_refused"])
    shown = list(chosen["family"].unique()) or [""]
    heights = [max(4, int((chosen["family"] == family).sum())) for family in shown]
    size = style.canvas(1, 1, (8.0, sum(0.24 * height + 0.5 for height in heights)))
    figure, axes = style.plt.subplots(len(shown), 2, figsize=size, height_ratios=heights, squeeze=False)
    for (left, right), family in zip(axes, shown, strict=True):
        own = chosen[chosen["family"] == family].sort_values("value", ascending=False, kind="stable")
        curves = doses[doses["family"] == family]
        base = curves[curves["repair"] == NONE]
        for repair, curve in curves[curves["repair"] != NONE].groupby("repair", sort=False):
            points = pd.concat([base, curve.sort_values("dose")])
            look = {"color": _color(repair), "alpha": 0.8, "markersize": 3}
            left.plot(points["over_refusal"], points["not_refused"], "o-", **look)
        left.plot(base["over_refusal"], base["not_refused"], "o", color="black")
        left.set(title=family, xlabel=RATE_NAMES["over_refusal"], ylabel=RATE_NAMES["not_refused"])
        for bound in own["bound"].unique():
            left.axvline(bound, color=style.GREY, linestyle=":", linewidth=1)
        for place, row in enumerate(own.itertuples()):
            right.plot([row.low, row.high], [place, place], color=_color(row.repair), linewidth=1)
            right.plot(row.value, place, "o", color=_color(row.repair))
        right.yaxis.tick_right()  # first: labels of the other side are other labels
        right.set_yticks(range(len(own)), [f"{row.repair}, {row.dose:.3g}" for row in own.itertuples()])
        for label, picked in zip(right.get_yticklabels(), own["picked"], strict=True):
            label.set_fontweight("bold" if picked else "normal")
        right.set(ylim=(-0.5, len(own) - 0.5), xlabel=f"{RATE_NAMES['not_refused']}, at equal over-refusal")
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            axis.set_major_formatter(PercentFormatter(1))
        left.set(xlim=style.SHARE, ylim=style.SHARE)
        right.set_xlim(style.SHARE)
    return figure


def _color(repair: str) -> str:
    return style.GREY if is_control(repair) else KIND_COLORS.get(repair.partition(" ")[0], "black")
