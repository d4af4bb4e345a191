"""Measure how well variants with changed weights predict the base model's traces of benign prompts.

The base model comes first: how far the others' predictions are from its own is measured too.
"""

import pandas as pd

from refusal_cliff.activations import encode_traces
from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.edits import Edit
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.perplexity import measure_perplexity
from refusal_cliff.traces import ChatFormat

job(snakemake)
row = snakemake.params.model
prompts = read_table(snakemake.input.prompts, ("prompt_id", "prompt", "label"))
traces = read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "response", "finish_reason"))
benign = traces[traces["prompt_id"].isin(prompts.loc[prompts["label"] == "benign", "prompt_id"])]
tokenizer = load_tokenizer(snakemake.input.checkpoint, row)
chat = ChatFormat.of(row)
closed, encoded = encode_traces(tokenizer, prompts, benign, chat, with_response=True)
tables, distributions = [], {}
edits = [edit for edit in map(Edit.read, snakemake.input.edits) if not edit.missing]
for edit in [Edit(), *edits]:
    model = edit.apply(load_model(snakemake.input.checkpoint, row))
    with edit.hooked(model, n_boundary=0):
        table = measure_perplexity(model, closed, encoded, tokenizer.pad_token_id, row["batch_size"], distributions)
    tables.append(table.assign(variant=edit.variant))
table = pd.concat(tables, ignore_index=True)
write_table(table, snakemake.output.table, dict(snakemake.params.items()), model=snakemake.wildcards.model)
