"""Tabulate the rates of the base models and of every intervention on their heads."""

from refusal_cliff.ablation_tables import ablation_table
from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.edits import Edit
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
table = ablation_table(
    read_table(snakemake.input.outcomes),
    read_tables(snakemake.input.perplexities, ("model", "variant")),
    {(edit.model, edit.variant): edit.heads for edit in map(Edit.read, snakemake.input.edits)},
    read_tables(snakemake.input.heads, ("model", "layer", "head", "write_norm")),
    snakemake.params.seed,
)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
