# Names, constraints and look-ups that the rules share. Everything here is known before any job runs.

import re
import sys
from pathlib import Path

import pandas as pd

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "scripts"))

from refusal_cliff import config as settings
from refusal_cliff.code_hash import code_hash
from refusal_cliff.datasets import check_files
from refusal_cliff.errors import UserError

try:
    settings.validate(config)
    model_sheet, dataset_sheet, attack_sheet = settings.load_sheets(config)
    settings.check(config, model_sheet, dataset_sheet, attack_sheet)
    check_files(dataset_sheet, config["data_dir"])
except UserError as error:
    raise WorkflowError(str(error)) from None


def models_where(**wanted):
    """Names of the models whose columns have the wanted values."""
    rows = model_sheet[(model_sheet[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    return rows.index.tolist()


def one_of(names):
    """A wildcard constraint that matches exactly these names; without names, nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


MODELS = models_where(role="subject")
ABLATED = models_where(ablate=True)
TUNED = models_where(tune=True)
GUARD = settings.record(model_sheet, config["judges"]["guard"]["model"])
OPERATING_POINT = f"causal-{settings.format_number(config['claims']['fraction'])}"
TUNINGS = settings.tuning_variants(config)
PROBES = list(config["probes"])
RANKINGS = ["direct", "causal", "gradient"]
PROMPT_SETS = list(dataset_sheet["set"].unique())

# Organisms by how they are made: from scratch, from another organism, or as a guard.
ORGANISMS = models_where(source="organism")
PLANTED = [
    model
    for model in ORGANISMS
    if "parent" in config["organisms"][model_sheet.loc[model, "location"]]
]
GUARD_ORGANISMS = models_where(source="organism", role="guard")
ALIGNED = [model for model in ORGANISMS if model not in PLANTED + GUARD_ORGANISMS]

# Organisms of the target recovery: models like any other, but in no table or figure of the default run.
RECOVERY = settings.recovery_organisms(config)
RECIPES = config["organisms"] | settings.recovery_recipes(config)
model_sheet = settings.with_recovery(model_sheet, RECOVERY)


wildcard_constraints:
    model=one_of(model_sheet.index),
    variant="base|(ablate|mean|boundary|restore|released|scale|keep|tune)-[^/]+",
    prompts=one_of(PROMPT_SETS),
    dataset=one_of(dataset_sheet.index),
    probe=one_of(PROBES),
    ranking=r"direct|causal|gradient|promoting|(random|matched)\d+",
    selector="cliff|random|rule|guard|whole",
    budget=r"[0-9.]+",
    seed=r"\d+",
    grid="|grid_",  # what the target grid makes stands beside what a run makes by default


def ablations_of(model, block="ablation"):
    return settings.ablation_variants(config, model_sheet, model, block)


def variants_of(model):
    return settings.variants(config, model_sheet, model)


ABLATION_RUNS = [
    (model, variant) for model in ABLATED for variant in ablations_of(model)
]


def model_row(wildcards):
    return settings.record(model_sheet, wildcards.model)


def model_gpus(wildcards):
    return model_row(wildcards)["gpus"]


def model_memory(wildcards):
    return model_row(wildcards)["mem_mb"]


def model_runtime(wildcards):
    return model_row(wildcards)["runtime_min"]


def checkpoint(model):
    """Where a model's weights are: a folder of the user's own, or one that the workflow makes."""
    row = settings.record(model_sheet, model)
    return (
        row["location"] if row["source"] == "path" else f"<results>/{model}/checkpoint"
    )


def checkpoint_of(wildcards):
    return checkpoint(wildcards.model)


def organism_recipe(wildcards):
    return RECIPES["tokenizer"] | RECIPES[model_row(wildcards)["location"]]


def organism_seed(wildcards):
    return organism_recipe(wildcards).get("seed", config["seed"])


def parent_checkpoint(wildcards):
    return checkpoint(organism_recipe(wildcards)["parent"])


def dataset_row(wildcards):
    return settings.record(dataset_sheet, wildcards.dataset)


def dataset_templates(wildcards):
    return settings.templates(attack_sheet, dataset_row(wildcards)["attacks"])


def probe_recipe(wildcards):
    return config["probes"][wildcards.probe]


def truth_files():
    """Ground truth of the organisms that have one; no other model has such a file."""
    return [f"<results>/{model}/truth.json" for model in PLANTED if model in MODELS]


def edit_inputs(wildcards):
    ranking = settings.parse_variant(wildcards.variant).get("ranking")
    if ranking is None:
        return {}
    return {"ranking": f"<results>/{wildcards.model}/heads/{ranking}.parquet"}


def continued_traces(wildcards):
    """The base traces whose thinking a variant keeps, if it is of a kind that does."""
    if settings.parse_variant(wildcards.variant)["kind"] not in settings.CONTINUED:
        return {}
    return {
        "base": f"<results>/{wildcards.model}/base/traces/{wildcards.prompts}.parquet"
    }


def control_inputs(wildcards):
    inputs = {"causal": f"<results>/{wildcards.model}/heads/causal.parquet"}
    if wildcards.ranking.startswith("matched"):
        inputs["means"] = f"<results>/{wildcards.model}/heads/means.safetensors"
    return inputs


def matched_fraction():
    """The largest share of heads that a matched control stands for."""
    blocks = (config["ablation"], config["grid"])
    return max(
        [config["claims"]["fraction"]]
        + [share for block in blocks for share in block["rankings"]["matched"]]
    )


def outcome_runs(wildcards):
    """The (model, variant) whose outcomes a run collects; under grid_, those of the finer ablations alone."""
    if wildcards.grid:
        return [
            (model, variant)
            for model in ABLATED
            for variant in ["base", *ablations_of(model, "grid")]
        ]
    return [(model, variant) for model in MODELS for variant in variants_of(model)]


def head_runs(wildcards):
    """Those that do something to heads."""
    return [
        (model, variant)
        for model, variant in outcome_runs(wildcards)
        if "ranking" in settings.parse_variant(variant)
    ]


def perplexity_variants(wildcards):
    """Base, and the interventions on heads that are models of their own."""
    variants = ablations_of(wildcards.model, "grid" if wildcards.grid else "ablation")
    kinds = {variant: settings.parse_variant(variant)["kind"] for variant in variants}
    return [
        "base",
        *(variant for variant in variants if kinds[variant] in settings.EVERYWHERE),
    ]


def run_files(runs, path):
    """One file for each (model, variant)."""
    return [
        f"<results>/{path.format(model=model, variant=variant)}"
        for model, variant in runs
    ]


def outcome_inputs(wildcards):
    runs = outcome_runs(wildcards)
    return {
        "traces": run_files(runs, "{model}/{variant}/traces/test.parquet"),
        "verdicts": run_files(runs, "{model}/{variant}/verdicts/test.parquet"),
    }


def head_edits(wildcards):
    return run_files(head_runs(wildcards), "{model}/variants/{variant}/edit.json")


def perplexity_edits(wildcards):
    return [
        f"<results>/{wildcards.model}/variants/{variant}/edit.json"
        for variant in perplexity_variants(wildcards)
    ]


def perplexities(wildcards):
    return [
        f"<results>/{model}/{wildcards.grid}perplexity.parquet" for model in ABLATED
    ]


def random_seed(wildcards):
    return config["seed"] + int(re.sub(r"\D", "", wildcards.ranking) or 0)


def guard_scopes(wildcards):
    """What the guard reads: the thinking alone too, but only where a monitor of it is measured."""
    watched = (wildcards.variant, wildcards.prompts) == ("base", "test")
    return ["response", "thinking"] if watched else ["response"]


def kept_runs(wildcards):
    """Base models and their variants that keep a share of the thinking."""
    return [
        (model, variant)
        for model, variant in outcome_runs(wildcards)
        if model in ABLATED
        and settings.parse_variant(variant)["kind"] in ("base", "keep")
    ]


def kept_cliffs(wildcards):
    return [
        f"<results>/{model}/{variant}/cliffs/test.parquet"
        for model, variant in kept_runs(wildcards)
    ]


def selected_share(wildcards):
    return float(wildcards.budget)


def selection_seed(wildcards):
    return config["seed"] + int(wildcards.seed)


def print_claims():
    """Show the claims table and where the report is, if this run or an earlier one made them."""
    claims = Path(workflow.pathvars.apply("<results>/claims.csv"))
    html = Path(workflow.pathvars.apply("<results>/report.html"))
    if claims.is_file() and html.is_file():
        from refusal_cliff.claims import format_for_console

        print(format_for_console(pd.read_csv(claims)))
        print(f"\nClaims: {claims}\nReport: {html}")
