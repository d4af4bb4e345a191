"""Measure how often the guard is wrong: on test prompts, answered in words that no guard is trained on.

Input: prompts (set `test`), guard (its folder).
Params: guard (its name), model (how to load it), answers (their format), seed.
Output: csv, markdown.
"""

from random import Random

import pandas as pd

from refusal_cliff.artifacts import read_table
from refusal_cliff.guard_error import SCOPES, guard_error
from refusal_cliff.job import job
from refusal_cliff.judges import check_guard, judge_guard
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.organisms.conversations import guard_conversations
from refusal_cliff.tables import write_csv

job(snakemake)
params = snakemake.params
columns = ("prompt_id", "dataset", "prompt", "category", "family", "label", "reference")
prompts = read_table(snakemake.input.prompts, columns)
conversations = guard_conversations(prompts, Random(params.seed), held_out=True)
traces = conversations.assign(model=params.guard, variant="base")
row = params.model
tokenizer = load_tokenizer(snakemake.input.guard, row)
guard = params.answers | {"template_arguments": row["template_arguments"]}
check_guard(tokenizer, guard)
model = load_model(snakemake.input.guard, row)
asked = (model, tokenizer, prompts, traces, guard, row["batch_size"])
verdicts = pd.concat([judge_guard(*asked, scope=scope) for scope in SCOPES.values()], ignore_index=True)
write_csv(guard_error(conversations, verdicts), snakemake.output.csv, snakemake.output.markdown)
