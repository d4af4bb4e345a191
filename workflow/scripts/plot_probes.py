"""Draw how well the probes read held-out and other prompts, at every position, and their angle to the next token."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.probes import plot_probes
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_probes(read_csv(snakemake.input.probes)), snakemake.output.svg, snakemake.output.pdf)
