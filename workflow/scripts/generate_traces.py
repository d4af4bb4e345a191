"""Sample traces of one prompt set from one variant of a model: whole ones, or new answers to the base thinking."""

from pathlib import Path

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.generation import continue_traces, generate_traces
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import ThinkingFormat

job(snakemake)
params, row = snakemake.params, snakemake.params.model
folder = Path(snakemake.input.edit).parent
edit = read_edit(folder)
model = load_model(snakemake.input.checkpoint, row["dtype"], row["trust_remote_code"], variant=folder)
tokenizer = load_tokenizer(snakemake.input.checkpoint, row["trust_remote_code"])
prompts = read_table(snakemake.input.prompts, ("prompt_id", "prompt"))
thinking = ThinkingFormat(row["thinking_open"], row["boundary"])
settings = (thinking, params.generation, row["batch_size"], params.seed)
with hooked(model, edit, len(tokenizer(thinking.boundary, add_special_tokens=False)["input_ids"])):
    if hasattr(snakemake.input, "base"):
        base = read_table(snakemake.input.base, ("prompt_id", "sample", "thinking", "finish_reason"))
        traces = continue_traces(model, tokenizer, prompts, base, *settings, kept=edit.get("keep", 1.0))
    else:
        traces = generate_traces(model, tokenizer, prompts, *settings)
write_table(traces, snakemake.output.table, dict(params.items()))
