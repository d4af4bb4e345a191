"""Measure every claim of the paper on every model and decide it."""

from pathlib import Path

import pandas as pd

from refusal_cliff.artifacts import read_json, read_table
from refusal_cliff.claims import evaluate
from refusal_cliff.cliff_tables import last_layer
from refusal_cliff.evidence import Evidence, ablated_heads
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
params = snakemake.params
outcomes = read_table(snakemake.input.outcomes)
planted = {Path(path).parent.name: read_json(path)["heads"] for path in snakemake.input.truths}
edits = list(zip(params.runs, snakemake.input.edits, strict=True))
measured = {Path(path).stem: pd.read_csv(path) for path in snakemake.input.tables}
claims = []
for model, cliffs in zip(params.models, snakemake.input.cliffs, strict=True):
    tables = {name: table[table["model"] == model] for name, table in measured.items()}
    evidence = Evidence(
        outcomes=outcomes[outcomes["model"] == model],
        cliffs=read_table(cliffs, ("prompt_id", "sample", "probe", "layer", "plateau", "cliff")),
        tables=tables | {"probes": last_layer(tables["probes"])},
        probe=params.probe,
        ablated={variant: ablated_heads(read_json(path)) for (owner, variant), path in edits if owner == model},
        planted=frozenset(map(tuple, planted[model])) if model in planted else None,
        fraction=params.claims["fraction"],
        budget=params.claims["budget"],
        seed=params.seed,
    )
    claims.append(evaluate(model, evidence))
write_csv(pd.concat(claims, ignore_index=True), snakemake.output.csv, snakemake.output.markdown)
