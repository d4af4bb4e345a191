"""Draw rates after tuning against the number of training examples."""

import pandas as pd

from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_selection
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_selection(pd.read_csv(snakemake.input.selection)), snakemake.output.svg, snakemake.output.pdf)
