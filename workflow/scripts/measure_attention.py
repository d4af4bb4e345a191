"""Measure the attention of every head from the boundary to the spans of the traces that heads are ranked on."""

import pandas as pd

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.attention import boundary_attention, span_labels, span_masses
from refusal_cliff.head_effects import ranking_traces
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import TRACE_KEY, ThinkingFormat

job(snakemake)
params, row = snakemake.params, snakemake.params.model
tokenizer = load_tokenizer(snakemake.input.checkpoint, row["trust_remote_code"])
prompts = read_table(snakemake.input.prompts, ("prompt_id", "dataset", "prompt", "request"))
traces = read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "finish_reason"))
traces = ranking_traces(traces, prompts, params.heads["datasets"], params.heads["traces"], params.seed)
traces = traces.merge(prompts[["prompt_id", "prompt", "request"]], on="prompt_id", validate="many_to_one")
thinking = ThinkingFormat(row["thinking_open"], row["boundary"])
labelled = [
    span_labels(tokenizer, trace.prompt, trace.request, trace.thinking, thinking, params.intentions)
    for trace in traces.itertuples()
]
model = load_model(snakemake.input.checkpoint, row["dtype"], row["trust_remote_code"])
encoded = [trace for trace, _ in labelled]
tables = {
    index: span_masses(weights, labelled[index][1])
    for index, weights in boundary_attention(model, encoded, tokenizer.pad_token_id, row["batch_size"])
}
keys = [traces[TRACE_KEY].iloc[index].to_dict() for index in range(len(traces))]
attention = pd.concat([tables[index].assign(**key) for index, key in enumerate(keys)], ignore_index=True)
columns = ["prompt_id", "sample", "layer", "head", "query", "span", "mass", "uniform", "tokens"]
write_table(attention[columns], snakemake.output.table, dict(params.items()))
