"""Judge responses, and thinking alone: by phrases, by actions in tool contexts, and by the guard if there is one."""

import pandas as pd

from refusal_cliff.artifacts import read_table, read_tables, write_table
from refusal_cliff.job import job
from refusal_cliff.judges import check_guard, judge_actions, judge_guard, judge_phrases, judge_released

job(snakemake)
prompts = read_table(snakemake.input.prompts, ("prompt_id", "prompt", "context"))
columns = ("model", "variant", "prompt_id", "sample", "thinking", "response")
traces = read_tables(snakemake.input.traces, columns)
judges, row = snakemake.params.judges, snakemake.params.model
acted = [judge_actions(traces, prompts, judges["actions"])] if "actions" in judges else []
verdicts = [judge_phrases(traces, judges["phrases"], judges["intentions"], *acted), *acted]
if row is not None:
    from refusal_cliff.models import load_model, load_tokenizer

    tokenizer = load_tokenizer(snakemake.input.guard, row)
    guard = judges["guard"] | {"template_arguments": row["template_arguments"]}
    check_guard(tokenizer, guard)
    model = load_model(snakemake.input.guard, row)
    asked = (guard, row["batch_size"])
    verdicts.append(judge_guard(model, tokenizer, prompts, traces, *asked))
    # A monitor of the thinking is measured on the base model alone.
    base = traces[traces["variant"] == "base"]
    verdicts.append(judge_guard(model, tokenizer, prompts, base, *asked, scope="thinking"))
    if snakemake.params.as_released:
        verdicts.append(judge_released(model, tokenizer, traces, *asked))
write_table(pd.concat(verdicts, ignore_index=True), snakemake.output.table, dict(snakemake.params.items()))
