"""Draw what fine-tuning changed at every layer and position, by the probe of the model that it started from."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.style import save
from refusal_cliff.plots.traces import plot_changes

job(snakemake)
figure = plot_changes(read_csv(snakemake.input.changes), snakemake.params.probe, snakemake.params.families)
save(figure, snakemake.output.svg, snakemake.output.pdf)
