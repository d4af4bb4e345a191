"""Draw the refusal score over the thinking and through the boundary, and the cliff by layer."""

from refusal_cliff.artifacts import read_csv, read_table, read_tables
from refusal_cliff.job import job
from refusal_cliff.plots.style import draw_all
from refusal_cliff.plots.traces import plot_curves, plot_layers

job(snakemake)
inputs, params = snakemake.input, snakemake.params
cliffs, outcomes, heights = read_tables(inputs.cliffs), read_table(inputs.outcomes), read_csv(inputs.heights)
own = cliffs[cliffs["probe"] == params.probe]
others = cliffs[cliffs["probe"] != params.probe]
draw_all(
    snakemake.output,
    curves=plot_curves(own, outcomes, heights, params.tail, params.seed),
    probe_curves=plot_curves(others, outcomes, heights, params.tail, params.seed, row="probe"),
    layers=plot_layers(own, outcomes, params.seed),
)
