"""Write the transcripts of one model, recorded elsewhere, as traces of its base variant.

Input: prompts (of set recorded), datasets (those of the set that the model wrote). Output: table.
"""

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.datasets import GIVEN_COLUMNS, recorded_traces
from refusal_cliff.job import job

job(snakemake)
prompts = read_table(snakemake.input.prompts, ("prompt_id",))
tables = [read_table(path, ("prompt", *GIVEN_COLUMNS)) for path in snakemake.input.datasets]
keys = {"model": snakemake.wildcards.model, "variant": "base"}
write_table(recorded_traces(tables, prompts), snakemake.output.table, dict(snakemake.params.items()), **keys)
