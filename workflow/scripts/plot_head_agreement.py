"""Draw the effect of every head by the controlled ranking against every other one, with the rankings' agreement."""

import pandas as pd

from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_head_agreement
from refusal_cliff.plots.style import save

job(snakemake)
heads, agreement = pd.read_csv(snakemake.input.heads), pd.read_csv(snakemake.input.agreement)
save(plot_head_agreement(heads, agreement), snakemake.output.svg, snakemake.output.pdf)
