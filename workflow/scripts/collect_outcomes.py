"""Join prompts, traces and verdicts of every model and variant into one table of outcomes."""

import pandas as pd

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.judges import read_verdicts
from refusal_cliff.outcomes import outcomes

job(snakemake)
params = snakemake.params
columns = ("prompt_id", "request_id", "dataset", "family", "label", "reference", "match")
prompts = read_table(snakemake.input.prompts, columns)
# Thinking is by far the longest text and not needed: so only that of one file is in memory at a time.
read = (read_table(path, ("model", "variant")).drop(columns="thinking") for path in snakemake.input.traces)
traces = pd.concat(read, ignore_index=True)
verdicts = read_verdicts(snakemake.input.verdicts, traces)
table = outcomes(prompts, traces, verdicts, params.harm_judge, params.refusal_judge)
write_table(table, snakemake.output.table, dict(params.items()))
