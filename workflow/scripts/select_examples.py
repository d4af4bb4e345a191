"""Choose training examples from the safety pool by one selector and budget, or draw them from a ready-made set."""

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.judges import read_verdicts
from refusal_cliff.selection import Pool, draw_ready, score_examples, select_examples, selection_cost
from refusal_cliff.traces import TRACE_KEY
from refusal_cliff.variants import Variant

job(snakemake)
params, wildcards = snakemake.params, snakemake.wildcards
variant = Variant("tune", selector=wildcards.selector, budget=float(wildcards.budget), seed=int(wildcards.seed))
prompts, seed = read_table(snakemake.input.prompts, ("prompt_id", "prompt", "dataset")), params.seed + variant.seed
if path := snakemake.input.get("traces"):
    tokens = [f"{part}_tokens" for part in ("prompt", "thinking", "response")]
    traces = read_table(path, ("model", "variant", *TRACE_KEY, "finish_reason", *tokens))
    gradients = snakemake.input.get("gradients")
    pool = Pool(
        traces,
        prompts,
        read_verdicts(snakemake.input.verdicts, traces),
        read_table(snakemake.input.cliffs, (*TRACE_KEY, "probe", "layer", "cliff", "cliff_mean")),
        read_table(gradients, (*TRACE_KEY, "loss", "gradient")) if gradients else traces.head(0),
        params.probe,
        params.refusal_judge,
    )
    selected = select_examples(score_examples(variant.selector, pool), variant.budget, seed)
    selected = selected.assign(**selection_cost(variant.selector, traces, selected))
else:
    selected = draw_ready(prompts[prompts["dataset"] == variant.selector], variant.budget, seed)
settings = dict(params.items())
write_table(selected, snakemake.output.table, settings, model=wildcards.model, variant=str(variant))
