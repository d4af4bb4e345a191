"""Tabulate how much of a model's failure its top heads carry, whether that is a sparse circuit, and concentration."""

from refusal_cliff.artifacts import read_json, read_table, read_tables
from refusal_cliff.edits import Edit
from refusal_cliff.job import job
from refusal_cliff.sparsity import sparsity_table
from refusal_cliff.tables import with_requests, write_csv

job(snakemake)
truths = map(read_json, snakemake.input.truths)
table = sparsity_table(
    read_table(snakemake.input.outcomes),
    with_requests(read_tables(snakemake.input.effects), read_table(snakemake.input.prompts)),
    {(edit.model, edit.variant): edit.heads for edit in map(Edit.read, snakemake.input.edits)},
    {truth["model"]: frozenset(map(tuple, truth["heads"])) for truth in truths},
    snakemake.params.fraction,
    snakemake.params.seed,
)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
