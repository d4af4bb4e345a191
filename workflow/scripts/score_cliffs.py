"""Score every position of every trace with every probe, and measure the cliffs."""

from pathlib import Path

from refusal_cliff.activations import encode_traces
from refusal_cliff.artifacts import read_table, read_tensors, write_table
from refusal_cliff.cliffs import score_traces
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import ThinkingFormat

job(snakemake)
row, cliffs = snakemake.params.model, snakemake.params.cliffs
tokenizer = load_tokenizer(snakemake.input.checkpoint, row["trust_remote_code"])
traces, encoded = encode_traces(
    tokenizer,
    read_table(snakemake.input.prompts, ("prompt_id", "prompt")),
    read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "finish_reason")),
    ThinkingFormat(row["thinking_open"], row["boundary"]),
)
probes = {Path(path).stem: read_tensors(path) for path in snakemake.input.probes}
table, refits = score_traces(
    load_model(
        snakemake.input.checkpoint, row["dtype"], row["trust_remote_code"], variant=Path(snakemake.input.edit).parent
    ),
    traces,
    encoded,
    {name: tuple(probe[tensor].numpy() for tensor in ("w", "b", "layers")) for name, probe in probes.items()},
    {
        name: (probe["refit_w"].numpy(), probe["refit_b"].numpy(), int(probe["layers"][-1]))
        for name, probe in probes.items()
    },
    tokenizer.pad_token_id,
    row["batch_size"],
    cliffs["grid"],
    cliffs["tail"],
)
write_table(table, snakemake.output.table, dict(snakemake.params.items()))
write_table(refits, snakemake.output.refits, dict(snakemake.params.items()))
