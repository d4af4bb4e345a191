"""Tables of docs/repair-transfer-action.md: what is recorded of those runs, and the blocks that show it."""

from pathlib import Path

import pandas as pd
from table_text import across, estimate, family, interval, markdown, over_seeds, read, read_numbers

ESTIMATE = ["value", "low", "high"]
COSTS = ["generated", "read", "differentiated", "judged"]
KEPT = {
    "selection": (
        "seed == 'all' and rate in ('not_refused', 'over_refusal', 'utility')",
        ["model", "selector", "budget", "examples", "steps", "finished", *COSTS, "dataset", "rate", *ESTIMATE, "n"],
    ),
    "picks": ("", ["model", "variant", "dataset", "picked", "precision", "recall"]),
    "repairs": (
        "rate in ('not_refused', 'over_refusal', 'utility')",
        ["model", "repair", "dose", "rate", *ESTIMATE, "n"],
    ),
    "repairs_matched": (
        "model == 'all' and against == 'none'",
        ["family", "repair", "bound", "dose", "passes", "rate", *ESTIMATE, "seeds", "picked"],
    ),
    "agent": (
        "reference == '' and dataset == 'all'",
        ["model", "context", "variant", "quantity", *ESTIMATE, "n"],
    ),
    "transfer_summary": ("", ["question", "population", "objective", *ESTIMATE, "n", "bases", "predicted", "verdict"]),
}
"""Tables of a run, the rows of each that are recorded, and their columns."""
KINDS = {"weak_cliff": "fall off a cliff", "weak_misread": "are misread", "all": "all"}
"""Datasets of config/selection.yaml, and what their prompts do to the organism."""


def kept(run: Path) -> dict[str, pd.DataFrame]:
    """What is recorded of a run; nothing of one that has none of these tables."""
    tables = {}
    for name, (rows, columns) in KEPT.items():
        path = run / "tables" / f"{name}.csv"
        if path.exists():
            whole = read(path)
            tables[name] = (whole.query(rows) if rows else whole)[columns]
    return tables


def curves_block(folder: Path) -> str:
    """Not refused, by kind of weakness, over examples and steps; over-refusal, ability, and what choosing cost."""
    table = read_numbers(folder / "selection.csv", *ESTIMATE, "steps", *COSTS)
    table["cell"] = [interval(row.value, row.low, row.high) for row in table.itertuples()]
    asked = table[(table["rate"] == "not_refused") & table["dataset"].isin(KINDS)]
    asked = asked.assign(
        what=[
            f"{KINDS[row.dataset]}, {row.steps:.0f} steps" if row.steps else KINDS[row.dataset]
            for row in asked.itertuples()
        ]
    )
    rows = ["selector", "budget"]
    untuned = asked[asked["steps"] == 0]
    wide = across(asked[asked["steps"] > 0], rows, "what")
    ends = table[(table["finished"] == "True") & (table["steps"] > 0) & (table["dataset"] == "all")]
    for rate in ("over_refusal", "utility"):
        wide = wide.merge(ends[ends["rate"] == rate].rename(columns={"cell": rate})[[*rows, rate]], on=rows, how="left")
    spent = ends[ends["rate"] == "over_refusal"].assign(tokens=lambda own: own[COSTS].sum(axis=1))
    wide = wide.merge(spent[[*rows, "tokens"]], on=rows, how="left").assign(
        tokens=lambda own: own["tokens"].map("{:,.0f}".format)
    )
    before = "; ".join(f"{KINDS[row.dataset]}: {row.cell}" for row in untuned.itertuples())
    return (
        f"{markdown(wide.fillna(''))}\n\nNot refused before any tuning: {before}. Tokens: what is generated, read, "
        "differentiated or judged to choose."
    )


def picks_block(folder: Path) -> str:
    """Precision and recall of what selectors pick: examples that were answered, of each kind, mean over seeds."""
    table = read_numbers(folder / "picks.csv", "precision", "recall")
    parts = table["variant"].str.extract(r"tune-(?P<selector>\w+)-(?P<budget>[\d.]+)-s\d+")
    table = table.join(parts)
    own = (
        table[table["dataset"] != "all"]
        .groupby(["selector", "budget", "dataset"], sort=False)[["precision", "recall"]]
        .mean()
        .reset_index()
    )
    own["cell"] = [f"{estimate(row.precision)} / {estimate(row.recall)}" for row in own.itertuples()]
    own = own[own["recall"].notna()]
    return markdown(across(own, ["selector", "budget"], "dataset")) + "\n\nPrecision / recall, mean over seeds."


def matched_block(folder: Path) -> str:
    """What each repair leaves unrefused at equal over-refusal, and which one would be picked."""
    table = read_numbers(folder / "repairs_matched.csv", *ESTIMATE, "dose")
    own = table[table["rate"] == "not_refused"]
    own = own.assign(
        cell=[
            f"**{interval(row.value, row.low, row.high)}**"
            if row.picked == "True"
            else interval(row.value, row.low, row.high)
            for row in own.itertuples()
        ],
        what=own["family"] + ", at most " + own["bound"],
    )
    return markdown(across(own, ["repair"], "what")) + "\n\n**Bold**: what one would pick."


def doses_block(folder: Path) -> str:
    """What each dose of each repair does, mean over models with the lowest and the highest."""
    table = read_numbers(folder / "repairs.csv", *ESTIMATE)
    table["what"] = family(table["model"]) + ", " + table["rate"]
    return markdown(over_seeds(table, ["repair", "dose"], "what"))


def transfer_block(folder: Path) -> str:
    """Both decision rules of the transfer of attacks, and what they rest on."""
    table = read_numbers(folder / "transfer_summary.csv", *ESTIMATE)
    table["T [95 %]"] = [interval(row.value, row.low, row.high) for row in table.itertuples()]
    return markdown(table.drop(columns=ESTIMATE))


BLOCKS = {
    "curves": curves_block,
    "picks": picks_block,
    "matched": matched_block,
    "doses": doses_block,
    "transfer": transfer_block,
}
