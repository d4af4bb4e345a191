"""Tabulate the cliffs of the base models: size and place, differences, refits of the probe, and length of thinking."""

from joblib import parallel_config

from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.cliff_tables import cliff_table, difference_table, length_table, prompt_cliffs, refit_table
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
seed, output = snakemake.params.seed, snakemake.output
outcomes = read_table(snakemake.input.outcomes)
with parallel_config(n_jobs=snakemake.threads):
    cliffs = prompt_cliffs(read_tables(snakemake.input.cliffs), outcomes)
    refits = refit_table(read_tables(snakemake.input.refits), outcomes, seed)
    write_csv(cliff_table(cliffs, seed), output.csv, output.markdown)
    write_csv(difference_table(cliffs, seed), output.differences_csv, output.differences_markdown)
    write_csv(refits, output.refits_csv, output.refits_markdown)
    write_csv(length_table(cliffs, seed), output.length_csv, output.length_markdown)
