"""Draw rates after tuning against the number of training examples."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_selection
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_selection(read_csv(snakemake.input.selection)), snakemake.output.svg, snakemake.output.pdf)
