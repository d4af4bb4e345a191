"""Draw rates along the training of tuned models."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_tuning
from refusal_cliff.plots.style import draw_all

job(snakemake)
draw_all(snakemake.output, tuning=plot_tuning(read_csv(snakemake.input.selection)))
