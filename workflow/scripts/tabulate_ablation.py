"""Tabulate the rates of the base models and of every intervention on their heads."""

from refusal_cliff.ablation_tables import ablation_table
from refusal_cliff.artifacts import read_arrays, read_json, read_models, read_table
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
params = snakemake.params
edits = zip(params.runs, snakemake.input.edits, strict=True)
table = ablation_table(
    read_table(snakemake.input.outcomes),
    read_models(params.models, snakemake.input.perplexities),
    {run: [(layer, head) for layer, head, _scale in read_json(path)["head_scales"]] for run, path in edits},
    {model: read_arrays(path)["write_norm"] for model, path in zip(params.models, snakemake.input.means, strict=True)},
    params.seed,
)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
