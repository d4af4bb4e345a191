"""Draw what each intervention on the same heads does to ASR, over-refusal, utility and perplexity."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_interventions
from refusal_cliff.plots.style import save

job(snakemake)
params = snakemake.params
figure = plot_interventions(read_csv(snakemake.input.ablation), params.operating, params.fraction)
save(figure, snakemake.output.svg, snakemake.output.pdf)
