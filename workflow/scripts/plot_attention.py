"""Draw what the top heads of the operating ranking attend to from the boundary, beside all other heads."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_attention
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_attention(read_csv(snakemake.input.attention)), snakemake.output.svg, snakemake.output.pdf)
