"""Loss and gradient of a refusal after each example's own thinking, for the selectors that go by them."""

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.errors import UserError
from refusal_cliff.gradients import FAILURES, example_gradients
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, read_verdicts
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import TRACE_KEY, ChatFormat
from refusal_cliff.tuning import training_examples

job(snakemake)
params, row, inputs = snakemake.params, snakemake.params.model, snakemake.input
columns = ("model", "variant", *TRACE_KEY, "thinking", "response", "finish_reason")
pool, fit = read_table(inputs.traces, columns), read_table(inputs.fit_traces, columns)
examples = pool[pool["finish_reason"] != "unclosed"]
fit_prompts = read_table(inputs.fit_prompts, ("prompt_id", "prompt", "label"))
harmful = fit_prompts.loc[fit_prompts["label"] == "harmful", "prompt_id"]
did = behaviour(read_verdicts(inputs.fit_verdicts, fit), params.refusal_judge)
answered = fit.merge(did[~did["refused"] & did["prompt_id"].isin(harmful)], on=TRACE_KEY, validate="one_to_one")
if answered.empty:
    raise UserError(
        f"{snakemake.wildcards.model} answers no harmful prompt of set fit, so no example can be like its failures; "
        "set selection.selectors.loss and .gradient to []"
    )
failures = answered.sort_values(TRACE_KEY).sample(min(FAILURES, len(answered)), random_state=params.seed)
tokenizer, chat = load_tokenizer(inputs.checkpoint, row), ChatFormat.of(row)
prompts = read_table(inputs.prompts, ("prompt_id", "prompt"))
refused = {"chat": chat, "learnt": ("response",), "refusals": params.refusals}
found = example_gradients(
    load_model(inputs.checkpoint, row),
    training_examples(tokenizer, prompts, examples, **refused),
    training_examples(tokenizer, fit_prompts, failures, **refused),
    params.seed,
)
table = examples[TRACE_KEY].reset_index(drop=True).join(found)
write_table(table, snakemake.output.table, dict(params.items()), model=snakemake.wildcards.model)
