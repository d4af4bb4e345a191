"""Rows of the model sheet as families of organisms: names, parents, recipes."""

from pathlib import Path

import pandas as pd
import pytest

from refusal_cliff import sheets
from refusal_cliff.organisms import families

ROOT = Path(__file__).parents[1]
ORGANISMS = {
    "aligned": {"architecture": {"layers": 8, "heads": 16}, "steps": 5},
    "base": {"parent": "aligned", "steps": 5},
    "cliff": {"parent": "base", "circuit": {"depth": "late", "spread": True, "share": 0.1}, "steps": 3},
    "diffuse": {"parent": "aligned", "steps": 3},
}


@pytest.fixture
def sheet(monkeypatch):
    monkeypatch.chdir(ROOT)
    models, *_ = sheets.load_sheets(
        {"sheets": {name: f"config/{name}.tsv" for name in ("models", "datasets", "attacks")}}
    )
    row = models.loc["cliff"]

    def build(**seeds):
        rows = {name: row.to_dict() | {"location": name, "seeds": count} for name, count in seeds.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")

    return build


def test_a_row_with_seeds_is_as_many_models_and_one_without_is_itself(sheet):
    models = families.expand(sheet(aligned=0, diffuse=3), ORGANISMS)
    assert list(models.index) == ["aligned", "diffuse-s0", "diffuse-s1", "diffuse-s2"]
    assert models["family"].tolist() == ["aligned", "diffuse", "diffuse", "diffuse"]
    assert models["seed"].tolist() == [0, 0, 1, 2]
    assert models["parent"].tolist() == ["", "aligned", "aligned", "aligned"]


def test_further_seeds_are_lean(sheet):
    models = families.expand(sheet(aligned=0, diffuse=3), ORGANISMS)
    assert models["lean"].tolist() == [False, False, True, True]
    assert models["tune"].tolist() == [True, True, False, False]
    assert models["ablate"].all()


def test_four_seeds_share_a_parent_and_parents_without_a_row_are_only_trained(sheet):
    models = families.expand(sheet(cliff=9), ORGANISMS)
    cliffs = models[models["family"] == "cliff"]
    assert cliffs["parent"].tolist() == ["base-s0"] * 4 + ["base-s1"] * 4 + ["base-s2"]
    parents = models.loc[["base-s0", "base-s1", "base-s2"]]
    assert set(parents["role"]) == {"parent"} and not parents["ablate"].any() and not parents["tune"].any()


def test_a_parent_has_a_parent_of_its_own_number(sheet):
    models = families.expand(sheet(cliff=9), ORGANISMS)
    assert models.loc[["base-s0", "base-s2"], "parent"].tolist() == ["aligned-s0", "aligned-s2"]
    # A row without seeds is the first of its family, and no other.
    models = families.expand(sheet(aligned=0, cliff=9), ORGANISMS)
    assert models.loc[["base-s0", "base-s1"], "parent"].tolist() == ["aligned", "aligned-s1"]
    assert models.loc["aligned", "role"] == "subject" and models.loc["aligned-s1", "role"] == "parent"


def test_a_parent_with_seeds_of_its_own_is_not_trained_twice(sheet):
    models = families.expand(sheet(aligned=2, diffuse=6), ORGANISMS)
    assert models.loc["diffuse-s5", "parent"] == "aligned-s1" and models.loc["aligned-s1", "role"] == "subject"
    assert len(models) == 8


def test_every_seed_has_its_own_circuit_and_runs_share_no_seed(sheet):
    models = families.expand(sheet(cliff=5), ORGANISMS)
    recipes = families.recipes(models, ORGANISMS, seed=0)
    other = families.recipes(models, ORGANISMS, seed=1)
    assert recipes["cliff-s1"]["parent"] == "base-s0" and "circuit" not in recipes["cliff-s1"]
    circuits = {str(recipes[f"cliff-s{seed}"]["heads"]) for seed in range(5)}
    assert len(circuits) > 1 and all(layer >= 4 for layer, _ in recipes["cliff-s0"]["heads"])
    assert not {recipe["seed"] for recipe in recipes.values()} & {recipe["seed"] for recipe in other.values()}
