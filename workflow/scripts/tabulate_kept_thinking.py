"""Tabulate rates and final scores by the share of its thinking that a model keeps."""

from collections import defaultdict

import pandas as pd

from refusal_cliff.artifacts import read_table
from refusal_cliff.cliff_tables import kept_thinking_table
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
outcomes = read_table(snakemake.input.outcomes)
cliffs = defaultdict(dict)
for (model, variant), path in zip(snakemake.params.runs, snakemake.input.cliffs, strict=True):
    cliffs[model][variant] = read_table(path, ("prompt_id", "sample", "probe", "layer", "final"))
tables = [
    kept_thinking_table(outcomes[outcomes["model"] == model], own, snakemake.params.seed).assign(model=model)
    for model, own in cliffs.items()
]
columns = ["model", "variant", "kept", "label", "quantity", "value", "low", "high", "n"]
table = pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
