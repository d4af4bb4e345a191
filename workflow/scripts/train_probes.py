"""Train every probe: one direction per layer, and its rivals, by which it is to be judged.

Rivals are the difference of class means and the logit direction of the last layer. A quarter of the requests is held
out; `evaluate_probes` makes the same split and measures on it.
"""

from refusal_cliff.artifacts import open_dump, read_table, write_arrays
from refusal_cliff.checkpoints import first_tokens, unembedding
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, read_verdicts, trace_labels
from refusal_cliff.probes import (
    choose_layers,
    logit_rival,
    opener_weights,
    split_requests,
    train_probe,
    training_rows,
)

job(snakemake)
inputs, params = snakemake.input, snakemake.params
judge, seed, settings = params.refusal_judge, params.seed, dict(params.items())
traces = read_table(inputs.traces, ("model", "variant", "prompt_id", "sample", "response"))
verdicts = read_verdicts(inputs.verdicts, traces)
prompts = read_table(inputs.prompts, ("prompt_id", "request_id", "dataset", "label"))
rows = read_table(inputs.rows, ("prompt_id", "sample", "kind", "position"))
resid = open_dump(inputs.resid, "resid", rows)
traces = traces.dropna(subset="response")
for (name, recipe), path in zip(params.recipes.items(), snakemake.output.probes, strict=True):
    print(f"probe {name}")
    chosen = training_rows(rows, prompts, trace_labels(verdicts, prompts, recipe["label"], judge), recipe)
    train = chosen[~split_requests(chosen, seed)]
    layers = choose_layers(recipe["layers"], resid.shape[1])
    probe = train_probe(resid, train, layers, seed)
    if layers[-1] == resid.shape[1] - 1:
        responses = traces[traces["prompt_id"].isin(train["prompt_id"])]
        tokens = first_tokens(inputs.checkpoint, responses["response"])
        openers = opener_weights(responses, behaviour(verdicts, judge), tokens)
        probe |= logit_rival(resid, train, unembedding(inputs.checkpoint), openers)
    write_arrays(probe, path, settings | {"recipes": {name: recipe}})
