"""Draw ASR, over-refusal and utility side by side at the operating points of the claims."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_tradeoffs
from refusal_cliff.plots.style import save

job(snakemake)
claims = snakemake.params.claims
ablation, selection = (read_csv(path) for path in (snakemake.input.ablation, snakemake.input.selection))
figure = plot_tradeoffs(ablation, selection, claims["fraction"], claims["budget"])
save(figure, snakemake.output.svg, snakemake.output.pdf)
