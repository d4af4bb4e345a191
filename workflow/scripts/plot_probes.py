"""Draw what probes read at every position, their accuracy, their angle to the next token, and their calibration."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.probes import (
    plot_calibration,
    plot_probe_accuracy,
    plot_probe_directions,
    plot_probe_positions,
)
from refusal_cliff.plots.style import draw_all

job(snakemake)
probes = read_csv(snakemake.input.probes)
draw_all(
    snakemake.output,
    probe_positions=plot_probe_positions(probes),
    probe_accuracy=plot_probe_accuracy(probes),
    probe_directions=plot_probe_directions(probes),
    calibration=plot_calibration(read_csv(snakemake.input.calibration)),
)
