"""Tabulate the rates of the base models and of their tunings."""

from refusal_cliff.ablation_tables import selection_table
from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
selections = read_tables(snakemake.input.selections, ("model", "variant"))
table = selection_table(read_table(snakemake.input.outcomes), selections, snakemake.params.seed)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
