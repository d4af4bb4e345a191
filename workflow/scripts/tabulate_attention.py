"""Tabulate what the top heads of the causal ranking attend to from the boundary, beside all other heads."""

import pandas as pd

from refusal_cliff.artifacts import read_table
from refusal_cliff.attention_tables import attention_by_group
from refusal_cliff.job import job
from refusal_cliff.rankings import top_heads
from refusal_cliff.tables import write_csv

job(snakemake)
params, tables = snakemake.params, []
for model, attention, causal in zip(params.models, snakemake.input.attention, snakemake.input.causal, strict=True):
    top = top_heads(read_table(causal, ("layer", "head", "rank")), params.fraction)
    table = attention_by_group(read_table(attention), top, params.seed)
    table.insert(0, "model", model)
    tables.append(table)
write_csv(pd.concat(tables, ignore_index=True), snakemake.output.csv, snakemake.output.markdown)
