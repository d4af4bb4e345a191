"""The organisms of the target `recovery`: circuits drawn by seed, depth and share, and the recipes that plant them."""

from collections.abc import Mapping
from random import Random
from typing import Any

import pandas as pd

from refusal_cliff.variants import format_number


def recovery_organisms(config: Mapping[str, Any]) -> pd.DataFrame:
    """The organisms of the target `recovery`, one row for each seed and circuit, indexed by `model`.

    Returns:
        organism, seed, circuit (layer or spread), depth, share, heads ([[layer, head], …]), parent.
    """
    plan, rows = config["recovery"], []
    for circuit in plan["circuits"]:
        architecture = config["organisms"][circuit["organism"]]["architecture"]
        shape = "spread" if circuit["spread"] else "layer"
        for seed in plan["seeds"]:
            parent = f"recovery/{circuit['organism']}-s{seed}"
            rows.append(
                {
                    "model": f"{parent}-{circuit['depth']}-{shape}-{format_number(circuit['share'])}",
                    "organism": circuit["organism"],
                    "seed": seed,
                    "circuit": shape,
                    "depth": circuit["depth"],
                    "share": circuit["share"],
                    "heads": draw_circuit(architecture, circuit, seed),
                    "parent": parent,
                }
            )
    columns = ["model", "organism", "seed", "circuit", "depth", "share", "heads", "parent"]
    return pd.DataFrame(rows, columns=columns).set_index("model")


def draw_circuit(architecture: Mapping[str, int], circuit: Mapping[str, Any], seed: int) -> list[list[int]]:
    """Heads [[layer, head], …] of a circuit, by seed: `share` of all heads, at least one, in some of the layers.

    Those are the circuit's `layers`, or a third of all of them. Without `spread` all heads lie in one of these layers;
    with it, they take them in turn.
    """
    n_layers, n_heads = architecture["layers"], architecture["heads"]
    rng = Random(f"{circuit.get('layers') or circuit['depth']} {circuit['share']} {seed}")
    third = ("early", "middle", "late").index(circuit["depth"]) if "depth" in circuit else 0
    layers = list(circuit.get("layers", ())) or list(range(third * n_layers // 3, (third + 1) * n_layers // 3))
    rng.shuffle(layers)
    if not circuit["spread"]:
        layers = layers[:1]
    count = max(1, round(circuit["share"] * n_layers * n_heads))
    free = {layer: rng.sample(range(n_heads), n_heads) for layer in layers}
    return sorted([layers[turn % len(layers)], free[layers[turn % len(layers)]].pop()] for turn in range(count))


def recovery_recipes(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Recipes of the recovery organisms and of their parents, by model name, as under `organisms`."""
    organisms, planted = config["organisms"], recovery_organisms(config)
    recipes = {
        row.parent: dict(organisms[row.organism]) | {"seed": row.seed}
        for row in planted.drop_duplicates("parent").itertuples()
    }
    for row in planted.itertuples():
        changed = {"parent": row.parent, "heads": row.heads, "seed": row.seed}
        recipe = dict(organisms[config["recovery"]["recipe"]])
        recipe.pop("circuit", None)
        recipes[row.Index] = recipe | changed
    return recipes


def with_recovery(models: pd.DataFrame, recovery: pd.DataFrame) -> pd.DataFrame:
    """The model sheet with rows for the recovery organisms and their parents, each like the first organism's row."""
    names = [*recovery["parent"].unique(), *recovery.index]
    organisms = models[(models["source"] == "organism") & (models["role"] == "subject")]
    if organisms.empty or not names:
        return models
    parents = dict.fromkeys(recovery["parent"], "") | recovery["parent"].to_dict()
    off = {"ablate": False, "intervene": False, "tune": False, "role": "recovery"}
    rows = pd.concat([organisms.head(1)] * len(names)).assign(location=names, family=names, **off)
    rows = rows.set_axis(pd.Index(names, name=models.index.name))
    return pd.concat([models, rows.assign(parent=rows.index.map(parents), probes=rows.index)])
