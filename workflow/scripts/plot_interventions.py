"""Draw what each intervention on the same heads does to ASR, over-refusal, utility and perplexity."""

import pandas as pd

from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_interventions
from refusal_cliff.plots.style import save

job(snakemake)
figure = plot_interventions(pd.read_csv(snakemake.input.ablation), snakemake.params.fraction)
save(figure, snakemake.output.svg, snakemake.output.pdf)
