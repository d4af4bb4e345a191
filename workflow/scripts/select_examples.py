"""Choose training examples from the safety pool by one selector and budget."""

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.judges import read_verdicts
from refusal_cliff.selection import score_examples, select_examples
from refusal_cliff.variants import Variant

job(snakemake)
params, wildcards = snakemake.params, snakemake.wildcards
variant = Variant("tune", selector=wildcards.selector, budget=float(wildcards.budget), seed=int(wildcards.seed))
traces = read_table(snakemake.input.traces, ("model", "variant", "prompt_id", "sample", "finish_reason"))
scores = score_examples(
    variant.selector,
    traces,
    read_verdicts(snakemake.input.verdicts, traces),
    read_table(snakemake.input.cliffs, ("prompt_id", "sample", "probe", "layer", "cliff")),
    params.probe,
    params.refusal_judge,
)
selected = select_examples(scores, variant.budget, params.seed + variant.seed)
settings = dict(params.items())
write_table(selected, snakemake.output.table, settings, model=wildcards.model, variant=str(variant))
