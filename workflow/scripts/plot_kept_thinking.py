"""Draw rates and final scores against the share of its thinking that a model keeps."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.cliffs import plot_kept_thinking
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_kept_thinking(read_csv(snakemake.input.kept)), snakemake.output.svg, snakemake.output.pdf)
