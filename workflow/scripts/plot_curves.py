"""Draw the refusal score over the thinking and through the boundary, and the cliff by layer."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.style import draw_all
from refusal_cliff.plots.traces import plot_curves, plot_layers

job(snakemake)
inputs, probe = snakemake.input, snakemake.params.probe
curves, layers, heights = (read_csv(path) for path in (inputs.curves, inputs.layers, inputs.heights))
own = curves["probe"] == probe
draw_all(
    snakemake.output,
    curves=plot_curves(curves[own], heights),
    probe_curves=plot_curves(curves[~own], heights, row="probe"),
    layers=plot_layers(layers[layers["probe"] == probe], curves[own]),
)
