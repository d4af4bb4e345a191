"""Draw what fine-tuned models recognise and refuse along their training."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.rates import plot_finetuning
from refusal_cliff.plots.style import draw_all

job(snakemake)
draw_all(snakemake.output, finetuning=plot_finetuning(read_csv(snakemake.input.looks)))
