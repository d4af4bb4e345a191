"""Draw the effect of every head by the operating ranking against every other one, with the rankings' agreement."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_head_agreement
from refusal_cliff.plots.style import save

job(snakemake)
heads, agreement = read_csv(snakemake.input.heads), read_csv(snakemake.input.agreement)
figure = plot_head_agreement(heads, agreement, snakemake.params.operating)
save(figure, snakemake.output.svg, snakemake.output.pdf)
