"""Join prompts, traces and verdicts of every model and variant into one table of outcomes."""

import pandas as pd

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.outcomes import outcomes

job(snakemake)
params = snakemake.params
prompts = read_table(snakemake.input.prompts, ("prompt_id", "dataset", "family", "label", "reference", "match"))
tables = []
for (model, variant), traces, verdicts in zip(
    params.runs, snakemake.input.traces, snakemake.input.verdicts, strict=True
):
    table = outcomes(prompts, read_table(traces), read_table(verdicts), params.harm_judge, params.refusal_judge)
    table.insert(0, "model", model)
    table.insert(1, "variant", variant)
    tables.append(table)
write_table(pd.concat(tables, ignore_index=True), snakemake.output.table, dict(params.items()))
