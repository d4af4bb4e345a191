"""Tabulate how the harm judge and the refusal judge agree."""

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.outcomes import judge_agreement
from refusal_cliff.tables import write_csv

job(snakemake)
table = judge_agreement(read_table(snakemake.input.outcomes), snakemake.params.seed)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
