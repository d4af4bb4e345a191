"""Tabulate the cliffs of the base models: size and place, by layer, differences, refits, length of thinking, curves."""

from joblib import parallel_config

from refusal_cliff.artifacts import read_settings, read_table, read_tables
from refusal_cliff.cliff_tables import (
    cliff_table,
    curve_table,
    difference_table,
    layer_table,
    length_table,
    prompt_cliffs,
    refit_table,
)
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv
from refusal_cliff.traces import BOUNDARY_TOKENS

job(snakemake)
inputs, params, output = snakemake.input, snakemake.params, snakemake.output
seed, outcomes, measured = params.seed, read_table(inputs.outcomes), read_tables(inputs.cliffs)
boundaries = {
    model: read_settings(path)[BOUNDARY_TOKENS] for model, path in zip(params.models, inputs.cliffs, strict=True)
}
with parallel_config(n_jobs=snakemake.threads):
    cliffs = prompt_cliffs(measured, outcomes)
    refits = refit_table(read_tables(inputs.refits), outcomes, seed)
    write_csv(cliff_table(cliffs, seed), output.csv, output.markdown)
    write_csv(difference_table(cliffs, seed), output.differences_csv, output.differences_markdown)
    write_csv(refits, output.refits_csv, output.refits_markdown)
    write_csv(length_table(cliffs, seed), output.length_csv, output.length_markdown)
    # Curves are long, and figures show them of the first seeds alone.
    first = measured[measured["model"].isin(params.first)]
    write_csv(layer_table(first, outcomes, seed), output.layers_csv, output.layers_markdown)
    write_csv(curve_table(first, outcomes, boundaries, seed), output.curves_csv, output.curves_markdown)
