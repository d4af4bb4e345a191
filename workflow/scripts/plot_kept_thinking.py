"""Draw rates and final scores against the share of the thinking that is kept."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_kept_thinking
from refusal_cliff.plots.style import draw_all

job(snakemake)
draw_all(snakemake.output, kept_thinking=plot_kept_thinking(read_csv(snakemake.input.kept)))
