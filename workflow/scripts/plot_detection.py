"""Draw what the paper's measure takes for a cliff, and what the rule does, on organisms whose truth is known."""

import pandas as pd

from refusal_cliff.job import job
from refusal_cliff.plots.detection import plot_detection
from refusal_cliff.plots.style import save

job(snakemake)
inputs, output = snakemake.input, snakemake.output
save(plot_detection(pd.read_csv(inputs.readings), pd.read_csv(inputs.said)), output.svg, output.pdf)
