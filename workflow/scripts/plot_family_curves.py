"""Draw the refusal score over the thinking and through the boundary, per model, outcome and attack family."""

from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.job import job
from refusal_cliff.plots.style import save
from refusal_cliff.plots.traces import plot_family_curves

job(snakemake)
params = snakemake.params
cliffs, outcomes = read_tables(snakemake.input.cliffs), read_table(snakemake.input.outcomes)
figure = plot_family_curves(cliffs, outcomes, params.probe, params.tail, params.seed)
save(figure, snakemake.output.svg, snakemake.output.pdf)
