"""Draw the height of cliffs by outcome, their ends by attack family, and what their length has to do with it."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.cliffs import plot_cliff_length, plot_cliffs, plot_families
from refusal_cliff.plots.style import draw_all

job(snakemake)
inputs = snakemake.input
cliffs = read_csv(inputs.cliffs)
draw_all(
    snakemake.output,
    cliffs=plot_cliffs(cliffs, read_csv(inputs.refits)),
    families=plot_families(cliffs, snakemake.params.probe),
    cliff_length=plot_cliff_length(read_csv(inputs.correlations)),
)
