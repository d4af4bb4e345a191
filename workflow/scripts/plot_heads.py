"""Draw the effects of heads by every ranking, how far rankings agree, and what the first heads attend to."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_attention, plot_head_agreement, plot_head_intervals, plot_heads
from refusal_cliff.plots.style import draw_all

job(snakemake)
inputs = snakemake.input
heads = read_csv(inputs.heads)
draw_all(
    snakemake.output,
    heads=plot_heads(heads),
    head_intervals=plot_head_intervals(heads),
    head_agreement=plot_head_agreement(heads, read_csv(inputs.agreement), snakemake.params.operating),
    attention=plot_attention(read_csv(inputs.attention)),
)
