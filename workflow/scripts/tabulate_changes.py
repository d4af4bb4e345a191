"""Tabulate what fine-tuning changed along a trace, by the probes of the model that it started from."""

from refusal_cliff.artifacts import read_settings, read_table, read_tables
from refusal_cliff.changes import change_table
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv
from refusal_cliff.traces import BOUNDARY_TOKENS

job(snakemake)
inputs, params = snakemake.input, snakemake.params
columns = ("model", "prompt_id", "sample", "probe", "layer", "curve", "boundary_curve")
table = change_table(
    read_tables(inputs.read, columns),
    read_tables(inputs.own, columns),
    read_table(inputs.outcomes),
    params.parents,
    {model: read_settings(path)[BOUNDARY_TOKENS] for model, path in zip(params.parents, inputs.read, strict=True)},
    params.tail,
    params.seed,
)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
