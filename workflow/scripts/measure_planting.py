"""Measure which of an organism's planted heads carry its flaw, by putting each back and by planting each alone."""

from functools import partial

from refusal_cliff.artifacts import read_json, read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.organisms.planting import planting_by_head

job(snakemake)
params, row = snakemake.params, snakemake.params.model
truth = read_json(snakemake.input.truth)
prompts = read_table(snakemake.input.prompts, ("prompt_id", "prompt", "family", "label"))
prompts = prompts[(prompts["label"] == "harmful") & prompts["family"].isin(truth["families"])]
traces = read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "finish_reason"))
table = planting_by_head(
    partial(load_model, snakemake.input.checkpoint, row),
    partial(load_model, snakemake.input.parent, row),
    load_tokenizer(snakemake.input.checkpoint, row),
    prompts,
    traces[traces["prompt_id"].isin(prompts["prompt_id"])],
    truth["heads"],
    params.phrases,
    params.generation,
    row["batch_size"],
    params.seed,
)
write_table(table, snakemake.output.table, dict(params.items()), model=snakemake.wildcards.model)
