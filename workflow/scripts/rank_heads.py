"""Rank heads by their effect on the probe's logit at the last boundary token: direct, causal or gradient."""

import torch

from refusal_cliff.activations import encode_traces
from refusal_cliff.artifacts import read_table, read_tensors, write_table, write_tensors
from refusal_cliff.head_effects import EFFECTS, ranking_traces
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.rankings import rank_heads
from refusal_cliff.traces import TRACE_KEY, ThinkingFormat

job(snakemake)
row, heads, seed = snakemake.params.model, snakemake.params.heads, snakemake.params.seed
tokenizer = load_tokenizer(snakemake.input.checkpoint, row["trust_remote_code"])
prompts = read_table(snakemake.input.prompts, ("prompt_id", "dataset", "prompt"))
traces = read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "finish_reason"))
closed, encoded = encode_traces(
    tokenizer,
    prompts,
    ranking_traces(traces, prompts, heads["datasets"], heads["traces"], seed),
    ThinkingFormat(row["thinking_open"], row["boundary"]),
)
probe = read_tensors(snakemake.input.probe)
effects = EFFECTS[snakemake.wildcards.ranking](
    load_model(snakemake.input.checkpoint, row["dtype"], row["trust_remote_code"]),
    encoded,
    probe["w"][-1].numpy(),
    tokenizer.pad_token_id,
    row["batch_size"],
)
write_table(rank_heads(effects, seed), snakemake.output.table, dict(snakemake.params.items()))
# Whoever compares rankings trace by trace has to know which traces these are.
measured = {"traces": closed[TRACE_KEY].to_numpy().tolist()}
write_tensors(
    {"effects": torch.as_tensor(effects)}, snakemake.output.effects, dict(snakemake.params.items()) | measured
)
