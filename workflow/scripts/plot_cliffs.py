"""Draw the height of cliffs by model, group and attack family."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.cliffs import plot_cliffs
from refusal_cliff.plots.style import save

job(snakemake)
figure = plot_cliffs(read_csv(snakemake.input.cliffs), read_csv(snakemake.input.refits))
save(figure, snakemake.output.svg, snakemake.output.pdf)
