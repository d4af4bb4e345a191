"""Families: the models that a row of the model sheet stands for, one for each seed, and their recipes.

A seed decides everything that chance decides: first weights, order of examples, where a circuit lies.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from refusal_cliff.organisms.circuits import draw_circuit

SEEDS_PER_PARENT = 4
"""So many seeds of a family start from one and the same parent; the next ones start from another."""
SEED_STRIDE = 1000
"""Seeds of two runs whose config says different seeds never meet."""


def expand(
    models: pd.DataFrame, organisms: Mapping[str, Any], finetuning: Mapping[str, Any] = MappingProxyType({})
) -> pd.DataFrame:
    """A row for every model: a row of the sheet with `seeds` gives as many models, and parents are added that it lacks.

    Args:
        models: the model sheet, indexed by model.
        organisms, finetuning: recipes by name, the config's blocks of these names.

    Returns:
        The sheet with four more columns: family, the sheet's row; seed, its number within the family; parent, the
        model that it is trained from (empty from scratch, and for models not made here); lean, whether it is another
        seed of a family, which takes part in what a claim over seeds needs and in no further variant. An added parent
        has role `parent`: it is trained, and nothing else. Column probes names the model whose probes read it: itself,
        another, or none (empty).
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, row in models.astype(object).iterrows():
        seeds = row["seeds"]
        for index in range(seeds or 1):
            lean = {"intervene": False, "tune": False} if index else {}
            identity = {"family": name, "seed": index, "lean": index > 0}
            rows[f"{name}-s{index}" if seeds else name] = row.to_dict() | lean | identity
    # Parents may have parents: the list grows while it is read.
    waiting = list(rows)
    for name in waiting:
        row = rows[name]
        if row["source"] == "finetuned":
            row["parent"] = _of_number(finetuning[row["location"]]["parent"], row["seed"], models)
            continue
        recipe = organisms.get(row["location"], {}) if row["source"] == "organism" else {}
        row["parent"] = ""
        if "parent" in recipe:
            # A parent that was added is one of its kind already: its own parent has the same number.
            index = row["seed"] if row["role"] == "parent" else row["seed"] // SEEDS_PER_PARENT
            row["parent"] = parent = _name(recipe["parent"], index, models)
            if parent not in rows:
                identity = {"family": recipe["parent"], "seed": index, "role": "parent"}
                off = {"location": recipe["parent"], "ablate": False, "intervene": False, "tune": False}
                rows[parent] = row | off | identity
                waiting.append(parent)
    for name, row in rows.items():
        reader = row["probes"]
        known = {"own": name, "none": ""}
        row["probes"] = known[reader] if reader in known else _of_number(reader, row["seed"], models)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(models.index.name)


def _of_number(name: str, index: int, models: pd.DataFrame) -> str:
    """The model of a row; of one with seeds, that of the number."""
    return f"{name}-s{index}" if models.loc[name, "seeds"] else name


def _name(recipe: str, index: int, models: pd.DataFrame) -> str:
    """Name of the organism `index` of a family; a row without `seeds` is the first of its family."""
    if index == 0 and recipe in models.index and not models.loc[recipe, "seeds"]:
        return recipe
    return f"{recipe}-s{index}"


def recipes(models: pd.DataFrame, organisms: Mapping[str, Any], seed: int) -> dict[str, dict[str, Any]]:
    """The recipe of every organism by model: that of its family with its parent, its seed and the heads of its circuit.

    Args:
        models: output of `expand`.
        organisms: as for `expand`.
        seed: the config's.
    """
    found = {}
    for row in models[models["source"] == "organism"].itertuples():
        recipe = dict(organisms[row.location])
        recipe["seed"] = SEED_STRIDE * seed + row.seed
        if row.parent:
            recipe["parent"] = row.parent
        if "circuit" in recipe:
            recipe["heads"] = draw_circuit(architecture(organisms, row.location), recipe.pop("circuit"), recipe["seed"])
        found[row.Index] = recipe
    return found


def finetunings(models: pd.DataFrame, finetuning: Mapping[str, Any], seed: int) -> dict[str, dict[str, Any]]:
    """The recipe of every fine-tuned model, with its seed.

    Args:
        models: output of `expand`.
        finetuning: as for `expand`.
        seed: the config's.
    """
    rows = models[models["source"] == "finetuned"].itertuples()
    return {row.Index: finetuning[row.location] | {"seed": SEED_STRIDE * seed + row.seed} for row in rows}


def architecture(organisms: Mapping[str, Any], name: str) -> Mapping[str, int]:
    """The architecture of a recipe, or of the recipe that its parents come from."""
    while "architecture" not in organisms[name]:
        name = organisms[name]["parent"]
    return organisms[name]["architecture"]
