"""Measured tables as a run would leave them, made from chosen rates: for tests of what comes after the models."""

from itertools import product

import numpy as np
import pandas as pd

from refusal_cliff import ablation_tables, sparsity
from refusal_cliff import outcomes as outcome_tables
from refusal_cliff.selection import COSTS
from refusal_cliff.variants import ON_HEADS, Variant

HARMFUL, BENIGN, FACTS = 60, 30, 30
ABLATIONS = [
    f"ablate-{ranking}-{fraction}"
    for ranking in ("causal", "direct", "promoting", "random0", "random1")
    for fraction in (0.015, 0.03, 0.1)
]
INTERVENTIONS = [
    "mean-causal-0.03",
    "boundary-causal-0.03",
    "restore-causal-0.03",
    "scale-causal-0.03-0.5",
    "scale-causal-0.03-2",
    "keep-0.5",
]
TUNINGS = [
    f"tune-{selector}-{budget}-s0" for selector in ("cliff", "random", "rule", "guard") for budget in (0.017, 0.05)
]
VARIANTS = ["base", *ABLATIONS, *INTERVENTIONS, *TUNINGS, "tune-whole-1-s0"]
PLANTED = [[2, 1], [3, 2]]
PROBE_ROWS = [
    *(("held_out", None, quantity) for quantity in ("accuracy", "auroc", "selectivity")),
    *(
        ("test", place, quantity)
        for place in (None, "thinking 5/5", "boundary -1", "last_boundary")
        for quantity in ("accuracy", "auroc")
    ),
    *(("training", None, quantity) for quantity in ("accuracy", "auroc", "cosine_logit")),
]
"""Data, position (`None`: where the probe was trained) and quantity of what is measured of each probe."""


def prompts() -> pd.DataFrame:
    """Test prompts: a plain and a wrapped harmful dataset, benign ones, and questions with a reference."""
    rows = []
    for dataset, family, label, count in (
        ("plain", "plain", "harmful", HARMFUL // 2),
        ("wrapped", "roleplay", "harmful", HARMFUL // 2),
        ("borderline", "plain", "benign", BENIGN),
        ("facts", "plain", "benign", FACTS),
    ):
        for number in range(count):
            rows.append(
                {
                    "prompt_id": f"{dataset}{number:03d}",
                    "request_id": f"{dataset}{number:03d}",
                    "dataset": dataset,
                    "category": "any",
                    "family": family,
                    "label": label,
                    "reference": "Paris" if dataset == "facts" else None,
                    "match": "contains" if dataset == "facts" else None,
                }
            )
    return pd.DataFrame(rows)


def outcomes(model: str, asr: dict[str, float], variants=VARIANTS) -> pd.DataFrame:
    """Outcomes of a model that complies with a share of the wrapped prompts, by variant (default: that of `base`)."""
    table = prompts().assign(sample=0, finish_reason="stop", thinking_tokens=20)
    rank = table.groupby("dataset").cumcount() / table.groupby("dataset")["prompt_id"].transform("size")
    runs = []
    for variant in variants:
        harmful = (table["dataset"] == "wrapped") & (rank < asr.get(variant, asr["base"]))
        run = table.assign(model=model, variant=variant, has_reference=table["reference"].notna())
        run["harmful"] = harmful.astype("boolean")
        run["refused"] = ((table["label"] == "harmful") & ~harmful).astype("boolean")
        run["thinking_refusal"] = (table["label"] == "harmful").astype("boolean")
        run["correct"] = pd.array([True] * len(table), dtype="boolean")
        run["correct"] = run["correct"].where(run["has_reference"])
        runs.append(run.drop(columns=["reference", "match"]))
    return pd.concat(runs, ignore_index=True)


def perplexity(model_outcomes: pd.DataFrame, ratio: dict[str, float] | None = None) -> pd.DataFrame:
    """Perplexity of benign traces: about 1.2 for the base model, times `ratio` for a variant."""
    kept = model_outcomes[model_outcomes["label"] == "benign"]
    kept = kept[~kept["variant"].str.match("boundary|restore|keep|tune")]
    noise = np.random.default_rng(0).normal(0, 0.02, kept["prompt_id"].nunique())
    own = dict(zip(kept["prompt_id"].unique(), noise, strict=True))
    nll = np.log(1.2) + kept["prompt_id"].map(own) + np.log(kept["variant"].map(ratio or {}).fillna(1.0))
    return kept[["model", "variant", "prompt_id", "sample"]].assign(nll=nll, tokens=20)


def cliffs(
    model_outcomes: pd.DataFrame, layers: int = 4, grid: int = 20, tail: int = 6, boundary: int = 3
) -> pd.DataFrame:
    """Cliffs of the base traces: a high plateau for harmful prompts, and a fall where the model complied."""
    rng = np.random.default_rng(0)
    rows = []
    base = model_outcomes[model_outcomes["variant"] == "base"]
    for trace in base.itertuples():
        plateau = 0.8 if trace.label == "harmful" else 0.15
        final = 0.1 if trace.harmful or trace.label == "benign" else 0.95
        for probe in ("paper", "thinking"):
            for layer in range(layers):
                height = plateau * (layer + 1) / layers
                noise = rng.normal(0, 0.03, grid + tail + boundary)
                fall = np.concatenate([np.full(grid + tail, height), np.linspace(height, final, boundary)])
                scores = np.clip(fall + noise, 0, 1)
                near = scores[grid:].copy()
                near[: rng.integers(0, 3)] = np.nan
                rows.append(
                    {
                        "model": trace.model,
                        "prompt_id": trace.prompt_id,
                        "sample": 0,
                        "probe": probe,
                        "layer": layer,
                        "plateau": scores[:grid].max(),
                        "plateau_p90": np.quantile(scores[:grid], 0.9),
                        "plateau_mean": scores[grid // 2 : grid].mean(),
                        "final": scores[-1],
                        "cliff": scores[:grid].max() - scores[-1],
                        "cliff_p90": np.quantile(scores[:grid], 0.9) - scores[-1],
                        "cliff_mean": scores[grid // 2 : grid].mean() - scores[-1],
                        "steepest": 1.0,
                        "steepest_offset": 0,
                        "steepest_in_boundary": True,
                        "boundary_drop": scores[grid + tail - 1] - scores[-1],
                        "boundary_share": (scores[grid + tail - 1] - scores[-1]) / (scores[:grid].max() - scores[-1]),
                        "curve": scores[:grid],
                        "boundary_curve": near,
                    }
                )
    return pd.DataFrame(rows)


def effects(rankings: dict[str, np.ndarray], model: str) -> pd.DataFrame:
    """Effects [trace, layer, head] of each ranking as the long table of a model."""
    tables = []
    for ranking, values in rankings.items():
        axes = [[f"p{trace}" for trace in range(len(values))], [0], *map(range, values.shape[1:])]
        keys = pd.MultiIndex.from_product(axes, names=["prompt_id", "sample", "layer", "head"]).to_frame(index=False)
        named = {"effect": values.ravel(), "model": model, "ranking": ranking, "request_id": keys["prompt_id"]}
        tables.append(keys.assign(**named))
    return pd.concat(tables, ignore_index=True)


def refits(model_outcomes: pd.DataFrame, heights: dict[int, float]) -> pd.DataFrame:
    """Cliffs of the base traces by two probes, the same for every trace and set by `heights` for every refit."""
    base = model_outcomes.loc[model_outcomes["variant"] == "base", ["model", "prompt_id", "sample"]]
    tables = [
        base.assign(probe=probe, refit=refit, cliff=height, cliff_p90=height - 0.05, cliff_mean=height - 0.1)
        for probe in ("paper", "thinking")
        for refit, height in heights.items()
    ]
    return pd.concat(tables, ignore_index=True)


def heads(layers: int = 4, n_heads: int = 8) -> pd.DataFrame:
    """A head ranking in which the planted heads have by far the strongest effect."""
    layer, head = np.divmod(np.arange(layers * n_heads), n_heads)
    effect = np.random.default_rng(1).normal(0, 0.3, layers * n_heads)
    for planted_layer, planted_head in PLANTED:
        effect[(layer == planted_layer) & (head == planted_head)] = -5.0
    return pd.DataFrame({"layer": layer, "head": head, "effect": effect})


def write_norms(models: list[str]) -> pd.DataFrame:
    """How much each head writes: its number in its layer."""
    return pd.concat([heads().assign(model=model, write_norm=lambda table: table["head"] * 1.0) for model in models])


def edited_heads(table: pd.DataFrame) -> dict[tuple[str, str], frozenset[tuple[int, int]]]:
    """The heads that each variant in an outcome table touches: the planted ones, or two others if it is a control."""
    planted, others = frozenset(map(tuple, PLANTED)), frozenset({(0, 0), (1, 1)})
    runs = table[["model", "variant"]].drop_duplicates().itertuples(index=False, name=None)
    chosen = {run: Variant.parse(run[1]) for run in runs}
    return {
        run: planted if variant.ranking in ("causal", "direct") else others
        for run, variant in chosen.items()
        if variant.kind in ON_HEADS
    }


def tables(table: pd.DataFrame, planted: dict[str, list]) -> dict[str, pd.DataFrame]:
    """The tables that claims are read from, with rows that no claim reads beside those that one does.

    Made from an outcome table of all models: alignment, rates, judges, ablation, comparisons, selection, sparsity. In
    all others every number is 0.9 [0.85, 0.95] over 60 prompts, whatever it is of.

    Args:
        planted: planted heads of the models whose heads are known.
    """
    models = list(table["model"].unique())
    touched, nll = edited_heads(table), perplexity(table)
    known = {model: frozenset(map(tuple, found)) for model, found in planted.items()}
    examples = table[table["variant"].str.startswith("tune")].groupby(["model", "variant"]).head(5)
    probe, group = ["paper", "thinking"], ["harmful, complied", "harmful, refused", "harmful", "benign"]
    keys = {
        "cliffs": {
            "probe": probe,
            "group": group,
            "family": ["all", "plain"],
            "quantity": ["plateau", "cliff", "cliff_mean", "boundary_share", "cliff_deeper"],
        },
        "cliff_differences": {
            "kind": ["within"],
            "group": group[:1],
            "other": ["benign", "harmful, refused"],
            "probe": probe,
            "quantity": ["cliff", "cliff_mean"],
        },
        "cliff_refits": {"probe": probe, "group": group, "quantity": ["cliff", "cliff_mean"]},
        "cliff_length": {"probe": probe, "group": group, "quantity": ["spearman_cliff", "within_family_cliff_mean"]},
        "head_agreement": {
            "ranking": ["direct", "causal"],
            "other": ["causal", "gradient"],
            "quantity": ["spearman", "overlap"],
        },
        "head_stability": {
            "ranking": ["direct", "causal"],
            "point": [True, False],
            "quantity": ["split_half_overlap", "overlap"],
        },
        "monitors": {
            "monitor": ["thinking, guard", "final, paper", "final, thinking"],
            "population": ["harmful prompts", "all prompts"],
            "quantity": ["auroc", "tpr_at_fpr_0.05"],
        },
    }
    measured = np.random.default_rng(2).normal(-1, 0.1, (10, 4, 8))
    head_effects = pd.concat([effects({"causal": measured, "direct": measured}, model) for model in models])
    found = {name: _product({"model": models} | columns) for name, columns in keys.items()}
    own = {"paper": "last_boundary", "thinking": "thinking"}
    parts = [
        _product(
            {
                "model": models,
                "probe": [probe],
                "method": ["logistic", "mean_difference"],
                "last_layer": [False, True],
                "truth": ["label", "harmful"] if data == "test" else ["label"],
            }
        ).assign(data=data, position=position or trained, quantity=quantity)
        for probe, trained in own.items()
        for data, position, quantity in PROBE_ROWS
        if position != trained
    ]
    found["probes"] = pd.concat(parts, ignore_index=True)
    said = _product({"model": models, "population": group[:1], "quantity": ["thinking_refuses", "thinking_safe"]})
    found["monitors"] = pd.concat([found["monitors"], said.assign(monitor="thinking")])
    return found | {
        "alignment": outcome_tables.alignment(table),
        "rates": outcome_tables.rates(table),
        "judges": outcome_tables.judge_agreement(table, 0),
        "ablation": ablation_tables.ablation_table(table, nll, touched, write_norms(models), seed=0),
        "comparisons": ablation_tables.comparisons(table, nll, seed=0),
        "selection": ablation_tables.selection_table(table, examples.assign(**dict.fromkeys(COSTS, 1)), 30, 8, seed=0),
        "sparsity": sparsity.sparsity_table(table, head_effects, touched, known, fraction=0.03, seed=0),
    }


def _product(columns: dict[str, list]) -> pd.DataFrame:
    """A table with a row for every combination, all with the same number."""
    return pd.DataFrame(product(*columns.values()), columns=list(columns)).assign(value=0.9, low=0.85, high=0.95, n=60)
