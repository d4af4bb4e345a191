"""Judge the responses of one variant, and its thinking alone: by phrases, and by the guard model."""

import pandas as pd

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.judges import judge_guard, judge_phrases, judge_released
from refusal_cliff.models import load_model, load_tokenizer

job(snakemake)
prompts = read_table(snakemake.input.prompts, ("prompt_id", "prompt"))
traces = read_table(snakemake.input.traces, ("prompt_id", "sample", "thinking", "response"))
judges, row = snakemake.params.judges, snakemake.params.model
model = load_model(snakemake.input.guard, row["dtype"], row["trust_remote_code"])
tokenizer = load_tokenizer(snakemake.input.guard, row["trust_remote_code"])
verdicts = [judge_phrases(traces, judges["phrases"], judges["intentions"])]
verdicts += [
    judge_guard(model, tokenizer, prompts, traces, judges["guard"], row["batch_size"], scope)
    for scope in snakemake.params.guard_scopes
]
if snakemake.params.as_released:
    verdicts.append(judge_released(model, tokenizer, traces, judges["guard"], row["batch_size"]))
write_table(pd.concat(verdicts, ignore_index=True), snakemake.output.table, dict(snakemake.params.items()))
