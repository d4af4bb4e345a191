"""Tabulate the rates of the base models and of their ablations."""

from refusal_cliff.artifacts import read_json, read_table
from refusal_cliff.job import job
from refusal_cliff.outcomes import ablation_table, write_csv

job(snakemake)
edits = zip(snakemake.params.runs, snakemake.input.edits, strict=True)
heads = {(model, variant): len(read_json(path)["head_scales"]) for (model, variant), path in edits}
table = ablation_table(read_table(snakemake.input.outcomes), heads)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
