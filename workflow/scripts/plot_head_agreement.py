"""Draw the effect of every head by one ranking against its effect by each other, with the rankings' agreement."""

import pandas as pd

from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_head_agreement
from refusal_cliff.plots.style import save

job(snakemake)
heads, agreement = pd.read_csv(snakemake.input.heads), pd.read_csv(snakemake.input.agreement)
figure = plot_head_agreement(heads, agreement, snakemake.params.ranking)
save(figure, snakemake.output.svg, snakemake.output.pdf)
