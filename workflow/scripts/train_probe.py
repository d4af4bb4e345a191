"""Train one probe per layer, and its rivals: difference of class means, and the logit direction of the last layer.

A quarter of the requests is held out; `evaluate_probes` makes the same split and measures on it.
"""

from refusal_cliff.artifacts import LazyTensor, read_table, write_arrays
from refusal_cliff.checkpoints import first_tokens, unembedding
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, trace_labels
from refusal_cliff.probes import choose_layers, logit_rival, opener_weights, split_requests, train_probe, training_rows

job(snakemake)
recipe, judge, seed = snakemake.params.recipe, snakemake.params.refusal_judge, snakemake.params.seed
verdicts = read_table(snakemake.input.verdicts, ("prompt_id", "sample", "judge", "scope", "verdict"))
prompts = read_table(snakemake.input.prompts, ("prompt_id", "request_id", "dataset", "label"))
chosen = training_rows(
    read_table(snakemake.input.rows, ("prompt_id", "sample", "kind", "position")),
    prompts,
    trace_labels(verdicts, prompts, recipe["label"], judge),
    recipe,
)
train = chosen[~split_requests(chosen, seed)]
resid = LazyTensor(snakemake.input.resid, "resid")
layers = choose_layers(recipe["layers"], resid.shape[1])
probe = train_probe(resid, train, layers, seed)
if layers[-1] == resid.shape[1] - 1:
    traces = read_table(snakemake.input.traces, ("prompt_id", "sample", "response"))
    responses = traces[traces["prompt_id"].isin(train["prompt_id"])].dropna(subset="response")
    tokens = first_tokens(snakemake.input.checkpoint, responses["response"])
    openers = opener_weights(responses, behaviour(verdicts, judge), tokens)
    probe |= logit_rival(resid, train, unembedding(snakemake.input.checkpoint), openers)
write_arrays(probe, snakemake.output.probe, dict(snakemake.params.items()))
