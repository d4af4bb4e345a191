"""Draw rates against the fraction of heads ablated."""

import pandas as pd

from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_ablation
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_ablation(pd.read_csv(snakemake.input.ablation)), snakemake.output.svg, snakemake.output.pdf)
