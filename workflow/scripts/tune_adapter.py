"""Tune a LoRA adapter on a selection of safety examples."""

from pathlib import Path

from refusal_cliff.artifacts import read_table, write_json, write_sidecar
from refusal_cliff.edits import ADAPTER_WEIGHTS, Edit
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import ChatFormat
from refusal_cliff.tuning import training_examples, tune_adapter

job(snakemake)
params, row = snakemake.params, snakemake.params.model
tokenizer = load_tokenizer(snakemake.input.checkpoint, row)
examples = training_examples(
    tokenizer,
    read_table(snakemake.input.prompts, ("prompt_id", "prompt")),
    read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking")),
    read_table(snakemake.input.selection, ("prompt_id", "sample", "rank")),
    ChatFormat.of(row),
    params.recipe["refusals"],
)
adapter = Path(snakemake.output.adapter)
result = tune_adapter(
    load_model(snakemake.input.checkpoint, row),
    tokenizer,
    examples,
    params.recipe,
    params.seed + int(snakemake.wildcards.seed),
    adapter,
)
write_json(result, adapter / "training.json")
write_sidecar(adapter / ADAPTER_WEIGHTS, dict(params.items()))
# The edit is written last: a variant whose edit exists is complete.
name = Path(snakemake.output.edit).parent.name
Edit(snakemake.wildcards.model, name, adapter=True).write(Path(snakemake.output.edit), dict(params.items()))
