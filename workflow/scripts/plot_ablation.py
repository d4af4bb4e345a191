"""Draw rates against the fraction of heads ablated."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_ablation
from refusal_cliff.plots.style import draw_all

job(snakemake)
draw_all(snakemake.output, ablation=plot_ablation(read_csv(snakemake.input.ablation)))
