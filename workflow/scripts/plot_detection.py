"""Draw what the paper's measure takes for a cliff, and what the rule does, on organisms whose truth is known."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.detection import plot_detection
from refusal_cliff.plots.style import draw_all

job(snakemake)
inputs = snakemake.input
draw_all(snakemake.output, detection=plot_detection(read_csv(inputs.readings), read_csv(inputs.said)))
