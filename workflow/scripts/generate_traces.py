"""Sample traces of one prompt set from one variant of a model: whole ones, or new answers to the base thinking.

A variant that a model cannot have, because its ranking could not be measured, has none.
"""

import sys

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.batches import kept_batches
from refusal_cliff.edits import Edit
from refusal_cliff.generation import continue_traces, generate_traces, no_traces, unthought_traces
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import ChatFormat

job(snakemake)
params, row = snakemake.params, snakemake.params.model
keys = {"model": snakemake.wildcards.model, "variant": snakemake.wildcards.variant}
edit = Edit.read(snakemake.input.get("edit") or None)
if edit.missing:
    print(f"no data: {edit.missing}")
    write_table(no_traces(), snakemake.output.table, dict(params.items()), **keys)
    sys.exit()
model = edit.apply(load_model(snakemake.input.checkpoint, row))
tokenizer = load_tokenizer(snakemake.input.checkpoint, row)
prompts = read_table(snakemake.input.prompts, ("prompt_id", "prompt"))
chat = ChatFormat.of(row)
settings = (chat, params.generation, row["batch_size"], params.seed)
with kept_batches(snakemake.output.table, dict(params.items()), snakemake.input) as batches:
    with edit.hooked(model, len(tokenizer(chat.boundary, add_special_tokens=False)["input_ids"])):
        base = None
        if path := snakemake.input.get("base"):
            columns = ("prompt_id", "sample", "thinking", "finish_reason")
            base = read_table(path, columns).drop(columns=["model", "variant"])
        elif not row["thinks"]:
            base = unthought_traces(tokenizer, prompts, chat, params.generation["samples"])
        if base is not None:
            traces = continue_traces(model, tokenizer, prompts, base, *settings, kept=edit.keep, batches=batches)
        else:
            # An edited model may have lost the habit; that is a result.
            must_close = snakemake.wildcards.variant == "base"
            traces = generate_traces(model, tokenizer, prompts, *settings, batches=batches, must_close=must_close)
    write_table(traces, snakemake.output.table, dict(params.items()), **keys)
