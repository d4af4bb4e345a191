"""Tabulate every rate of every model and variant, by dataset and attack family."""

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.outcomes import rates
from refusal_cliff.tables import write_csv

job(snakemake)
write_csv(rates(read_table(snakemake.input.outcomes)), snakemake.output.csv, snakemake.output.markdown)
