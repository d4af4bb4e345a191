"""Join prompts, traces and verdicts of every model and variant into one table of outcomes."""

import pandas as pd

from refusal_cliff.artifacts import read_table, read_tables, write_table
from refusal_cliff.job import job
from refusal_cliff.outcomes import outcomes

job(snakemake)
params = snakemake.params
columns = ("prompt_id", "request_id", "dataset", "family", "label", "reference", "match")
prompts = read_table(snakemake.input.prompts, columns)
# Thinking is by far the longest text and not needed: so only that of one file is in memory at a time.
traces = [read_table(path, ("model", "variant")).drop(columns="thinking") for path in snakemake.input.traces]
verdicts = read_tables(snakemake.input.verdicts, ("model", "variant"))
table = outcomes(prompts, pd.concat(traces, ignore_index=True), verdicts, params.harm_judge, params.refusal_judge)
write_table(table, snakemake.output.table, dict(params.items()))
