"""Score every position of every trace with every probe, and measure the cliffs; of the base model also dump states."""

from pathlib import Path

from refusal_cliff.activations import encode_traces, extract_positions
from refusal_cliff.artifacts import read_arrays, read_table, write_table, write_tensors
from refusal_cliff.cliffs import score_traces
from refusal_cliff.edits import Edit
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import BOUNDARY_TOKENS, ChatFormat, boundary_tokens

job(snakemake)
params, row = snakemake.params, snakemake.params.model
tokenizer = load_tokenizer(snakemake.input.checkpoint, row)
traces, encoded = encode_traces(
    tokenizer,
    read_table(snakemake.input.prompts, ("prompt_id", "prompt")),
    read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "finish_reason")),
    ChatFormat.of(row),
)
settings = dict(params.items()) | {BOUNDARY_TOKENS: boundary_tokens(tokenizer, encoded[0])}
edit = Edit.read(snakemake.input.get("edit") or None)
model = edit.apply(load_model(snakemake.input.checkpoint, row))
probes = {Path(path).stem: read_arrays(path) for path in snakemake.input.probes}
pad_id, batch_size = tokenizer.pad_token_id, row["batch_size"]
refits, sweeps = (
    {name: (probe[f"{kind}_w"], probe[f"{kind}_b"], int(probe["layers"][-1])) for name, probe in probes.items()}
    for kind in ("refit", "sweep")
)
base_test = hasattr(snakemake.output, "resid")
table, refitted, swept = score_traces(
    model,
    traces,
    encoded,
    {name: tuple(probe[tensor] for tensor in ("w", "b", "layers")) for name, probe in probes.items()},
    refits,
    sweeps if base_test else {},
    pad_id,
    batch_size,
    params.grid,
    params.tail,
)
keys = {"model": snakemake.wildcards.model, "variant": snakemake.wildcards.get("variant", "base")}
write_table(table, snakemake.output.table, settings, **keys)
write_table(refitted, snakemake.output.refits, settings, **keys)
if base_test:
    write_table(swept, snakemake.output.sweep, settings, **keys)
    count = params.activations["thinking_positions"]
    resid, rows = extract_positions(model, traces, encoded, pad_id, batch_size, count)
    write_table(rows, snakemake.output.rows, settings)
    write_tensors({"resid": resid}, snakemake.output.resid, settings)
