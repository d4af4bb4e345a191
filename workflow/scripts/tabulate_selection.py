"""Tabulate the rates of the base models and of their tunings."""

from refusal_cliff.ablation_tables import selection_table
from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.job import job
from refusal_cliff.selection import COSTS
from refusal_cliff.tables import write_csv
from refusal_cliff.tuning import batch_parts

job(snakemake)
params = snakemake.params
selections = read_tables(snakemake.input.selections, ("model", "variant", "prompt_id", *COSTS))
each, _ = batch_parts(params.recipe)
outcomes = read_table(snakemake.input.outcomes)
table = selection_table(outcomes, selections, params.recipe["steps"], each, params.seed)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
