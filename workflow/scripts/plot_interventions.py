"""Draw all that was done to a model side by side: interventions on heads, and tunings."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_interventions
from refusal_cliff.plots.style import draw_all

job(snakemake)
params = snakemake.params
ablation, selection = (read_csv(path) for path in (snakemake.input.ablation, snakemake.input.selection))
figure = plot_interventions(ablation, selection, params.operating, params.fraction, params.budget)
draw_all(snakemake.output, interventions=figure)
