"""Draw the first heads of every ranking with the intervals of their effects."""

import pandas as pd

from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_head_intervals
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_head_intervals(pd.read_csv(snakemake.input.heads)), snakemake.output.svg, snakemake.output.pdf)
