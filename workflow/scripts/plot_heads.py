"""Draw the effect of every head by every ranking, with planted heads ringed."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_heads
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_heads(read_csv(snakemake.input.heads)), snakemake.output.svg, snakemake.output.pdf)
