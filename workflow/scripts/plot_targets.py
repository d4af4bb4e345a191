"""Draw how much of moving the probe is moving the behaviour: how far targets agree, and what their first heads do."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_targets
from refusal_cliff.plots.style import draw_all

job(snakemake)
draw_all(snakemake.output, targets=plot_targets(read_csv(snakemake.input.targets)))
