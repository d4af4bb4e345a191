"""Choose training examples from the safety pool by one selector and budget."""

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.selection import score_examples, select_examples

job(snakemake)
params = snakemake.params
cliffs = read_table(snakemake.input.cliffs, ("prompt_id", "sample", "probe", "layer", "cliff"))
last = cliffs["layer"].max()
scores = score_examples(
    params.selector,
    read_table(snakemake.input.traces),
    read_table(snakemake.input.verdicts),
    cliffs[(cliffs["probe"] == params.probe) & (cliffs["layer"] == last)],
    params.judges["harm"],
    params.judges["refusal"],
)
write_table(select_examples(scores, params.budget, params.seed), snakemake.output.table, dict(params.items()))
