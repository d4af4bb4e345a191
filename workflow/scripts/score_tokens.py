"""Score every token of some traces of a variant with every probe, for the trace viewer."""

from pathlib import Path

from refusal_cliff.activations import encode_traces
from refusal_cliff.artifacts import read_arrays, read_table, write_table
from refusal_cliff.edits import Edit
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.token_scores import chosen_prompts, score_tokens
from refusal_cliff.traces import ChatFormat

job(snakemake)
params, row, checkpoint = snakemake.params, snakemake.params.model, snakemake.input.checkpoint
prompts = chosen_prompts(read_table(snakemake.input.prompts, ("prompt_id", "prompt", "dataset")), params.most)
traces = read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "response", "finish_reason"))
traces = traces[traces["prompt_id"].isin(prompts["prompt_id"])]
tokenizer = load_tokenizer(checkpoint, row)
closed, encoded = encode_traces(tokenizer, prompts, traces, ChatFormat.of(row), with_response=True)
edit = Edit.read(snakemake.input.edit or None)
model = edit.apply(load_model(checkpoint, row))
arrays = {Path(path).stem: read_arrays(path) for path in snakemake.input.probes}
probes = {name: tuple(arrays[name][part] for part in ("w", "b", "layers")) for name in arrays}
with edit.hooked(model, n_boundary=0):
    table = score_tokens(model, tokenizer, closed, encoded, probes, row["batch_size"])
keys = {"model": snakemake.wildcards.model, "variant": snakemake.wildcards.variant}
write_table(table, snakemake.output.table, dict(params.items()), **keys)
