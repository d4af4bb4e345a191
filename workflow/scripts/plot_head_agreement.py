"""Draw the causal effect of every head against its direct and its gradient effect, with the rankings' agreement."""

import pandas as pd

from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_head_agreement
from refusal_cliff.plots.style import save

job(snakemake)
figure = plot_head_agreement(pd.read_csv(snakemake.input.heads), pd.read_csv(snakemake.input.agreement))
save(figure, snakemake.output.svg, snakemake.output.pdf)
