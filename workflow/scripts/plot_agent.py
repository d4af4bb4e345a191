"""Draw what models plan and what they do, in chat and in tool contexts, by variant."""

from refusal_cliff.artifacts import read_csv
from refusal_cliff.job import job
from refusal_cliff.plots.agents import plot_agent
from refusal_cliff.plots.style import draw_all

job(snakemake)
draw_all(snakemake.output, agent=plot_agent(read_csv(snakemake.input.agent), snakemake.params.families))
