"""Write what `run.py` measured into docs/speed.md, between its markers, and draw docs/speed.svg."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import linregress

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
SETTING = ["tokens", "prompts", "heads", "layers"]
FLOOR = {"scoring": "bare pass", "ranking": "bare pass", "generation": "unedited"}
SCORED, ZEROED, REPLACED = "scores, cliffs and tables", "heads zeroed", "heads replaced"
GOALS = [("scoring", SCORED, "speed", tokens, 0.95) for tokens in (128, 512, 2048)]
GOALS += [("ranking", "boundary", "passes", 512, 2.5), ("ranking", "boundary", "passes", 2048, 1.5)]
GOALS += [("generation", method, "speed", 128, 0.95) for method in (ZEROED, REPLACED)]
"""Experiment, method, what is measured of it (speed over the floor, or time in passes of the floor), tokens, bound."""


def ratios(timings: pd.DataFrame) -> pd.DataFrame:
    """Each method's time over the floor's of the same round: median, least and most over rounds.

    Returns:
        experiment, tokens, prompts, method, seconds (median), passes, passes_low, passes_high, rounds; and speed, the
        inverse of passes.
    """
    own = timings[timings["experiment"].isin(FLOOR)]
    floor = own[own["method"] == own["experiment"].map(FLOOR)].drop(columns="method")
    keys = ["experiment", *SETTING, "round"]
    own = own.merge(floor, on=keys, suffixes=("", "_floor"), validate="many_to_one")
    groups = own.assign(passes=own["seconds"] / own["seconds_floor"]).groupby(
        ["experiment", "tokens", "prompts", "method"], sort=False
    )
    table = groups.agg(
        passes=("passes", "median"),
        passes_low=("passes", "min"),
        passes_high=("passes", "max"),
        rounds=("passes", "count"),
        seconds=("seconds", "median"),
    ).reset_index()
    return table.assign(
        speed=1 / table["passes"], speed_low=1 / table["passes_high"], speed_high=1 / table["passes_low"]
    )


def ranged(row: pd.Series, name: str) -> str:
    """Median and range of a number as text."""
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


def goal_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Each goal, what was measured, and whether the median meets it."""
    goals = pd.DataFrame(GOALS, columns=["experiment", "method", "of", "tokens", "bound"])
    found = goals.merge(measured, on=["experiment", "method", "tokens"], validate="one_to_one")
    fast = found["of"] == "speed"
    met = np.where(fast, found["speed"] >= found["bound"], found["passes"] <= found["bound"])
    return pd.DataFrame(
        {
            "what": found["experiment"] + ": " + found["method"],
            "tokens": found["tokens"],
            "goal": np.where(fast, "speed at least ", "passes at most ") + found["bound"].astype(str),
            "median (range)": [ranged(row, row["of"]) for _, row in found.iterrows()],
            "met": np.where(met, "yes", "no"),
        }
    )


def method_table(measured: pd.DataFrame, experiment: str, name: str, label: str) -> pd.DataFrame:
    """Methods by numbers of tokens."""
    part = measured[(measured["experiment"] == experiment) & (measured["method"] != FLOOR[experiment])]
    cells = part.assign(cell=part.apply(ranged, axis=1, name=name))
    columns = {tokens: f"{tokens} tokens" for tokens in sorted(part["tokens"].unique())}
    table = cells.pivot_table(index="method", columns="tokens", values="cell", aggfunc="first", sort=False)
    return table.rename(columns=columns).fillna("").rename_axis(index=label, columns=None).reset_index()


def exponent_table(timings: pd.DataFrame) -> pd.DataFrame:
    """Slopes of log time over the log of what grows, with the standard error of the fit."""
    growth = timings[timings["experiment"].str.startswith("growth in ")]
    rows = []
    for method in growth["method"].unique():
        row = {"": method}
        for experiment, part in growth[growth["method"] == method].groupby("experiment", sort=False):
            name = experiment.removeprefix("growth in ")
            median = part.groupby(name)["seconds"].median()
            fit = linregress(np.log(median.index), np.log(median))
            row[f"{name} ({', '.join(map(str, median.index))})"] = f"{fit.slope:.2f} ± {fit.stderr:.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def draw(all_measured: dict[str, pd.DataFrame], path: Path) -> None:
    """Speed of scoring over the floor, and cost of rankings in bare passes, by number of tokens."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "speed", "font.size": 9})
    figure, axes = plt.subplots(len(all_measured), 2, figsize=(9, 3.2 * len(all_measured)), squeeze=False)
    for (left, right), (device, measured) in zip(axes, all_measured.items(), strict=True):
        for axis, experiment, name in ((left, "scoring", "speed"), (right, "ranking", "passes")):
            part = measured[(measured["experiment"] == experiment) & (measured["method"] != "bare pass")]
            for method, own in part.groupby("method", sort=False):
                error = [own[name] - own[f"{name}_low"], own[f"{name}_high"] - own[name]]
                axis.errorbar(own["tokens"], own[name], yerr=error, marker="o", markersize=4, capsize=2, label=method)
            axis.set_xscale("log", base=2)
            axis.set_xticks(part["tokens"].unique(), labels=part["tokens"].unique())
            axis.set_xlabel("tokens of a prompt")
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(frameon=False, fontsize=7)
        left.axhline(1, color="0.6", linewidth=0.8)
        left.set_ylim(0, None)
        left.set_ylabel("speed / bare pass")
        left.set_title(f"Probe scores in all layers ({device})", fontsize=9)
        right.set_yscale("log")
        right.set_ylabel("time in bare passes")
        right.set_title("Effects of all heads", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def section(path: Path) -> str:
    """Everything measured on one machine, as Markdown."""
    timings, machine = pd.read_csv(path), json.loads(path.with_suffix(".json").read_text())
    measured = ratios(timings)
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = {
        f"### {path.stem.upper()}": f"{machine['device']}; {versions}. Medians of at least "
        f"{measured['rounds'].min()} rounds and their range.",
        "**Goals**": goal_table(measured),
        "**Probe scores: speed over the bare pass**": method_table(measured, "scoring", "speed", "scores by"),
        "**Effects of all heads: time in bare passes**": method_table(measured, "ranking", "passes", "ablated"),
        "**Generation: speed over the unedited model**": method_table(measured, "generation", "speed", "model"),
        "**Growth**: exponents of time, fitted to the numbers in brackets, ± standard error (what does not grow: 128 "
        "tokens, 1 prompt, 8 heads, 4 layers)": exponent_table(timings),
    }
    shown = [
        (title, part if isinstance(part, str) else part.to_markdown(index=False, disable_numparse=True))
        for title, part in parts.items()
    ]
    return "\n\n".join(text for pair in shown for text in pair)


def page(text: str, results: Path) -> str:
    """The page with what `results` holds between its markers."""
    sections = "\n\n".join(section(path) for path in sorted(results.glob("*.csv")))
    marked = r"(<!-- measured -->\n).*(<!-- end of measured -->)"
    return re.sub(marked, lambda found: f"{found[1]}\n{sections}\n\n{found[2]}", text, flags=re.DOTALL)


def main() -> None:
    draw({path.stem: ratios(pd.read_csv(path)) for path in sorted(RESULTS.glob("*.csv"))}, DOCS / "speed.svg")
    (DOCS / "speed.md").write_text(page((DOCS / "speed.md").read_text(), RESULTS))


if __name__ == "__main__":
    main()
