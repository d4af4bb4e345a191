"""Average what heads put out: over benign traces, at the boundary of refused ones, and how much they write."""

import torch

from refusal_cliff.activations import encode_traces
from refusal_cliff.artifacts import read_table, write_tensors
from refusal_cliff.head_effects import ranking_traces
from refusal_cliff.head_means import benign_mean, boundary_mean, reference_traces, write_norms
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import ThinkingFormat

job(snakemake)
params, row = snakemake.params, snakemake.params.model
tokenizer = load_tokenizer(snakemake.input.checkpoint, row["trust_remote_code"])
model = load_model(snakemake.input.checkpoint, row["dtype"], row["trust_remote_code"])
prompts = read_table(snakemake.input.prompts, ("prompt_id", "dataset", "prompt"))
traces = read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "finish_reason"))
verdicts = read_table(snakemake.input.verdicts, ("prompt_id", "sample", "judge", "scope", "verdict"))
did = behaviour(verdicts, params.refusal_judge)
references = {
    "benign_mean": (benign_mean, reference_traces(traces, prompts, did, params.heads["benign"], refused=False)),
    "refused_boundary": (boundary_mean, reference_traces(traces, prompts, did, params.heads["refused"], refused=True)),
    "write_norm": (
        write_norms,
        ranking_traces(traces, prompts, params.heads["datasets"], params.heads["traces"], params.seed),
    ),
}
tensors = {}
for name, (average, chosen) in references.items():
    if len(chosen):
        thinking = ThinkingFormat(row["thinking_open"], row["boundary"])
        _, encoded = encode_traces(tokenizer, prompts, chosen, thinking)
        tensors[name] = torch.as_tensor(average(model, encoded, tokenizer.pad_token_id, row["batch_size"])).float()
counts = {name: len(chosen) for name, (_, chosen) in references.items()}
write_tensors(tensors, snakemake.output.means, dict(params.items()) | {"traces": counts})
