"""Draw how well monitors foresee harmful responses: areas with their intervals, and ROC curves."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.monitors import plot_monitor_roc, plot_monitors
from refusal_cliff.plots.style import draw_all

job(snakemake)
inputs, probe = snakemake.input, snakemake.params.probe
draw_all(
    snakemake.output,
    monitors=plot_monitors(read_csv(inputs.monitors), probe),
    monitor_roc=plot_monitor_roc(read_csv(inputs.curves), probe),
)
