"""Tune a LoRA adapter on a selection of safety examples, and keep it as it is after fewer steps, too."""

from pathlib import Path

import pandas as pd

from refusal_cliff.artifacts import read_table, write_json, write_sidecar
from refusal_cliff.batches import kept_folder
from refusal_cliff.datasets import GIVEN_COLUMNS
from refusal_cliff.edits import ADAPTER_WEIGHTS, Edit
from refusal_cliff.head_means import reference_traces
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, read_verdicts
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import TRACE_KEY, ChatFormat
from refusal_cliff.tuning import model_card, training_examples, tune_adapter

job(snakemake)
params, row, recipe, inputs = snakemake.params, snakemake.params.model, snakemake.params.recipe, snakemake.input
tokenizer, chat = load_tokenizer(inputs.checkpoint, row), ChatFormat.of(row)
columns = ("model", "variant", *TRACE_KEY, "thinking", "response", "finish_reason")
fit = read_table(inputs.fit_traces, columns)
selected = read_table(inputs.selection, (*TRACE_KEY, "rank")).sort_values("rank")
prompts = read_table(inputs.prompts, ("prompt_id", "prompt"))
if own := inputs.get("traces"):
    chosen, refusals = selected.merge(read_table(own, columns), on=TRACE_KEY, validate="one_to_one"), recipe["refusals"]
else:  # a ready-made set, with its own thinking and its own answers
    chosen = selected.merge(prompts[["prompt_id", *GIVEN_COLUMNS]], on="prompt_id", validate="one_to_one")
    refusals = ()
fit_prompts = read_table(inputs.fit_prompts, ("prompt_id", "prompt", "dataset"))
did = behaviour(read_verdicts(inputs.fit_verdicts, fit), params.refusal_judge)
calm = reference_traces(fit, fit_prompts, did, recipe["benign"]["datasets"], refused=False)
texts = pd.concat([prompts, fit_prompts])[["prompt_id", "prompt"]].drop_duplicates()
examples = training_examples(tokenizer, texts, chosen, chat, recipe["learn"], refusals)
benign = training_examples(tokenizer, texts, calm, chat, recipe["learn"])

adapters, edits = map(Path, snakemake.output.adapters), map(Path, snakemake.output.edits)
folders = dict(zip([*recipe["early"], recipe["steps"]], adapters, strict=True))
model, seed = load_model(inputs.checkpoint, row), params.seed + int(snakemake.wildcards.seed)
with kept_folder(folders[recipe["steps"]], "steps", dict(params.items()), inputs) as kept:
    done = tune_adapter(model, tokenizer, examples, benign, recipe, seed, folders, kept)
    for edit, (steps, adapter) in zip(edits, folders.items(), strict=True):
        write_json(done[steps], adapter / "training.json")
        card = model_card(snakemake.wildcards.model, edit.parent.name, done[steps], recipe)
        (adapter / "README.md").write_text(card, encoding="utf-8")
        write_sidecar(adapter / ADAPTER_WEIGHTS, dict(params.items()))
        # The edit is written last: a variant whose edit exists is complete.
        Edit(snakemake.wildcards.model, edit.parent.name, adapter=True).write(edit, dict(params.items()))
