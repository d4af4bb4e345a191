"""Figures of ASR, over-refusal, utility and perplexity side by side. Error bars are 95 % intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import seaborn.objects as so
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from refusal_cliff.outcomes import ALL, RATE_NAMES, VULNERABLE
from refusal_cliff.plots import style
from refusal_cliff.variants import pooled_ranking

SHOWN_RATES = ("asr", "over_refusal", "utility")
WITH_PERPLEXITY = (*SHOWN_RATES, "perplexity")
KINDS = {
    "base": "base",
    "ablate": "zero",
    "mean": "benign mean",
    "released": "zero, as released",
    "boundary": "zero, boundary only",
    "restore": "restored, boundary only",
    "scale": "scaled by",
}
"""What is done to heads, in the order of the figure."""
TUNED_ON = style.SELECTORS | {"whole": style.BLACK}
LOOKS = (
    ("harmful", "recognised", "thinking means to refuse", style.BLUE),
    ("harmful", "refused", "refused", style.VERMILION),
    ("benign", "refused", "benign, refused", style.GREY),
)
LINE = 0.18
"""Inches for one line of a forest."""


def plot_ablation(ablation: pd.DataFrame) -> Figure:
    """Rates against the share of heads zeroed, by ranking; rows are rates, columns models, dotted the base model.

    Random controls are the pools of their draws. Models whose heads were not ablated have no panels.

    Args:
        ablation: output of `refusal_cliff.ablation_tables.ablation_table`.
    """
    pooled = _of_rates(ablation, WITH_PERPLEXITY)
    zeroed = pooled[(pooled["kind"] == "ablate") & pooled["ranking"].map(_is_pool)].sort_values("fraction")
    shown = style.ordered(zeroed, "rate", map(RATE_NAMES.get, WITH_PERPLEXITY))
    shown = shown.assign(
        dose=(100 * shown["fraction"]).map("{:g}".format), ranking=shown["ranking"].map(style.ranking_label)
    )
    colors = {
        style.ranking_label(name): color for name, color in style.colors_of(zeroed["ranking"], style.RANKINGS).items()
    }
    doses = dict.fromkeys(f"{100 * fraction:g}" for fraction in zeroed["fraction"])
    layout = {"row": "rate", "col": "model", "x": "% of heads set to zero", "share": {"y": "row"}, "panel": (3.0, 1.6)}
    places = {"x": so.Nominal(order=list(doses))}
    figure, axes = style.estimates(shown, "dose", "ranking", colors, joined=True, limits=None, scales=places, **layout)
    _as_shares(axes)
    _lines(axes, pooled[pooled["kind"] == "base"])
    return figure


def plot_interventions(
    ablation: pd.DataFrame, selection: pd.DataFrame, operating: str, fraction: float, budget: float
) -> Figure:
    """All that was done to a model, side by side: a row of panels for each model, a column for each rate.

    Heads of the operating ranking under every intervention, those of other rankings set to zero, and tunings.

    Args:
        ablation: output of `refusal_cliff.ablation_tables.ablation_table`.
        selection: output of `refusal_cliff.ablation_tables.selection_table`.
        operating: the ranking whose heads every intervention is on.
        fraction, budget: share of heads that these are, and of the pool trained on.
    """
    heads, tuned = _of_rates(ablation, WITH_PERPLEXITY), _tunings(selection)
    at_point = np.isclose(heads["fraction"], fraction) & heads["ranking"].map(_is_pool)
    compared = heads["kind"].isin(["base", "ablate"]) | (heads["ranking"] == operating)
    heads = heads[(at_point | (heads["kind"] == "base")) & compared].sort_values("scale")
    colors = style.colors_of(
        heads["ranking"],
        {"none": style.BLACK, operating: style.RANKINGS.get(operating, style.VERMILION)} | style.RANKINGS,
    )
    heads = style.ordered(style.ordered(heads, "ranking", colors), "kind", KINDS)
    heads = heads.assign(
        what=[_done(row) for row in heads.itertuples()], color=heads["ranking"].astype(str).map(colors)
    )
    tuned = tuned[np.isclose(tuned["budget"], budget) | (tuned["selector"] == "whole")]
    tuned = style.ordered(tuned, "selector", TUNED_ON)
    selector = tuned["selector"].astype(str)
    tuned = tuned.assign(what="tuned: " + selector.replace("whole", "whole pool"), color=selector.map(TUNED_ON))
    both = pd.concat([heads, tuned])
    treated = both.loc[both["what"] != "base", "model"]
    shown = style.ordered(both[both["model"].isin(treated)], "rate", map(RATE_NAMES.get, WITH_PERPLEXITY))
    shown = style.ordered(
        style.ordered(shown, "what", both["what"]), "model", [*ablation["model"], *selection["model"]]
    )
    # Names, not categories: a model has lines for what was done to it, and none for what was done to others.
    shown = shown.astype({"what": str})
    colors = dict(zip(both["what"], both["color"], strict=True))
    lines = shown.groupby("model", observed=True)["what"].nunique()
    # A panel of few lines still has room for the name of its model.
    heights = np.maximum(LINE * lines + 0.2, 0.06 * np.array([len(name) for name in lines.index]))
    panel = (2.4, heights.mean())
    layout = {"row": "model", "col": "rate", "panel": panel, "share": {"x": "col", "y": "row"}}
    figure, axes = style.estimates(shown, "what", "what", colors, level=True, limits=None, **layout)
    for ax in list(axes.values())[:1]:
        ax.get_gridspec().set_height_ratios(heights)
    figure.align_ylabels()
    _as_shares(axes, level=True)
    return figure


def _done(row: NamedTuple) -> str:
    """What was done to the heads of a row of the ablation table."""
    if row.kind == "ablate":
        return f"zero: {style.ranking_label(row.ranking)}"
    return f"scaled by {row.scale:g}" if row.kind == "scale" else KINDS[row.kind]


def plot_selection(selection: pd.DataFrame) -> Figure:
    """Rates after tuning against the number of training examples, by selector; rows are rates, columns models.

    Dotted is the base model, dashed the whole pool.

    Args:
        selection: output of `refusal_cliff.ablation_tables.selection_table`: pools of seeds are shown.
    """
    pooled = _tunings(selection)
    chosen = pooled[~pooled["selector"].isin(["none", "whole"])].sort_values("examples")
    shown = style.ordered(chosen, "rate", map(RATE_NAMES.get, SHOWN_RATES))
    sizes = {"x": so.Nominal(order=[f"{size:g}" for size in chosen["examples"].unique()])}
    shown = shown.assign(size=shown["examples"].map("{:g}".format))
    layout = {"row": "rate", "col": "model", "x": "training examples", "panel": (3.4, 1.9)}
    colors = style.colors_of(chosen["selector"], style.SELECTORS)
    figure, axes = style.estimates(shown, "size", "selector", colors, joined=True, scales=sizes, **layout)
    _as_shares(axes)
    _lines(axes, pooled[pooled["selector"] == "none"])
    _lines(axes, pooled[pooled["selector"] == "whole"], "--")
    return figure


def plot_tuning(selection: pd.DataFrame) -> Figure:
    """Rates along the training, by selector: one row of panels for each model and number of examples.

    Columns are what is not refused of each harmful dataset, and over-refusal. Every curve starts at the base model; the
    whole pool is in every row.

    Args:
        selection: as for `plot_selection`, with steps.
    """
    pooled = selection[selection["seed"].astype(str) == ALL]
    harmful = (pooled["rate"] == "not_refused") & ~pooled["dataset"].isin([ALL, VULNERABLE])
    pooled = pooled[harmful | ((pooled["rate"] == "over_refusal") & (pooled["dataset"] == ALL))]
    chosen = pooled[~pooled["selector"].isin(["none", "whole"])]
    parts = []
    for (model, examples), part in chosen.groupby(["model", "examples"], sort=False):
        own = pooled[pooled["model"] == model]
        whole, base = (own[own["selector"] == selector] for selector in ("whole", "none"))
        trained = pd.concat([part, whole])
        starts = [base.assign(selector=selector) for selector in trained["selector"].unique()]
        parts.append(pd.concat([*starts, trained]).assign(row=f"{model}\n{examples:g} examples"))
    shown = style.ordered(pd.concat(parts) if parts else chosen.assign(row=""), "rate", ("not_refused", "over_refusal"))
    shown = shown.assign(col=shown["dataset"] + ": " + shown["rate"].astype(str).map(RATE_NAMES))
    steps = {"x": so.Nominal(order=[f"{step:g}" for step in sorted(shown["steps"].unique())])}
    shown = shown.assign(step=shown["steps"].map("{:g}".format))
    layout = {"row": "row", "col": "col", "x": "steps", "panel": (2.8, 1.7)}
    colors = style.colors_of(shown["selector"], TUNED_ON)
    figure, axes = style.estimates(shown, "step", "selector", colors, joined=True, scales=steps, **layout)
    _as_shares(axes)
    return figure


def plot_kept_thinking(kept: pd.DataFrame) -> Figure:
    """Rates, and final scores by probe, against the kept thinking fraction; columns are models that answered anew.

    Args:
        kept: output of `refusal_cliff.cliff_tables.kept_thinking_table`.
    """
    kept = kept[kept["model"].isin(kept.loc[kept["variant"] != "base", "model"])]
    rows = {"asr": "ASR", "over_refusal": "Over-refusal"}
    score = "final score\n" + kept["label"] + " prompts"
    shown = kept.assign(
        row=kept["quantity"].map(rows).fillna(score),
        by=kept["quantity"].str.removeprefix("final_").where(kept["quantity"].str.startswith("final_"), "responses"),
        share=kept["kept"].map("{:g}".format).where(kept["variant"] != "base", "own run"),
    )
    shown = style.ordered(shown, "row", [*rows.values(), "final score\nharmful prompts", "final score\nbenign prompts"])
    shown = shown.assign(row=shown["row"].astype(str))[shown["quantity"] != "refusal"]
    shares = {"x": so.Nominal(order=[*sorted(set(shown["share"]) - {"own run"}, key=float), "own run"])}
    colors = {"responses": style.BLACK} | style.colors_of(shown.loc[shown["by"] != "responses", "by"], style.PROBES)
    layout = {"row": "row", "col": "model", "x": "kept thinking fraction", "panel": (3.0, 1.6)}
    return style.estimates(shown, "share", "by", colors, joined=True, scales=shares, **layout)[0]


def plot_finetuning(looks: pd.DataFrame) -> Figure:
    """Shares of watched prompts along fine-tuning; a panel for each family.

    A thin line is one model, the thick one the mean of its family.

    Args:
        looks: output of `refusal_cliff.looks_table.looks_table`.
    """
    names = {(label, quantity): name for label, quantity, name, _ in LOOKS}
    pairs = zip(looks["label"], looks["quantity"], strict=True)
    shown = looks.assign(name=[names.get(pair) for pair in pairs]).dropna(subset=["name", "value"])
    colors = {name: color for *_, name, color in LOOKS}
    plot = so.Plot(shown.reset_index(drop=True), x="step", y="value", color="name").scale(color=style.named(colors))
    plot = plot.add(so.Line(linewidth=0.7, alpha=0.5), group="model", legend=False)
    plot = plot.add(so.Line(marker="o", pointsize=4), so.Agg(), legend=False).limit(y=style.SHARE)
    figure, axes = style.panels(plot, shown, col="family", x="step", y="share of prompts")
    for (_, family), ax in axes.items():
        own = looks[looks["family"] == family]
        n = ", ".join(f"{count} {label}" for label, count in own.groupby("label")["n"].max().items())
        ax.set(title=f"{family} ({own['model'].nunique()} models)", xlabel=f"step (n = {n})")
    style.legend(figure, colors)
    return figure


def _of_rates(table: pd.DataFrame, rates: Sequence[str]) -> pd.DataFrame:
    """The rows over all datasets, of some rates, which have the names that people call them by."""
    chosen = table[(table["dataset"] == ALL) & table["rate"].isin(rates)]
    return chosen.assign(rate=chosen["rate"].map(RATE_NAMES))


def _tunings(selection: pd.DataFrame) -> pd.DataFrame:
    """Rates of the base models and of finished tunings: the pools of their seeds."""
    finished = (selection["steps"] == selection["steps"].max()) | (selection["selector"] == "none")
    return _of_rates(selection[finished & (selection["seed"].astype(str) == ALL)], SHOWN_RATES)


def _is_pool(ranking: str) -> bool:
    """Whether a ranking is not a single draw of a control."""
    return pooled_ranking(ranking) == ranking


def _as_shares(axes: style.Panels, *, level: bool = False) -> None:
    """Percent on the axes of all rates; perplexity is none."""
    for names, ax in axes.items():
        if RATE_NAMES["perplexity"] not in names:
            (ax.xaxis if level else ax.yaxis).set_major_formatter(PercentFormatter(1))
            (ax.set_xlim if level else ax.set_ylim)(style.SHARE)


def _lines(axes: style.Panels, table: pd.DataFrame, dashes: str = ":") -> None:
    """A line at the value of each panel's rate and model."""
    for row in table.itertuples():
        if ax := axes.get((row.rate, row.model)):
            ax.axhline(row.value, color=style.BLACK, linewidth=0.9, linestyle=dashes, zorder=0)
