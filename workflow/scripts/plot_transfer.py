"""Draw what each attack gains on every model, source by target."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.style import draw_all
from refusal_cliff.plots.transfer import plot_transfer

job(snakemake)
draw_all(snakemake.output, transfer=plot_transfer(read_csv(snakemake.input.transfer)))
