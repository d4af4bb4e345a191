"""Draw the first heads of every ranking with the intervals of their effects."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_head_intervals
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_head_intervals(read_csv(snakemake.input.heads)), snakemake.output.svg, snakemake.output.pdf)
