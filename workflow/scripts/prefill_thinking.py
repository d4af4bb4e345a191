"""Put the thinking of a benign trace of a model in front of the boundary of each of its attacked requests."""

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.attack_search import prefilled_traces
from refusal_cliff.head_means import reference_traces
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, read_verdicts

job(snakemake)
params, inputs = snakemake.params, snakemake.input
requests = read_table(inputs.prefill, ("prompt_id",))
own = read_table(inputs.own, ("model", "variant", "prompt_id"))
own = own[own["prompt_id"].isin(requests["prompt_id"])].reset_index(drop=True)
traces = read_table(inputs.traces, ("model", "variant", "prompt_id", "sample", "thinking", "finish_reason"))
did = behaviour(read_verdicts(inputs.verdicts, traces), params.refusal_judge)
prompts = read_table(inputs.prompts, ("prompt_id", "dataset"))
benign = reference_traces(traces, prompts, did, params.benign, refused=False)
write_table(prefilled_traces(own, benign, params.seed), snakemake.output.table, dict(params.items()))
