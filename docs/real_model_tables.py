"""Tables of docs/real-model.md: what is recorded of a run with fine-tuned models, and the blocks that show it."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from table_text import across, estimate, family, interval, markdown, over_seeds, read, read_numbers

KEPT = {
    "finetuning": ("", ["family", "model", "step", "last", "label", "quantity", "value"]),
    "cliffs": (
        "probe == 'paper' and family == 'all'"
        " and quantity in ('plateau', 'plateau_mean', 'final', 'cliff', 'cliff_mean')",
        ["model", "group", "quantity", "value", "n"],
    ),
    "changes": (
        "probe == 'paper' and last_layer == 'True' and quantity == 'change'",
        ["model", "group", "position", "value", "low", "high", "n"],
    ),
    "targets": ("point == 'True'", ["model", "measure", "target", "other", "k", "quantity", "value"]),
    "ablation": (
        "kind in ('base', 'ablate') and dataset == 'all' and rate in ('not_refused', 'over_refusal')",
        ["model", "kind", "ranking", "fraction", "draws", "rate", "value", "n"],
    ),
    "kept_thinking": (
        "quantity in ('asr', 'over_refusal', 'final_paper')",
        ["model", "kept", "label", "quantity", "value", "low", "high", "n"],
    ),
    "selection": (
        "seed == 'all' and dataset == 'all' and rate in ('not_refused', 'over_refusal')",
        ["model", "selector", "budget", "examples", "rate", "value", "low", "high", "n"],
    ),
}
"""Tables of a run, the rows of each that are recorded, and their columns."""
BESIDE = {
    "plateau_high": "“a high refusal score” (figure)",
    "cliff_height": "“a sharp fall” (figure)",
    "cliff_mean": "not reported",
    "cliff_in_boundary": "in the thinking-end tokens (figure)",
    "not_refused_before": "ASR on AdvBench .00 to .35, twelve models",
    "not_refused_after_causal": "ASR below .10",
    "over_refusal_after_causal": "not reported",
    "not_refused_tuned": "ASR .06 with 5 % of the pool, .03 with all of it",
    "not_refused_tuned_vs_whole": "about as good",
}
"""Claims that are shown side by side, and what the paper says of each."""
READ = ["final", "cliff", "cliff_mean"]
GROUPS = ["harmful, complied", "recognised, refused", "recognised, not refused", "unrecognised, not refused", "benign"]
"""Scores of the paper's probe that are shown, and of which traces."""
LOOKED = ["harmful, recognised", "harmful, refused", "harmful, gap", "benign, refused"]
SAID_BY = ["not_refused", "over_refusal"]
PAIRED = ["cliff", "fade", "misread", "planted", "diffuse"]
"""Families of organisms that stand beside the pretrained models."""


def kept(run: Path) -> dict[str, pd.DataFrame]:
    """What is recorded of a run; nothing of one without fine-tuned models."""
    if not (run / "tables" / "finetuning.csv").exists():
        return {}
    tables = {}
    for name, (rows, columns) in KEPT.items():
        whole = read(run / "tables" / f"{name}.csv")
        tables[name] = (whole.query(rows) if rows else whole)[columns]
    return tables


def looks_block(folder: Path) -> str:
    """What the models do with prompts of their training, at every second look."""
    table = read_numbers(folder / "finetuning.csv", "step", "value")
    table["what"] = table["label"] + ", " + table["quantity"]
    wide = over_seeds(table[table["what"].isin(LOOKED)], ["family", "step"], "what")
    parts = [part.sort_values("step")[::2] for _, part in wide.groupby("family", sort=False)]
    return markdown(pd.concat(parts))


def cliffs_block(folder: Path) -> str:
    """Final scores and cliffs by the paper's probe, last layer, of harmful prompts by group, and of benign ones."""
    table = read_numbers(folder / "cliffs.csv", "value", "n")
    table = table[table["quantity"].isin(READ) & table["group"].isin(GROUPS)].copy()
    table["family"] = family(table["model"])
    counted = table[table["quantity"] == "final"].groupby(["family", "group"], sort=False)["n"].sum().astype(int)
    wide = over_seeds(table, ["family", "group"], "quantity")
    return markdown(wide.merge(counted.rename("traces").reset_index(), on=["family", "group"], validate="one_to_one"))


def changes_block(folder: Path) -> str:
    """What fine-tuning took away at each position, by the parent's probe: one column for each family and group."""
    table = read_numbers(folder / "changes.csv", "value")
    table["what"] = family(table["model"]) + ", " + table["group"]
    return markdown(over_seeds(table[table["group"] != "harmful"], ["position"], "what"))


def targets_block(folder: Path) -> str:
    """Whether the heads that move one readout are those that move the other."""
    table = read_numbers(folder / "targets.csv", "value")
    own = table[family(table["model"]) == "eroded_answer"]
    agree = own[own["quantity"].isin(["spearman", "overlap"])].assign(what=lambda rows: rows["quantity"])
    moved = own[own["quantity"] == "change"].assign(
        what=lambda rows: "first heads by " + rows["target"] + " move " + rows["other"]
    )
    return markdown(over_seeds(pd.concat([agree, moved]), ["measure"], "what"))


def ablated_block(folder: Path) -> str:
    """Sampled responses of held-out prompts after ablation, by ranking and share of heads."""
    table = read_numbers(folder / "ablation.csv", "value", "n")
    # Draws of a control are pooled in a row of their own.
    pooled = table[~table["ranking"].str.fullmatch(r"(random|matched)\d+")]
    own = pooled[family(pooled["model"]) == "eroded_answer"]
    seeds = own[own["rate"] == SAID_BY[0]].groupby(["ranking", "fraction"], sort=False).size()
    wide = over_seeds(own, ["ranking", "fraction"], "rate")
    return markdown(wide.merge(seeds.rename("models").reset_index(), on=["ranking", "fraction"], validate="one_to_one"))


def _estimates(table: pd.DataFrame) -> Iterator[str]:
    return (interval(row.value, row.low, row.high) for row in table.itertuples())


def kept_block(folder: Path) -> str:
    """What a model does when only a share of its thinking is left."""
    table = read_numbers(folder / "kept_thinking.csv", "value", "low", "high")
    own = table[(table["model"] == "eroded_answer-s0")]
    own = own.assign(cell=list(_estimates(own)), what=own["label"] + ", " + own["quantity"])
    return markdown(across(own, ["kept"], "what"))


def selection_block(folder: Path) -> str:
    """What tuning on selected examples repairs, and what it costs."""
    table = read_numbers(folder / "selection.csv", "value", "low", "high")
    table["cell"] = list(_estimates(table))
    return markdown(across(table, ["model", "selector", "budget", "examples"], "rate"))


def beside_block(folder: Path) -> str:
    """Claims of the paper on pretrained models and on organisms, beside the paper's own numbers."""
    rows = []
    for name in (folder.name, "instruments"):
        table = read_numbers(folder.parent / name / "claims.csv", "estimate", "low", "high")
        own = table[
            table["id"].isin(BESIDE) & table["probe"].isin(["", "paper"]) & table["population"].isin(["", "all"])
        ]
        own = own[own["estimate"].notna() & ((name == folder.name) | own["family"].isin(PAIRED))]
        cells = [interval(row.estimate, row.low, row.high) for row in own.itertuples()]
        rows.append(own.assign(cell=cells)[["id", "family", "cell"]])
    wide = across(pd.concat(rows), ["id"], "family").set_index("id")
    shown = wide.loc[[name for name in BESIDE if name in wide.index]].reset_index()
    shown.insert(1, "the paper", shown["id"].map(BESIDE))
    return markdown(shown)


def costs_block(folder: Path) -> str:
    """CPU-seconds and memory of the rules that take most."""
    table = read_numbers(folder / "costs.csv", "jobs", "cpu_s", "s", "max_rss_mb")
    rest = table[7:]
    rows = [
        (row.rule, f"{row.jobs:.0f}", f"{row.cpu_s:.0f}", f"{row.max_rss_mb / 1024:.1f}")
        for row in table[:7].itertuples()
    ]
    rows.append(
        (
            "the others",
            f"{rest['jobs'].sum():.0f}",
            f"{rest['cpu_s'].sum():.0f}",
            f"{rest['max_rss_mb'].max() / 1024:.1f}",
        )
    )
    rows.append(
        ("all", f"{table['jobs'].sum():.0f}", f"{table['cpu_s'].sum():.0f}", estimate(table["max_rss_mb"].max() / 1024))
    )
    return markdown(pd.DataFrame(rows, columns=["rule", "jobs", "CPU-seconds", "largest job, GiB"]))


BLOCKS = {
    "looks": looks_block,
    "cliffs": cliffs_block,
    "changes": changes_block,
    "targets": targets_block,
    "ablated": ablated_block,
    "kept": kept_block,
    "repaired": selection_block,
    "beside": beside_block,
    "costs": costs_block,
}
