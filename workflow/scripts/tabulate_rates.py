"""Tabulate every rate by dataset and attack family, and compare every variant with its base model."""

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.outcomes import comparisons, rates, write_csv

job(snakemake)
outcomes = read_table(snakemake.input.outcomes)
write_csv(rates(outcomes), snakemake.output.csv, snakemake.output.markdown)
write_csv(
    comparisons(outcomes, snakemake.params.seed),
    snakemake.output.comparisons_csv,
    snakemake.output.comparisons_markdown,
)
