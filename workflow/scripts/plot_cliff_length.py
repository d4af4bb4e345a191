"""Draw the height of the cliff against the length of the thinking, prompt by prompt."""

from refusal_cliff.artifacts import read_csv, read_table, read_tables
from refusal_cliff.cliff_tables import prompt_cliffs
from refusal_cliff.job import job
from refusal_cliff.plots.cliffs import plot_cliff_length
from refusal_cliff.plots.style import save

job(snakemake)
cliffs = prompt_cliffs(read_tables(snakemake.input.cliffs), read_table(snakemake.input.outcomes))
figure = plot_cliff_length(cliffs, read_csv(snakemake.input.correlations))
save(figure, snakemake.output.svg, snakemake.output.pdf)
