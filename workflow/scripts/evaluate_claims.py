"""Measure every claim of the paper on every model and decide it."""

from pathlib import Path

import pandas as pd

from refusal_cliff.artifacts import read_json, read_table
from refusal_cliff.claims import Evidence, ablated_heads, evaluate
from refusal_cliff.job import job
from refusal_cliff.outcomes import write_csv

job(snakemake)
params = snakemake.params
outcomes = read_table(snakemake.input.outcomes)
planted = {Path(path).parent.name: read_json(path)["heads"] for path in snakemake.input.truths}
edits = list(zip(params.runs, snakemake.input.edits, strict=True))
tables = []
for model, cliffs in zip(params.models, snakemake.input.cliffs, strict=True):
    evidence = Evidence(
        outcomes=outcomes[outcomes["model"] == model],
        cliffs=read_table(cliffs, ("prompt_id", "sample", "probe", "layer", "plateau", "cliff")),
        probe=params.probe,
        ablated={variant: ablated_heads(read_json(path)) for (owner, variant), path in edits if owner == model},
        planted=frozenset(map(tuple, planted[model])) if model in planted else None,
        fraction=params.claims["fraction"],
        budget=params.claims["budget"],
        seed=params.seed,
    )
    tables.append(evaluate(model, evidence))
write_csv(pd.concat(tables, ignore_index=True), snakemake.output.csv, snakemake.output.markdown)
