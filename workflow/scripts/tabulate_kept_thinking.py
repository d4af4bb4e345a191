"""Tabulate rates and final scores by the share of its thinking that a model keeps."""

from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.cliff_tables import kept_thinking_table
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
cliffs = read_tables(snakemake.input.cliffs, ("model", "variant", "prompt_id", "sample", "probe", "layer", "final"))
table = kept_thinking_table(cliffs, read_table(snakemake.input.outcomes), snakemake.params.seed)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
