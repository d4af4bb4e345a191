"""Draw repairs side by side: refusal against over-refusal at every dose, and at equal over-refusal."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.repairs import plot_repairs
from refusal_cliff.plots.style import draw_all

job(snakemake)
repairs, matched = (read_csv(path) for path in (snakemake.input.repairs, snakemake.input.matched))
draw_all(snakemake.output, repairs=plot_repairs(repairs, matched, snakemake.params.families))
