"""Draw the calibration curve of every probe."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.probes import plot_calibration
from refusal_cliff.plots.style import save

job(snakemake)
save(plot_calibration(read_csv(snakemake.input.calibration)), snakemake.output.svg, snakemake.output.pdf)
