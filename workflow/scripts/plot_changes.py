"""Draw what fine-tuning changed at every layer and position, by the probe of the model that it started from."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.style import draw_all
from refusal_cliff.plots.traces import plot_changes

job(snakemake)
params = snakemake.params
draw_all(snakemake.output, changes=plot_changes(read_csv(snakemake.input.changes), params.probe, params.families))
