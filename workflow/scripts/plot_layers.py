"""Draw the refusal score by layer and position, per model."""

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.plots.style import save
from refusal_cliff.plots.traces import plot_layers

job(snakemake)
params = snakemake.params
cliffs = {model: read_table(path) for model, path in zip(params.models, snakemake.input.cliffs, strict=True)}
figure = plot_layers(cliffs, read_table(snakemake.input.outcomes), params.tail)
save(figure, snakemake.output.svg, snakemake.output.pdf)
