"""Dump the hidden states that probes train on: last prompt token, some thinking tokens, the boundary."""

from refusal_cliff.activations import encode_traces, extract_positions
from refusal_cliff.artifacts import read_table, write_table, write_tensors
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import ChatFormat

job(snakemake)
row, settings = snakemake.params.model, dict(snakemake.params.items())
tokenizer = load_tokenizer(snakemake.input.checkpoint, row)
traces, encoded = encode_traces(
    tokenizer,
    read_table(snakemake.input.prompts, ("prompt_id", "prompt")),
    read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "finish_reason")),
    ChatFormat.of(row),
)
resid, rows = extract_positions(
    load_model(snakemake.input.checkpoint, row),
    traces,
    encoded,
    tokenizer.pad_token_id,
    row["batch_size"],
    snakemake.params.activations["thinking_positions"],
)
write_table(rows, snakemake.output.rows, settings)
write_tensors({"resid": resid}, snakemake.output.resid, settings)
