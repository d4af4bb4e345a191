"""Tabulate the rates of the base models and of their tunings."""

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.outcomes import selection_table
from refusal_cliff.tables import write_csv

job(snakemake)
selections = zip(snakemake.params.runs, snakemake.input.selections, strict=True)
examples = {(model, variant): len(read_table(path)) for (model, variant), path in selections}
table = selection_table(read_table(snakemake.input.outcomes), examples)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
