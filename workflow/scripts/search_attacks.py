"""Search neutral wrappers that make one model give in, and wrap the attacked test requests in what was found.

Input: the model with its probe and ranking, prompts, traces and verdicts of set fit; prompts of set test.
Output: datasets, one for each objective; search (everything that was asked, and what was chosen).
"""

from refusal_cliff.artifacts import read_arrays, read_table, write_table
from refusal_cliff.attack_search import (
    OBJECTIVES,
    Asker,
    attack_datasets,
    attacked_requests,
    circuit_objective,
    output_objective,
    search_attacks,
    searched_traces,
)
from refusal_cliff.errors import UserError
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, read_verdicts
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.rankings import top_heads
from refusal_cliff.readouts import Source, make_readouts
from refusal_cliff.traces import ChatFormat
from refusal_cliff.wrappers import neutral_wrappers

job(snakemake)
params, row, inputs = snakemake.params, snakemake.params.model, snakemake.input
source, settings = snakemake.wildcards.model, dict(snakemake.params.items())
prompts = read_table(inputs.prompts, ("prompt_id", "dataset", "prompt"))
traces = read_table(inputs.traces, ("model", "variant", "prompt_id", "sample", "thinking", "response", "finish_reason"))
did = behaviour(read_verdicts(inputs.verdicts, traces), params.refusal_judge)
asked = searched_traces(traces, prompts, did, params.transfer["fit"], params.transfer["requests"])
heads = top_heads(read_table(inputs.ranking, ("layer", "head", "rank")), params.fraction)
tokenizer, model = load_tokenizer(inputs.checkpoint, row), load_model(inputs.checkpoint, row)
w = read_arrays(inputs.probe)["w"][-1]
readouts, reasons = make_readouts(["probe", "openers"], Source(model, inputs.checkpoint, w, traces, did))
if reasons or not heads:
    why = "; ".join(reasons.values()) or "its heads could not be ranked"
    raise UserError(f"transfer.sources: {source!r} cannot be searched: {why}; take it out")
batches = (tokenizer.pad_token_id, row["batch_size"])
objectives = {
    "circuit": circuit_objective(model, readouts["probe"], heads, *batches),
    "output": output_objective(model, readouts["openers"], *batches),
}
wrappers, rounds = neutral_wrappers(), params.transfer["rounds"]
asker = Asker(tokenizer, ChatFormat.of(row), asked)
found = search_attacks(objectives, asker, wrappers, rounds, params.transfer["kept"])
requests = attacked_requests(read_table(inputs.test), params.transfer["test"])
datasets = attack_datasets(found, requests, wrappers, source, rounds, params.seed)
for objective, path in zip(OBJECTIVES, snakemake.output.datasets, strict=True):
    write_table(datasets[objective], path, settings)
write_table(found, snakemake.output.search, settings, model=source)
