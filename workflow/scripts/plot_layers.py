"""Draw the refusal score by layer and position, per model."""

from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.job import job
from refusal_cliff.plots.style import save
from refusal_cliff.plots.traces import plot_layers

job(snakemake)
params = snakemake.params
cliffs, outcomes = read_tables(snakemake.input.cliffs), read_table(snakemake.input.outcomes)
figure = plot_layers(cliffs, outcomes, params.tail)
save(figure, snakemake.output.svg, snakemake.output.pdf)
