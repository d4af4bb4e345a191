"""Draw the ROC curves of monitors that foresee harmful responses."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.monitors import plot_monitors
from refusal_cliff.plots.style import save

job(snakemake)
monitors, curves = read_csv(snakemake.input.monitors), read_csv(snakemake.input.curves)
save(plot_monitors(monitors, curves, snakemake.params.probe), snakemake.output.svg, snakemake.output.pdf)
