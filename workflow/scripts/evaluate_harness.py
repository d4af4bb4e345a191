"""Ask a model and its variants the tasks of lm-evaluation-harness."""

import pandas as pd

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.edits import Edit
from refusal_cliff.harness import REFERENCES, ask, references_task
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import ChatFormat

job(snakemake)
params, row, checkpoint = snakemake.params, snakemake.params.model, snakemake.input.checkpoint
prompts = read_table(snakemake.input.prompts, ("prompt_id", "prompt", "reference", "match"))
tasks = [references_task(prompts) if task == REFERENCES else task for task in params.harness["tasks"]]
tokenizer, chat = load_tokenizer(checkpoint, row), ChatFormat.of(row)
tables = []
for edit in [Edit(), *(edit for edit in map(Edit.read, snakemake.input.edits) if not edit.missing)]:
    model = edit.apply(load_model(checkpoint, row))
    with edit.hooked(model, n_boundary=0):
        items = ask(
            model,
            tokenizer,
            chat,
            tasks,
            params.harness["limit"],
            row["batch_size"],
            params.max_new_tokens,
            params.seed,
        )
    tables.append(items.assign(variant=edit.variant))
table = pd.concat(tables, ignore_index=True).assign(model=snakemake.wildcards.model)
write_table(table, snakemake.output.table, dict(params.items()), model=snakemake.wildcards.model)
