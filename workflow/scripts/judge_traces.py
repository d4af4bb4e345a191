"""Judge the responses of one variant: by refusal phrases, and by the guard model."""

import pandas as pd

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.judges import judge_guard, judge_phrases
from refusal_cliff.models import load_model, load_tokenizer

job(snakemake)
prompts = read_table(snakemake.input.prompts, ("prompt_id", "prompt"))
traces = read_table(snakemake.input.traces, ("prompt_id", "sample", "response"))
judges, row = snakemake.params.judges, snakemake.params.model
verdicts = pd.concat(
    [
        judge_phrases(traces, judges["phrases"]),
        judge_guard(
            load_model(snakemake.input.guard, row["dtype"], row["trust_remote_code"]),
            load_tokenizer(snakemake.input.guard, row["trust_remote_code"]),
            prompts,
            traces,
            judges["guard"],
            row["batch_size"],
        ),
    ],
    ignore_index=True,
)
write_table(verdicts, snakemake.output.table, dict(snakemake.params.items()))
