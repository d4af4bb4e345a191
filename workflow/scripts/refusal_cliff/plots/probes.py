"""Figures of what probes are worth: columns are models. Error bars are 95 % intervals."""

from collections.abc import Mapping

import pandas as pd
import seaborn.objects as so
from matplotlib.figure import Figure

from refusal_cliff.plots import style

ACCURACIES = {
    ("held_out", "accuracy"): ("held out", style.BLUE),
    ("test", "accuracy"): ("test prompts", style.GREEN),
    ("held_out", "control_accuracy"): ("shuffled labels, held out", style.GREY),
}
METHODS = {"logistic": ("logistic regression", style.BLUE), "mean_difference": ("difference of means", style.VERMILION)}
DATA = {"held_out": "held out", "test": "test prompts"}
SIZES = (3, 10)
"""Diameters of the points of a calibration curve with the fewest and with the most requests."""


def plot_probe_positions(probes: pd.DataFrame) -> Figure:
    """AUROC of every probe on the test prompts, position by position.

    Args:
        probes: output of `refusal_cliff.probe_evaluation.probe_table`.
    """
    own = _at_last_layer(probes)
    own = own[(own["data"] == "test") & (own["quantity"] == "auroc") & (own["method"] == "logistic")]
    shown = style.ordered(own, "position", _along(own["position"]))
    layout = {"col": "model", "x": "position", "y": "AUROC", "panel": (3.6, 3.0), "share": {"x": False}}
    figure, axes = style.estimates(
        shown, "position", "probe", style.colors_of(shown["probe"], style.PROBES), joined=True, **layout
    )
    style.reference(axes, 0.5)
    for (_, model), ax in axes.items():
        places = shown[shown["model"] == model].drop_duplicates("position").sort_values("position")
        names = places["token"].map(style.token_label, na_action="ignore").fillna(places["position"].astype(str))
        ax.set_xticks(places["position"].cat.codes, names.replace("last_prompt", "prompt"))
        style.turn_tokens(ax)
    return figure


def plot_probe_accuracy(probes: pd.DataFrame) -> Figure:
    """Accuracy of every probe at its own positions: held out, on other prompts, and of a control with shuffled labels.

    Args:
        probes: as for `plot_probe_positions`.
    """
    own = _at_own_positions(probes)
    pairs = zip(own["data"], own["quantity"], strict=True)
    own = own.assign(over=[ACCURACIES.get(pair, (None,))[0] for pair in pairs])
    own = own[own["over"].notna() & (own["method"] == "logistic")]
    figure, axes = _by_probe(own, dict(ACCURACIES.values()), "accuracy", style.SHARE)
    style.reference(axes, 0.5, level=True)
    return figure


def plot_probe_directions(probes: pd.DataFrame) -> Figure:
    """Cosine of every probe, and of the difference of its class means, with the direction of the next token's logit.

    Args:
        probes: as for `plot_probe_positions`.
    """
    own = _at_own_positions(probes)
    own = own[own["quantity"] == "cosine_logit"].assign(over=own["method"].map({k: v[0] for k, v in METHODS.items()}))
    figure, axes = _by_probe(own.dropna(subset="over"), dict(METHODS.values()), "cosine with logit direction", (-1, 1))
    style.reference(axes, 0.0, level=True)
    for ax in axes.values():
        ax.set_xticks([-1, -0.5, 0, 0.5, 1])
    return figure


def plot_calibration(calibration: pd.DataFrame) -> Figure:
    """Observed share of positive positions where a probe predicts it; rows are held-out and test prompts.

    The area of a point grows with its requests.

    Args:
        calibration: calibration table of `tabulate_probes`.
    """
    table = style.with_intervals(
        style.ordered(calibration.assign(row=calibration["data"].map(DATA)), "row", DATA.values())
    )
    colors = style.colors_of(table["probe"], style.PROBES)
    ends = {"ymin": "low", "ymax": "high"}
    plot = so.Plot(table, x="predicted", y="observed", color="probe", pointsize="n", **ends)
    plot = plot.scale(color=style.named(colors), pointsize=SIZES).limit(x=style.SHARE, y=style.SHARE)
    plot = plot.add(so.Range(linewidth=0.9), orient="x", legend=False, pointsize=None)
    plot = plot.add(so.Dot(alpha=0.8), legend=False, **dict.fromkeys(ends))
    figure, axes = style.panels(plot, table, "row", "model", x="predicted probability", panel=(2.8, 2.6))
    style.diagonal(axes)
    few, most = (f"n={table['n'].agg(name)}" for name in ("min", "max"))
    looks = dict(
        zip((few, most), ({"color": style.GREY, "marker": "o", "markersize": size} for size in SIZES), strict=True)
    )
    style.legend(figure, colors, **looks)
    return figure


def _by_probe(
    table: pd.DataFrame, colors: Mapping[str, str], x: str, limits: tuple[float, float]
) -> tuple[Figure, style.Panels]:
    """A forest with a line for each probe, with its largest n, and a colour for each value of column `over`."""
    names = style.colors_of(table["probe"], style.PROBES)
    shown = style.ordered(table, "probe", names)
    shown = shown.assign(line=style.with_n(shown, "probe"))
    layout = {"col": "model", "x": x, "panel": (2.8, 0.4 * len(names) + 0.5)}
    return style.estimates(shown, "line", "over", colors, level=True, limits=limits, **layout)


def _at_last_layer(probes: pd.DataFrame) -> pd.DataFrame:
    return probes[probes["last_layer"] & (probes["truth"] == "label")]


def _at_own_positions(probes: pd.DataFrame) -> pd.DataFrame:
    """What is measured of each probe in its last layer where it was trained."""
    own = _at_last_layer(probes)
    trained = own[own["quantity"] == "C"].drop_duplicates("probe").set_index("probe")["position"]
    return own[own["position"] == own["probe"].map(trained)]


def _along(positions: pd.Series) -> list[str]:
    """Places in the order of a trace: last_prompt, thinking 1/5 …, boundary -3 …, last_boundary."""
    found = positions.unique()
    thinking = sorted(place for place in found if place.startswith("thinking "))
    boundary = sorted(
        (place for place in found if place.startswith("boundary ")), key=lambda place: int(place.split()[1])
    )
    return ["last_prompt", *thinking, *boundary, "last_boundary"]
