"""Draw rates after tuning against the number of training examples."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_selection
from refusal_cliff.plots.style import draw_all

job(snakemake)
draw_all(snakemake.output, selection=plot_selection(read_csv(snakemake.input.selection)))
