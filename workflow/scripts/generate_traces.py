"""Sample traces for one prompt set from one variant of a model."""

from pathlib import Path

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.generation import generate_traces
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import ThinkingFormat

job(snakemake)
row = snakemake.params.model
model = load_model(
    snakemake.input.checkpoint, row["dtype"], row["trust_remote_code"], variant=Path(snakemake.input.edit).parent
)
traces = generate_traces(
    model,
    load_tokenizer(snakemake.input.checkpoint, row["trust_remote_code"]),
    read_table(snakemake.input.prompts, ("prompt_id", "prompt")),
    ThinkingFormat(row["thinking_open"], row["boundary"]),
    snakemake.params.generation,
    row["batch_size"],
    snakemake.params.seed,
)
write_table(traces, snakemake.output.table, dict(snakemake.params.items()))
