"""Tabulate what fine-tuned models did along their training."""

from refusal_cliff.artifacts import read_tables
from refusal_cliff.job import job
from refusal_cliff.looks import LOOK_COLUMNS
from refusal_cliff.looks_table import looks_table
from refusal_cliff.tables import write_csv

job(snakemake)
looks = read_tables(snakemake.input.looks, ("model", *LOOK_COLUMNS))
write_csv(looks_table(looks, snakemake.params.families), snakemake.output.csv, snakemake.output.markdown)
