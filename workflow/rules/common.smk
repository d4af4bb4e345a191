# Names, constraints and look-ups that several rule files share. Everything here is known before any job runs.

import re
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# Not workflow.basedir: where this workflow is imported as a module, that is the importing workflow's.
RULES = Path(workflow.current_basedir.get_path_or_uri(secret_free=False))
sys.path.insert(0, str(RULES.parent / "scripts"))

from refusal_cliff import places, plan, sheets
from refusal_cliff.attack_search import ATTACK, ATTACK_SETS, OBJECTIVES, PREFILL, attack_name
from refusal_cliff.code_hash import code_hash
from refusal_cliff.config import check
from refusal_cliff.data_files import checksum
from refusal_cliff.datasets import GIVEN, READY, RECORDED, SETS, check_files
from refusal_cliff.edits import REPLACEMENTS
from refusal_cliff.errors import UserError
from refusal_cliff.head_effects import measured_rankings
from refusal_cliff.organisms import circuits, families
from refusal_cliff.rankings import DRAWN
from refusal_cliff.repairs import DOSES
from refusal_cliff.retries import NoRetryOfUserErrors
from refusal_cliff.selection import DIFFERENTIATED, SELECTORS
from refusal_cliff.variants import CONTINUED, ELIMINATED, EVERYWHERE, KINDS, MERGED, ON_HEADS, Variant, format_number

try:
    places.check_interpreter()
    sheets.check_config_files(workflow.configfiles)
    sheets.validate(config)
    config["sheets"] = {kind: places.shipped(path) for kind, path in config["sheets"].items()}
    model_sheet, dataset_sheet, attack_sheet = sheets.load_sheets(config)
    check(config, model_sheet, dataset_sheet, attack_sheet)
    claim_sheet = sheets.load_claims(config["sheets"]["claims"])
    check_files(dataset_sheet, config["data_dir"])
    model_sheet = families.expand(model_sheet, config["organisms"], config["finetuning"])
except UserError as error:
    raise WorkflowError(str(error)) from None

logger.addHandler(NoRetryOfUserErrors(workflow))


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
# Set side by side with other repairs: all seeds of a family.
REPAIRED = ABLATED if plan.repairs_wanted(config) else []
# Figures show the first seed of a family. Of further ones heads are measured if they are ablated too.
FIRST = [model for model in MODELS if not model_sheet.loc[model, "lean"]]
# Of a model that no probe reads, rates alone are measured; probes are trained and judged on models of their own.
PROBED = [model for model in MODELS if model_sheet.loc[model, "probes"]]
READERS = [model for model in PROBED if model_sheet.loc[model, "probes"] == model]
RANKED = [model for model in PROBED if model in ABLATED + FIRST]
PROBES = list(config["probes"])
RANKINGS = measured_rankings(config["heads"]["targets"], config["heads"]["measures"])
OPERATING = config["heads"]["operating"]
PROMPT_SETS = list(dataset_sheet["set"].unique())
# Those with prompts in a tool context, where responses are actions.
ACTING = dataset_sheet.loc[dataset_sheet["context"] != "", "set"].unique().tolist()
# Of these models are asked; what organisms are trained on, and what has its answers, they are not.
ASKED = [name for name in PROMPT_SETS if name not in ("organism", *GIVEN)]
# The datasets that each model wrote, in its own runs elsewhere; a name that is in no model sheet has no weights.
TRANSCRIPTS = dataset_sheet[dataset_sheet["set"] == RECORDED].groupby("model", sort=False).groups
READY_MADE = list(config["selection"]["ready"])
TUNINGS = plan.tuning_variants(config)
# What one training leaves: itself after fewer steps, and in the end.
TRAININGS = [
    f"<results>/{{model}}/variants/{name}"
    for name in [
        *(f"early-{{selector}}-{{budget}}-{steps}-s{{seed}}" for steps in config["tuning"]["early"]),
        "tune-{selector}-{budget}-s{seed}",
    ]
]

# Organisms of the target recovery: models like any other, but in no table or figure of the default run.
RECOVERY = circuits.recovery_organisms(config)
RECIPES = families.recipes(model_sheet, config["organisms"], config["seed"]) | circuits.recovery_recipes(config)
FINETUNED = families.finetunings(model_sheet, config["finetuning"], config["seed"])
# Those that are read by the probes of the model that they were made from.
WORN = [model for model in FINETUNED if model_sheet.loc[model, "probes"] == model_sheet.loc[model, "parent"]]
ORGANISMS = models_where(source="organism")
# GGUF files become checkpoints first.
CONVERTED = models_where(source="package") + models_where(source="gguf")
model_sheet = circuits.with_recovery(model_sheet, RECOVERY)


wildcard_constraints:
    model=one_of([*model_sheet.index, *TRANSCRIPTS]),
    variant=rf"base|({'|'.join(KINDS)})-[^/]+",
    prompts=one_of([*PROMPT_SETS, *ATTACK_SETS]),
    dataset=one_of(dataset_sheet.index),
    selector=one_of([*config["selection"]["selectors"], *READY_MADE, "whole"]),
    budget=r"[0-9.]+",
    seed=r"\d+",
    grid="|grid_",  # what the target grid makes stands beside what a run makes by default
