"""Measure every head at the boundary: its effects and rankings by them, its mean outputs, and what it attends to.

A ranking whose target this model does not have is written all the same, without effects, and its sidecar says why.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from refusal_cliff.activations import encode_traces
from refusal_cliff.artifacts import NOT_MEASURABLE, read_arrays, read_table, write_arrays, write_table
from refusal_cliff.attention import measure_attention
from refusal_cliff.head_effects import measure_effects, measured_rankings, ranking_traces
from refusal_cliff.head_means import measure_means, reference_traces, write_norms
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, read_verdicts
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.rankings import effect_rows, rank_heads
from refusal_cliff.readouts import Source, make_readouts
from refusal_cliff.traces import ChatFormat

job(snakemake)
params, row, heads, output = snakemake.params, snakemake.params.model, snakemake.params.heads, snakemake.output
settings, keys = dict(params.items()), {"model": snakemake.wildcards.model}
prompts = read_table(snakemake.input.prompts, ("prompt_id", "dataset", "prompt", "request"))
columns = ("model", "variant", "prompt_id", "sample", "thinking", "response", "finish_reason")
traces = read_table(snakemake.input.traces, columns)
verdicts = read_verdicts(snakemake.input.verdicts, traces)
tokenizer = load_tokenizer(snakemake.input.checkpoint, row)
model = load_model(snakemake.input.checkpoint, row)
chat = ChatFormat.of(row)
batches = (tokenizer.pad_token_id, row["batch_size"])

ranked = ranking_traces(traces, prompts, heads["datasets"], heads["traces"], params.seed)
closed, encoded = encode_traces(tokenizer, prompts, ranked, chat)
norms, w = write_norms(model, encoded, *batches), read_arrays(snakemake.input.probe)["w"][-1]
did = behaviour(verdicts, params.refusal_judge)
readouts, reasons = make_readouts(heads["targets"], Source(model, snakemake.input.checkpoint, w, traces, did))
measured = measure_effects(model, encoded, readouts, heads["measures"], *batches)
tables, nothing = [], np.empty((0, *norms.shape))
rankings = measured_rankings(heads["targets"], heads["measures"])
for path, (ranking, (measure, target)) in zip(output.rankings, rankings.items(), strict=True):
    effects = measured.get((measure, target), nothing)
    tables.append(effect_rows(effects, closed.head(len(effects))).assign(ranking=ranking))
    why = {NOT_MEASURABLE: reasons[target]} if target in reasons else {}
    write_table(rank_heads(effects, norms), path, settings | why, **keys, ranking=ranking)
why = {NOT_MEASURABLE: reasons} if reasons else {}
write_table(pd.concat(tables, ignore_index=True), output.effects, settings | why, **keys)

references = []
for datasets, refused in ((heads["benign"], False), (heads["refused"], True)):
    chosen = reference_traces(traces, prompts, did, datasets, refused)
    references.append(encode_traces(tokenizer, prompts, chosen, chat)[1] if len(chosen) else [])
write_arrays(measure_means(model, *references, *batches), Path(output.means), settings)

described = closed.merge(prompts[["prompt_id", "prompt", "request"]], on="prompt_id", validate="many_to_one")
attention = measure_attention(model, tokenizer, described, chat, params.intentions, row["batch_size"])
write_table(attention, output.attention, settings, **keys)
